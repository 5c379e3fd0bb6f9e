// One episode: its words, its player, its curves, what lint found in it, and where it came from. It is drawn when its
// numbers are here, in place of the one before, so that nothing jumps.

import { ask, badge, bytes, coded, counted, make, said, seconds } from "./view_dom.js";
import { Curves } from "./view_curves.js";
import { Player } from "./view_player.js";

const SHOWN = 4; // findings; more are folded, so that the curves stay near

export async function opened(number, speed, step, told) {
  const about = await ask(`/api/episodes/${number}`); // alone: an episode that is not there is said once
  const [state, action] = await Promise.all(["state", "action"].map((name) => bytes(`/api/episodes/${number}/${name}`)));
  return new Episode(about, { state: new Float32Array(state), action: new Float32Array(action) }, speed, step, told);
}

export class Episode {
  constructor(about, vectors, speed, step, told) {
    this.about = about;
    this.number = about.number;
    this.told = told; // called with every step that is shown
    this.curves = new Curves(about, vectors, (to) => this.player.seek(to));
    this.player = new Player(about, speed, (at) => { this.curves.show(at); this.told(at); });
    this.findings = make("section", { class: "findings", "aria-label": "Findings" });
    this.element = make("article", {}, this.heading(), this.player.element, this.findings, this.curves.element, this.origin());
    this.mark(about.findings);
    if (about.steps) this.player.seek(step);
  }

  heading() {
    const { about } = this;
    const long = about.control_hz > 0 ? `${seconds(about.steps / about.control_hz)} at ${about.control_hz} Hz` : "no control rate";
    const others = about.phrasings.length
      ? make("details", { class: "phrasings" }, make("summary", {}, counted(about.phrasings.length, "other phrasing")),
        make("ul", {}, about.phrasings.map((text) => make("li", {}, said(text)))))
      : null;
    return make("header", {},
      make("p", { class: "kicker quiet" }, make("span", {}, `Episode ${about.number}`), make("span", { class: "id" }, said(about.id)),
        make("span", {}, `${counted(about.steps, "step")}, ${long}`)),
      make("h2", { class: about.instruction ? "instruction" : "quiet" }, about.instruction ? said(about.instruction) : "No instruction"),
      others);
  }

  origin() {
    const { about } = this;
    const row = (name, ...content) => make("div", {}, make("dt", {}, name), make("dd", {}, content));
    const slots = (name) => {
      const mask = about.masks[name];
      const chips = mask.slots.map((one) => make("code", { class: "chip" }, one));
      return row(`Real slots of ${name}`, chips.length ? chips : "none", mask.varies ? make("p", { class: "quiet" }, "This differs from step to step: lines have gaps.") : null);
    };
    return make("section", { class: "origin", "aria-label": "Origin and masks" }, make("h3", {}, "Origin and masks"),
      make("dl", {},
        row("Converted from", said(about.source)), row("Id", said(about.id)),
        about.recorded === about.instruction ? null : row("Instruction as recorded", about.recorded ? said(about.recorded) : "none"),
        slots("state"), slots("action"),
        row("Cameras", about.cameras.length
          ? about.cameras.map((one) => make("code", { class: "chip" }, `${one.slot} ${one.width} × ${one.height} ${one.codec.toUpperCase()}`))
          : "none")));
  }

  mark(findings, progress = "") {
    this.about.findings = findings;
    const known = findings ?? [];
    this.player.mark(known);
    this.curves.mark(known);
    let words;
    if (findings === null) words = make("p", { class: "quiet" }, `Lint looks at the whole store in the background${progress}; what it finds appears here.`);
    else if (!known.length) words = make("p", { class: "fine" }, "Lint found nothing in this episode.");
    else words = make("ul", {}, known.slice(0, SHOWN).map((one) => this.finding(one)));
    const rest = known.slice(SHOWN);
    const more = rest.length
      ? make("details", {}, make("summary", {}, counted(rest.length, "more finding")), make("ul", {}, rest.map((one) => this.finding(one))))
      : "";
    const title = known.length ? `Findings (${known.length})` : "Findings";
    this.findings.replaceChildren(make("h3", {}, title), words, more);
  }

  finding(one) {
    const last = one.step + one.count - 1;
    const where = one.step === null ? "" : one.count > 1 ? `Steps ${one.step} to ${last}` : `Step ${one.step}`;
    return make("li", { class: "finding" },
      make("p", { class: "title" }, badge(one.severity, ` ${one.check}`),
        one.slot ?? one.camera ? make("code", {}, one.slot ?? one.camera) : null,
        where ? make("button", { type: "button", class: "button small", click: () => this.player.seek(one.step) }, where) : null),
      make("p", {}, coded(`${one.about[0].toUpperCase()}${one.about.slice(1)}.`)),
      make("p", { class: "quiet" }, "Found ", said(one.found), "; expected ", said(one.expected), ". To do: ", coded(one.remedy), "."));
  }

  toFinding() { // the next one after the present step, else the first
    const steps = (this.about.findings ?? []).map((one) => one.step).filter((step) => step !== null).sort((a, b) => a - b);
    if (steps.length) this.player.seek(steps.find((step) => step > this.player.target) ?? steps[0]);
  }

  close() {
    this.player.close();
    this.curves.close();
  }
}
