// What every part of the page uses: make elements, ask the server, say numbers. Text is always text, never markup.

export function make(name, attributes = {}, ...content) {
  const node = name === "svg" || name === "path" || name === "rect"
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...content.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

export const said = (text) => make("bdi", {}, text); // text of a dataset: its writing direction stays its own

export function coded(text) { // `code` in words of our own
  return text.split("`").map((piece, at) => (at % 2 ? make("code", {}, piece) : piece));
}

export async function ask(path) {
  return (await answered(path)).json();
}

export async function bytes(path) {
  return (await answered(path)).arrayBuffer();
}

async function answered(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error("The server does not answer. Is rdt-data view still running?");
  }
  if (answer.ok) return answer;
  const told = await answer.json();
  throw new Error(`${told.error} (fix: ${told.fix})`);
}

export const whole = (value) => value.toLocaleString("en");
export const counted = (count, one, more) => `${whole(count)} ${count === 1 ? one : more ?? `${one}s`}`;
export const seconds = (value) => `${value.toFixed(value < 100 ? 2 : 1)} s`;

export function short(value) {
  if (Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : value.toPrecision(4);
}

export const signs = { error: "✕", warning: "▲", info: "i" };

export function badge(severity, words) {
  return make("span", { class: `badge ${severity}` }, make("i", { "aria-hidden": "true" }, signs[severity]), words);
}
