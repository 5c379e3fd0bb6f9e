"use strict";
// What the page can do beyond reading: theme, contents, sorting, values under the pointer, everything open in print.
const root = document.documentElement;
root.classList.add("scripted");

const theme = document.getElementById("theme");
const themes = { "": "as the system", light: "light", dark: "dark" };
const remembered = (value) => {
  try {
    if (value === undefined) return localStorage.getItem("rdt-report-theme") || "";
    localStorage.setItem("rdt-report-theme", value);
  } catch { /* a page opened from a file may have no storage */ }
  return value || "";
};
const show = (name) => {
  if (name) root.dataset.theme = name; else delete root.dataset.theme;
  theme.textContent = `Theme: ${themes[name]}`;
};
let chosen = remembered() in themes ? remembered() : "";
show(chosen);
theme.hidden = false;
theme.addEventListener("click", () => {
  const names = Object.keys(themes);
  chosen = names[(names.indexOf(chosen) + 1) % names.length];
  remembered(chosen);
  show(chosen);
});

const contents = document.getElementById("contents");
const narrow = matchMedia("(max-width: 62rem)");
const fold = () => { contents.open = !narrow.matches; };
fold();
narrow.addEventListener("change", fold);
contents.addEventListener("click", (event) => { if (narrow.matches && event.target.closest("a")) contents.open = false; });
contents.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && narrow.matches) { contents.open = false; contents.querySelector("summary").focus(); }
});

const links = new Map([...contents.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
const headings = [...links.keys()].map((id) => document.getElementById(id));
const mark = () => {
  let current = headings[0];
  for (const heading of headings) if (heading.getBoundingClientRect().top < 120) current = heading;
  for (const [id, link] of links) {
    if (id === current.id) link.setAttribute("aria-current", "location"); else link.removeAttribute("aria-current");
  }
};
let waiting = false;
addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; mark(); });
}, { passive: true });
mark();

const value = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
};
const compared = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => compared(value(a, column), value(b, column)) * (up ? 1 : -1));
      body.append(...rows);
    });
  });
}

const pointsOf = (path) => [...path.getAttribute("d").matchAll(/(\d+) (-?\d+)/g)].map((m) => [Number(m[1]), Number(m[2])]);
document.addEventListener("pointermove", (event) => {
  const drawing = event.target.closest ? event.target.closest("svg.trace") : null;
  for (const cursor of document.querySelectorAll(".cursor")) {
    if (!drawing || cursor.parentNode !== drawing) {
      cursor.closest(".panel").querySelector(".reading").textContent = "";
      cursor.remove();
    }
  }
  if (!drawing) return;
  const panel = drawing.closest(".panel");
  const { low, high, seconds } = panel.dataset;
  const box = drawing.getBoundingClientRect();
  const at = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * 1000;
  const read = (name) => {
    const points = pointsOf(drawing.querySelector(`path.${name}`));
    if (!points.length) return null;
    const nearest = points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    return Number(low) + ((288 - nearest[1]) / 276) * (high - low);
  };
  let cursor = drawing.querySelector(".cursor");
  if (!cursor) {
    cursor = document.createElementNS("http://www.w3.org/2000/svg", "path");
    cursor.setAttribute("class", "cursor");
    drawing.append(cursor);
  }
  cursor.setAttribute("d", `M${at} 0V300`);
  const said = ["state", "action"].map(read).map((x) => (x === null ? "–" : x.toPrecision(3)));
  panel.querySelector(".reading").textContent = `${((at / 1000) * seconds).toFixed(2)} s: ${said.join(" / ")}`;
});

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("main details:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
