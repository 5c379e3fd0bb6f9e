// The list of episodes: searched on the server, drawn only where it is in sight, so that a million rows are as quick
// as ten. Every row has the same height; what is not loaded yet has its place already.

import { ask, badge, counted, make, said, seconds, whole } from "./view_dom.js";

const HIGH = 62; // px of a row, as in view.css
const BEYOND = 6; // rows drawn above and below what is in sight
const MOST = 400000; // rows: browsers draw nothing below about 33 million pixels

export class List {
  constructor(size, chosen) {
    this.size = size; // rows of one answer
    this.chosen = chosen; // called with the number of the episode that is shown, or null
    this.box = document.getElementById("list");
    this.rows = document.getElementById("rows");
    this.search = document.getElementById("search");
    this.only = document.getElementById("only");
    this.count = document.getElementById("count");
    this.current = null;
    this.asked = 0; // how many searches there were: answers to older ones are dropped
    this.pages = new Map();
    this.total = 0;
    this.box.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.box);
    let waiting;
    this.search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.refresh(), 120);
    });
    this.search.addEventListener("keydown", (event) => this.fromSearch(event));
    this.only.addEventListener("change", () => this.refresh());
  }

  async refresh(keep = false) { // keep: the rows are the same, what is told of them has changed
    const asked = ++this.asked;
    const pages = new Map();
    try {
      const first = await this.load(0);
      if (asked !== this.asked) return;
      pages.set(0, first.rows);
      this.pages = pages;
      this.total = first.total;
      this.say();
      if (!keep) this.box.scrollTop = 0;
      this.rows.replaceChildren();
      this.draw();
    } catch (error) {
      if (asked === this.asked) this.count.textContent = error.message;
    }
  }

  load(page) {
    const query = new URLSearchParams({
      q: this.search.value, findings: this.only.checked ? "1" : "0", offset: page * this.size, limit: this.size,
    });
    return ask(`/api/episodes?${query}`);
  }

  say() {
    const words = this.total === 0 ? "nothing fits" : counted(this.total, "episode");
    this.count.textContent = this.total > MOST ? `${words}; the first ${whole(MOST)} are listed` : words;
    this.rows.style.height = `${Math.min(this.total, MOST) * HIGH}px`;
  }

  async page(number) {
    if (!this.pages.has(number)) {
      const asked = this.asked;
      this.pages.set(number, null); // it is on its way
      try {
        const found = await this.load(number);
        if (asked !== this.asked) return;
        this.pages.set(number, found.rows);
        this.draw();
      } catch (error) {
        this.pages.delete(number);
        this.count.textContent = error.message;
      }
    }
  }

  row(at) {
    return this.pages.get(Math.floor(at / this.size))?.[at % this.size];
  }

  draw() {
    const shown = Math.min(this.total, MOST);
    const first = Math.max(0, Math.floor(this.box.scrollTop / HIGH) - BEYOND);
    const last = Math.min(shown, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HIGH) + BEYOND);
    const there = new Map([...this.rows.children].map((node) => [Number(node.dataset.at), node]));
    for (const [at, node] of there) if (at < first || at >= last) node.remove();
    for (let at = first; at < last; at++) {
      const one = this.row(at);
      const old = there.get(at);
      if (old && (old.dataset.number !== undefined || !one)) continue;
      const node = one ? this.item(one, at) : make("li", { class: "row", "data-at": at });
      node.style.top = `${at * HIGH}px`;
      if (old) old.replaceWith(node);
      else this.place(node, at);
      if (!one) this.page(Math.floor(at / this.size));
    }
  }

  place(node, at) { // in the order of the list, as the Tab key goes
    const after = [...this.rows.children].find((other) => Number(other.dataset.at) > at);
    this.rows.insertBefore(node, after ?? null);
  }

  item(one, at) {
    const found = one.findings ? badge(one.worst, ` ${whole(one.findings)}`) : null;
    if (found) found.title = `${counted(one.findings, "finding")}, the worst: ${one.worst}`;
    const words = one.instruction ? said(one.instruction) : make("span", { class: "quiet" }, "No instruction");
    const link = make("a", { href: `#/episodes/${one.number}`, "aria-current": one.number === this.current && "true" },
      make("span", { class: "words" }, words),
      make("span", { class: "about" },
        make("span", { class: "number" }, `#${one.number}`), make("span", { class: "id" }, said(one.id)),
        found, make("span", { class: "long" }, one.seconds ? seconds(one.seconds) : counted(one.steps, "step"))));
    return make("li", {
      class: "row", "data-at": at, "data-number": one.number, "aria-setsize": this.total, "aria-posinset": at + 1,
    }, link);
  }

  mark(number) {
    this.current = number;
    if (this.where(number) >= 0) this.reveal(this.where(number));
    for (const node of this.rows.children) {
      const link = node.querySelector("a");
      if (link && Number(node.dataset.number) === number) link.setAttribute("aria-current", "true");
      else link?.removeAttribute("aria-current");
    }
  }

  where(number) { // the place of an episode in the list; -1 where it is not among the loaded rows
    if (!this.search.value.trim() && !this.only.checked) return number < this.total ? number : -1;
    for (const [page, rows] of this.pages) {
      const at = rows ? rows.findIndex((row) => row.number === number) : -1;
      if (at >= 0) return page * this.size + at;
    }
    return -1;
  }

  async step(by) { // to a neighbour in the list; from an episode that is not in it: to the first
    const here = this.where(this.current);
    const at = here < 0 ? 0 : here + by;
    if (at < 0 || at >= this.total) return;
    await this.page(Math.floor(at / this.size));
    const one = this.row(at);
    if (one) {
      this.reveal(at);
      this.chosen(one.number);
    }
  }

  reveal(at) {
    const top = at * HIGH;
    if (top < this.box.scrollTop) this.box.scrollTop = top;
    if (top + HIGH > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + HIGH - this.box.clientHeight;
    this.draw();
  }

  fromSearch(event) {
    if (event.key === "Escape") {
      this.search.value = "";
      this.search.blur();
      this.refresh();
    } else if (event.key === "Enter" && this.row(0)) {
      this.search.blur();
      this.chosen(this.row(0).number);
    }
  }
}
