// Puts the page together: which episode the address names, the keyboard, the theme, and how far lint is.

import { ask, badge, counted, make, said, whole } from "./view_dom.js";
import { opened } from "./view_episode.js";
import { List } from "./view_list.js";

const at = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 60rem)");
let list;
let store;
let episode = null;
let wanted = null; // the number of the episode that is to be shown
let progress = "";
let linted = false;

const themes = { "": "auto", light: "light", dark: "dark" };
function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  at("theme").textContent = `Theme: ${themes[name]}`;
}
let chosen = localStorage.getItem("rdt-view-theme") ?? "";
theme(chosen in themes ? chosen : "");
at("theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  chosen = names[(names.indexOf(chosen) + 1) % names.length];
  localStorage.setItem("rdt-view-theme", chosen);
  theme(chosen);
});

const go = (number) => { location.hash = `#/episodes/${number}`; };

async function route() {
  const found = /^#\/episodes\/(\d{1,12})(?:\/(\d{1,9}))?$/.exec(location.hash);
  document.body.dataset.pane = found ? "episode" : "list";
  if (!found) {
    episode?.player.pause();
    if (!narrow.matches && store.episodes) history.replaceState(null, "", "#/episodes/0");
    if (narrow.matches || !store.episodes) return;
    return route();
  }
  const number = Number(found[1]);
  if (episode?.number === number && wanted === number) {
    if (found[2] !== undefined) episode.player.seek(Number(found[2]));
    return;
  }
  await open(number, Number(found[2] ?? 0));
}

async function open(number, step) {
  wanted = number;
  list.mark(number);
  episode?.player.pause();
  let next;
  try {
    next = await opened(number, episode?.player.speed ?? 1, step, remember);
  } catch (error) {
    if (wanted !== number) return;
    episode?.close();
    episode = null;
    at("episode").replaceChildren(make("p", { class: "failure", role: "alert" }, error.message));
    return;
  }
  if (wanted !== number) { next.close(); return; }
  episode?.close();
  episode = next;
  if (next.about.findings === null) {
    next.mark(null, progress);
    if (linted) told(); // lint has finished since the episode was asked for
  }
  at("episode").replaceChildren(next.element);
  document.title = `${number}: ${next.about.instruction || next.about.id} · ${store.name}`;
  if (narrow.matches) scrollTo(0, 0);
}

let remembering;
function remember(step) { // the address names the step once it stays
  clearTimeout(remembering);
  remembering = setTimeout(() => {
    if (episode && !episode.player.playing) history.replaceState(null, "", `#/episodes/${episode.number}/${step}`);
  }, 400);
}

const keys = {
  " ": () => episode?.player.toggle(),
  ArrowLeft: (event) => episode?.player.move(event.shiftKey ? -Math.round(episode.player.rate) : -1),
  ArrowRight: (event) => episode?.player.move(event.shiftKey ? Math.round(episode.player.rate) : 1),
  Home: () => episode?.player.seek(0),
  End: () => episode?.player.seek(episode.about.steps - 1),
  "-": () => episode?.player.faster(-1),
  "+": () => episode?.player.faster(1),
  "=": () => episode?.player.faster(1), // + without Shift
  n: () => list.step(1),
  p: () => list.step(-1),
  x: () => episode?.toFinding(),
  f: () => at("only").click(),
  "/": () => { if (narrow.matches) location.hash = "#/"; at("search").focus(); at("search").select(); },
  "?": () => at("keys").showModal(),
};

addEventListener("keydown", (event) => {
  const { target } = event;
  const act = keys[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || at("keys").open) return;
  if (target.matches("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
  if (event.key === " " && target.matches("button, a, summary, [type=checkbox]")) return;
  event.preventDefault();
  act(event);
});
at("help").addEventListener("click", keys["?"]);
at("next").addEventListener("click", keys.n);
at("previous").addEventListener("click", keys.p);

const LONG = { error: ["error", "errors"], warning: ["warning", "warnings"], info: ["info", "info"] };

async function watchLint() {
  for (;;) {
    const found = await ask("/api/lint");
    const says = at("lint-says");
    if (found.state === "running") {
      progress = found.total ? ` (${Math.round((100 * found.done) / found.total)} %)` : "";
      says.textContent = `Lint runs in the background${progress}`;
      if (episode?.about.findings === null) episode.mark(null, progress);
      await new Promise((done) => setTimeout(done, 500));
      continue;
    }
    if (found.state === "failed") {
      says.textContent = "Lint failed";
      at("lint-more").replaceChildren(make("p", {}, said(found.error)), make("p", { class: "quiet" }, said(found.fix)));
      return;
    }
    await lintDone(found, says);
    return;
  }
}

async function lintDone(found, says) {
  const kinds = Object.entries(found.counts).filter(([, count]) => count);
  says.replaceChildren("Lint: ", ...(kinds.length ? kinds.map(([kind, count]) => badge(kind, ` ${counted(count, ...LONG[kind])} `)) : ["nothing found"]));
  at("lint-more").replaceChildren(
    make("p", { class: "quiet" }, `${found.checks} checks of all vectors and words; findings in ${counted(found.episodes, "episode")}. ${found.sample[0].toUpperCase()}${found.sample.slice(1)}.`),
    ...found.store.map((one) => make("p", {}, badge(one.severity, ` ${one.check}`), " of the whole store", one.slot ? [", ", make("code", {}, one.slot)] : "",
      ": found ", said(one.found), "; expected ", said(one.expected), ".")));
  at("only").disabled = false;
  if (found.episodes) await list.refresh(true);
  linted = true;
  await told();
}

async function told() { // what lint found in the episode that is shown
  const shown = episode;
  if (shown) shown.mark((await ask(`/api/episodes/${shown.number}`)).findings);
}

async function start() {
  store = await ask("/api/store");
  at("store").replaceChildren(said(store.title));
  at("store").title = store.url;
  document.title = `${store.name} · rdt-data view`;
  const unfinished = store.complete ? "" : " · not finished: only whole parts are shown";
  at("facts").textContent = `${counted(store.episodes, "episode")} · ${whole(store.steps)} steps · ${store.control_hz} Hz${unfinished}`;
  list = new List(store.rows, go);
  await list.refresh();
  addEventListener("hashchange", route);
  narrow.addEventListener("change", route);
  if (!store.episodes) at("episode").replaceChildren(make("p", { class: "quiet waiting" }, "This store has no episodes."));
  await route();
  await watchLint();
}

start().catch((error) => at("episode").replaceChildren(make("p", { class: "failure", role: "alert" }, error.message)));
