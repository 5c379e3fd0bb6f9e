// State and action of every real slot over time: a panel each, grouped by part of the robot. One cursor goes through all
// of them; a click or a drag seeks. What lint found in a slot is shaded where it lies.

import { badge, make, short, signs } from "./view_dom.js";

const WIDE = 1000;
const TALL = 100;
const MARGIN = 5; // of TALL, so that a line at its extreme is seen
const MOST = 700; // points of a line; beyond, the lowest and highest of each stretch

const folded = new Set(); // titles of the groups that were closed: they stay closed in the next episode

export class Curves {
  constructor(episode, vectors, seek) {
    this.steps = episode.steps;
    this.width = episode.slots.length;
    this.vectors = vectors; // {state, action}: Float32Array, step after step
    this.panels = episode.groups.flatMap((group) => group.slots.map((slot) => new Panel(this, slot, seek)));
    const panels = [...this.panels];
    this.element = make("section", { class: "curves", "aria-label": "State and action" },
      make("div", { class: "heading" }, make("h3", {}, "State and action"),
        make("p", { class: "legend" },
          ["state", "action"].map((name) => make("span", {}, make("i", { class: `swatch ${name}`, "aria-hidden": "true" }), name)),
          make("span", { class: "quiet hint" }, "click a curve to seek"))),
      episode.groups.length ? null : make("p", { class: "quiet" }, "No slot of this episode is real."),
      episode.groups.map((group) => this.group(group, panels.splice(0, group.slots.length))));
  }

  group(group, panels) {
    const box = make("details", { open: !folded.has(group.title) },
      make("summary", {}, make("h4", {}, group.title), make("span", { class: "quiet" }, ` ${group.slots.length}`)),
      make("div", { class: "panels" }, panels.map((one) => one.element)));
    box.addEventListener("toggle", () => { if (box.open) folded.delete(group.title); else folded.add(group.title); });
    return box;
  }

  share(step) { // where a step lies, 0 … 1
    return this.steps > 1 ? step / (this.steps - 1) : 0.5;
  }

  show(step) {
    this.element.style.setProperty("--at", this.share(step));
    for (const one of this.panels) one.show(step);
  }

  mark(findings) {
    for (const one of this.panels) one.mark(findings.filter((found) => found.slots.includes(one.slot.slot)));
  }

  close() {
    for (const one of this.panels) one.close();
  }
}

class Panel {
  constructor(curves, slot, seek) {
    this.curves = curves;
    this.slot = slot;
    this.lines = {};
    this.readings = {};
    [this.low, this.high] = this.reach();
    this.shades = make("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "shades" });
    this.badges = make("span", { class: "badges" });
    const drawing = make("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", role: "img", "aria-label": this.label() },
      ["state", "action"].map((name) => make("path", { class: name, d: this.line(curves.vectors[name]) })));
    const plot = make("div", { class: "plot" }, this.shades, drawing, make("i", { class: "cursor", "aria-hidden": "true" }));
    const to = (event) => {
      const box = plot.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * (curves.steps - 1));
    };
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      plot.setPointerCapture(event.pointerId);
      to(event);
    });
    plot.addEventListener("pointermove", (event) => { if (plot.hasPointerCapture(event.pointerId)) to(event); });
    this.element = make("figure", { class: "panel", "data-slot": slot.name },
      make("figcaption", {}, make("code", { title: `slot ${slot.slot}` }, broken(slot.name)), this.badges, make("span", { class: "unit quiet" }, slot.unit)),
      make("p", { class: "readings" }, ["state", "action"].map((name) => (this.readings[name] = make("span", { class: name }, " ")))),
      plot,
      make("p", { class: "range quiet" }, make("span", {}, short(this.low)), make("span", {}, short(this.high))));
    // Panels far out of sight need no reading: a robot of two arms has sixty of them.
    this.near = true;
    this.watch = new IntersectionObserver(([entry]) => {
      this.near = entry.isIntersecting;
      if (this.near && this.step !== undefined) this.show(this.step);
    }, { rootMargin: "200px" });
    this.watch.observe(this.element);
  }

  value(values, step) {
    return values[step * this.curves.width + this.slot.column];
  }

  reach() {
    let low = Infinity;
    let high = -Infinity;
    for (const values of Object.values(this.curves.vectors)) {
      for (let step = 0; step < this.curves.steps; step++) {
        const one = this.value(values, step);
        if (!Number.isFinite(one)) continue;
        if (one < low) low = one;
        if (one > high) high = one;
      }
    }
    return low <= high ? [low, high] : [NaN, NaN];
  }

  label() {
    return `${this.slot.name} ${this.slot.unit}, state and action, from ${short(this.low)} to ${short(this.high)}`;
  }

  line(values) { // gaps where the slot is not real, or not finite
    const { steps } = this.curves;
    const flat = !(this.high - this.low > 1e-9 * Math.max(Math.abs(this.high), Math.abs(this.low)));
    const x = (step) => (this.curves.share(step) * WIDE).toFixed(1);
    const y = (one) => (flat ? TALL / 2 : MARGIN + (1 - (one - this.low) / (this.high - this.low)) * (TALL - 2 * MARGIN)).toFixed(2);
    let path = "";
    let joined = false;
    for (const step of this.drawn(values)) {
      const one = this.value(values, step);
      if (!Number.isFinite(one)) { joined = false; continue; }
      const alone = !joined && !(step + 1 < steps && Number.isFinite(this.value(values, step + 1)));
      path += `${joined ? "L" : "M"}${x(step)} ${y(one)}${alone ? "h0" : ""}`;
      joined = true;
    }
    return path;
  }

  *drawn(values) {
    const { steps } = this.curves;
    if (steps <= MOST) { for (let step = 0; step < steps; step++) yield step; return; }
    const stretch = steps / (MOST / 2);
    for (let start = 0; start < steps; start += stretch) {
      const [first, stop] = [Math.ceil(start), Math.min(Math.ceil(start + stretch), steps)];
      let [least, most, hole] = [first, first, -1];
      for (let step = first; step < stop; step++) {
        const one = this.value(values, step);
        if (!Number.isFinite(one)) { hole = step; continue; }
        if (!(one >= this.value(values, least))) least = step;
        if (!(one <= this.value(values, most))) most = step;
      }
      yield* [...new Set(hole < 0 ? [least, most] : [least, most, hole])].sort((a, b) => a - b);
    }
    yield steps - 1;
  }

  show(step) {
    this.step = step;
    if (!this.near) return;
    for (const [name, node] of Object.entries(this.readings)) node.textContent = short(this.value(this.curves.vectors[name], step));
  }

  mark(findings) {
    const worst = Object.keys(signs).find((severity) => findings.some((one) => one.severity === severity));
    this.element.classList.toggle("found", findings.length > 0);
    const told = worst ? badge(worst, "") : null;
    if (told) {
      told.title = findings.map((one) => one.check).join(", ");
      told.append(make("span", { class: "unseen" }, told.title));
    }
    this.badges.replaceChildren(...(told ? [told] : []));
    this.shades.replaceChildren(...findings.map((one) => {
      const [from, to] = one.step === null ? [0, WIDE] : [one.step, one.step + one.count - 1].map((step) => this.curves.share(step) * WIDE);
      return make("rect", { class: `${one.severity}${one.step === null ? " whole" : ""}`, x: Math.max(from - 2, 0), width: to - from + 4, y: 0, height: TALL });
    }));
  }

  close() {
    this.watch.disconnect();
  }
}

function broken(name) { // it may be broken after its underscores
  return name.split("_").flatMap((word, at) => (at ? ["_", make("wbr"), word] : [word]));
}
