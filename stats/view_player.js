// Cameras in step. A step is shown when the frames of all cameras are decoded, and then at once: pictures, clock, slider
// and whoever listens (the curves) change in one go. Frames come as they are stored, some dozens a request; those that
// are needed next are decoded ahead. Where the store is slower than the clock, the clock waits.

import { bytes, make, seconds } from "./view_dom.js";

const RUN = 32; // frames of one request
const KEPT = 12; // requests a camera that stay in memory
const AHEAD = 6; // pictures decoded ahead
export const SPEEDS = [0.25, 0.5, 1, 2, 4];

class Camera {
  constructor(number, about, steps) {
    Object.assign(this, about);
    this.path = `/api/episodes/${number}/frames/${this.slot}`;
    this.steps = steps;
    this.runs = new Map();
    this.pictures = new Map();
    this.canvas = make("canvas", { width: this.width, height: this.height, role: "img", "aria-label": `Camera ${this.slot}` });
    this.problem = make("p", { class: "problem", hidden: true });
    this.element = make("figure", { class: "camera", "data-camera": this.slot },
      make("div", { class: "screen" }, this.canvas, this.problem),
      make("figcaption", {}, make("code", {}, this.slot), make("span", { class: "quiet" }, `${this.width} × ${this.height}`)));
    this.element.style.setProperty("--aspect", this.width / this.height);
  }

  run(start) {
    let found = this.runs.get(start);
    if (!found) {
      const stop = Math.min(start + RUN, this.steps);
      found = bytes(`${this.path}?start=${start}&stop=${stop}`).then(unpacked);
      found.catch(() => {}); // whoever shows a frame of it says so
    }
    this.runs.delete(start);
    this.runs.set(start, found); // the last is the one used last
    for (const old of this.runs.keys()) if (this.runs.size > KEPT) this.runs.delete(old);
    return found;
  }

  picture(step) { // a promise of a bitmap, or of an Error
    let found = this.pictures.get(step);
    if (!found) {
      found = this.decoded(step);
      this.pictures.set(step, found);
    }
    return found;
  }

  async decoded(step) {
    const start = step - (step % RUN);
    try {
      const frames = await this.run(start);
      return await createImageBitmap(new Blob([frames[step - start]]), { colorSpaceConversion: "none" });
    } catch (error) {
      return error.name === "InvalidStateError" ? new Error("this frame cannot be decoded") : error;
    }
  }

  keep(first, last) {
    for (const [step, picture] of this.pictures) {
      if (step >= first && step <= last) continue;
      this.pictures.delete(step);
      picture.then((one) => { if (one.close) one.close(); });
    }
  }

  draw(step, picture) {
    const paper = this.canvas.getContext("2d", { willReadFrequently: this.swapped });
    this.problem.hidden = !(picture instanceof Error);
    if (picture instanceof Error) {
      paper.clearRect(0, 0, this.width, this.height);
      this.problem.textContent = `Step ${step}: ${picture.message}`;
    } else {
      paper.drawImage(picture, 0, 0, this.width, this.height);
      if (this.swapped) exchange(paper, this.width, this.height);
    }
    this.canvas.dataset.step = step;
  }
}

function unpacked(buffer) {
  const head = new DataView(buffer);
  const frames = [];
  let at = 4 * (1 + head.getUint32(0, true));
  for (let n = 1; n <= head.getUint32(0, true); n++) {
    const length = head.getUint32(4 * n, true);
    frames.push(new Uint8Array(buffer, at, length));
    at += length;
  }
  return frames;
}

function exchange(paper, width, height) { // red and blue, which the stored bytes hold exchanged
  const pixels = paper.getImageData(0, 0, width, height);
  const values = pixels.data;
  for (let at = 0; at < values.length; at += 4) {
    const red = values[at];
    values[at] = values[at + 2];
    values[at + 2] = red;
  }
  paper.putImageData(pixels, 0, 0);
}

export class Player {
  constructor(episode, speed, shown) {
    this.steps = episode.steps;
    this.rate = episode.control_hz > 0 ? episode.control_hz : 1;
    this.shown = shown; // called with a step when its pictures are drawn
    this.step = -1;
    this.target = 0;
    this.playing = false;
    this.busy = false;
    this.closed = false;
    this.speed = speed;
    this.cameras = episode.cameras.map((about) => new Camera(episode.number, about, episode.steps));
    this.element = this.build();
    this.hidden = () => { if (document.hidden) this.pause(); };
    document.addEventListener("visibilitychange", this.hidden);
  }

  build() {
    const button = (label, sign, keys, act) => make("button", {
      type: "button", class: "button", "aria-label": label, title: `${label} (${keys})`, click: act,
    }, sign);
    this.toggler = button("Play", "▶", "Space", () => this.toggle());
    this.toggler.classList.add("play");
    this.slider = make("input", {
      type: "range", min: 0, max: Math.max(this.steps - 1, 0), step: 1, value: 0, "aria-label": "Step",
      input: () => this.seek(Number(this.slider.value)),
    });
    this.marks = make("div", { class: "marks", "aria-hidden": "true" });
    this.clock = make("span", { class: "clock" });
    this.index = make("span", { class: "index quiet" });
    this.select = make("select", { "aria-label": "Speed", title: "Speed (− +)", change: () => this.setSpeed(Number(this.select.value)) },
      SPEEDS.map((one) => make("option", { value: one, selected: one === this.speed }, `${one}×`)));
    const transport = make("div", { class: "transport" },
      make("div", { class: "buttons" },
        button("Step back", "‹", "←", () => this.move(-1)), this.toggler, button("Step on", "›", "→", () => this.move(1))),
      make("div", { class: "track" }, this.slider, this.marks),
      make("div", { class: "told" }, this.clock, this.index), this.select);
    const none = this.cameras.length ? null : make("p", { class: "quiet" }, "This episode has no camera.");
    return make("section", { class: "player", "aria-label": "Player" },
      make("div", { class: "cameras", "data-count": this.cameras.length }, none, this.cameras.map((one) => one.element)), transport);
  }

  mark(findings) {
    const share = (step) => (this.steps > 1 ? step / (this.steps - 1) : 0);
    this.marks.replaceChildren(...findings.filter((one) => one.step !== null).map((one) => {
      const node = make("i", { class: one.severity });
      node.style.setProperty("--from", share(one.step));
      node.style.setProperty("--long", share(Math.max(one.count - 1, 0)));
      return node;
    }));
  }

  get stride() { // steps from one picture to the next: a screen shows about 60 a second
    return Math.max(1, Math.round((this.rate * this.speed) / 60));
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.steps < 2 || this.closed) return;
    if (this.target >= this.steps - 1) this.go(0);
    this.playing = true;
    this.say();
    this.rewind();
    requestAnimationFrame((now) => { this.rewind(now); this.tick(now); });
  }

  pause() {
    this.playing = false;
    this.say();
  }

  say() {
    const words = this.playing ? "Pause" : "Play";
    this.toggler.textContent = this.playing ? "❚❚" : "▶";
    this.toggler.setAttribute("aria-label", words);
    this.toggler.title = `${words} (Space)`;
  }

  rewind(now = performance.now()) { // the clock begins at the present step
    this.since = this.ticked = now;
    this.from = this.target;
  }

  tick(now) {
    if (!this.playing || this.closed) return;
    if (this.busy) {
      this.since += Math.max(now - this.ticked, 0);
    } else {
      const turns = Math.floor((Math.max(now - this.since, 0) / 1000) * ((this.rate * this.speed) / this.stride));
      const wanted = Math.min(this.from + turns * this.stride, this.steps - 1);
      if (wanted > this.step) this.go(wanted);
    }
    this.ticked = now;
    if (this.step === this.steps - 1 && this.target === this.step) this.pause();
    else requestAnimationFrame((next) => this.tick(next));
  }

  seek(step) {
    this.go(Math.min(Math.max(Math.round(step), 0), this.steps - 1));
    this.rewind();
  }

  move(by) {
    this.pause();
    this.seek(this.target + by);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.select.value = String(speed);
    this.rewind();
  }

  faster(by) {
    const at = Math.min(Math.max(SPEEDS.indexOf(this.speed) + by, 0), SPEEDS.length - 1);
    this.setSpeed(SPEEDS[at]);
  }

  async go(step) { // the latest target wins; those on the way are shown where there is time
    this.target = step;
    if (this.busy || this.closed) return;
    this.busy = true;
    while (this.step !== this.target && !this.closed) {
      const next = this.target;
      const pictures = await Promise.all(this.cameras.map((one) => one.picture(next)));
      if (!this.closed) this.draw(next, pictures);
    }
    this.busy = false;
  }

  draw(step, pictures) {
    this.step = step;
    this.cameras.forEach((one, position) => one.draw(step, pictures[position]));
    this.slider.value = step;
    this.slider.style.setProperty("--at", this.steps > 1 ? step / (this.steps - 1) : 0);
    const time = seconds(step / this.rate);
    this.clock.textContent = `${time} / ${seconds((this.steps - 1) / this.rate)}`;
    this.index.textContent = `step ${step} / ${this.steps - 1}`;
    this.slider.setAttribute("aria-valuetext", `step ${step}, ${time}`);
    this.shown(step);
    this.prepare(step);
  }

  prepare(step) {
    const last = Math.min(step + AHEAD * this.stride, this.steps - 1);
    for (const one of this.cameras) {
      one.keep(step - 2, last);
      for (let next = step + this.stride; next <= last; next += this.stride) one.picture(next);
      if (step > 0 && !this.playing) one.picture(step - 1);
      const run = step - (step % RUN) + RUN;
      if (run < this.steps) one.run(run);
    }
  }

  close() {
    this.closed = true;
    this.playing = false;
    document.removeEventListener("visibilitychange", this.hidden);
    for (const one of this.cameras) one.keep(1, 0);
  }
}
