// Elements made of texts. What the service or a peer has said becomes text nodes and attributes, never markup.

import { number, t } from "./language.js";

const SVG = "http://www.w3.org/2000/svg";

export const at = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

export function drawing(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Each kind of status has a form of its own, for those who do not see its colour. */
const FORMS = {
  ok: ["M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1Z", "M4.8 8.3 7 10.5l4.2-4.8"],
  warn: ["M8 .9 15.6 14.6H.4Z", "M8 5.6v4.2M8 12.1v.1"],
  bad: ["M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1Z", "m5.5 5.5 5 5m0-5-5 5"],
};
const OUTLINES = {
  off: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM5 8h6",
  wait: "M8 2a6 6 0 0 1 6 6M8 14a6 6 0 0 1-6-6",
  unknown: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM8 8v.1",
  info: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2ZM8 7.5v3.5M8 5v.1",
};

export function icon(kind) {
  const parts = FORMS[kind] === undefined
    ? [drawing("path", { d: OUTLINES[kind] ?? OUTLINES.unknown, class: "outline" })]
    : [drawing("path", { d: FORMS[kind][0], class: "form" }), drawing("path", { d: FORMS[kind][1], class: "mark" })];
  return drawing("svg", { viewBox: "0 0 16 16", class: `icon ${kind}`, "aria-hidden": "true" }, ...parts);
}

/** Texts up to so long are not broken; on a large screen, neither is an IPv4 address with its port. */
const SHORT = 12;
const LINE = 22;

/**
 * What a cell or a fact shows, from a text, a number, `null` or an object: `text`, and `kind` (a status), `note` (a
 * second line), `code` (an address, a path), `title`, `said` (the service's own words, which are English), or `list`
 * of such.
 */
export function content(spec) {
  if (spec === null || spec === undefined || spec === "") {
    return [element("span", { class: "none" }, "–")];
  }
  if (typeof spec !== "object") {
    return content({ text: String(spec) });
  }
  if (spec.list !== undefined) {
    return spec.list.length === 0
      ? content(null)
      : [element("ul", { class: "plain" }, ...spec.list.map((one) => element("li", {}, ...content(one))))];
  }
  const length = spec.text.length <= SHORT ? "short" : spec.text.length <= LINE ? "line" : null;
  const attributes = { class: length, title: spec.title, lang: spec.said ? "en" : null };
  const text = element(spec.code ? "code" : "span", attributes, spec.text);
  const line = spec.kind === undefined ? text : element("span", { class: `status ${spec.kind}` }, icon(spec.kind), text);
  const note = spec.note ? element("span", { class: "note", lang: spec.said ? "en" : null }, spec.note) : null;
  return [line, ...(note === null ? [] : [note])];
}

/** The words of it, to be searched. */
function plain(spec) {
  if (spec === null || typeof spec !== "object") {
    return String(spec ?? "");
  }
  return [spec.text, spec.note, ...(spec.list ?? []).map(plain)].join(" ");
}

/** Rebuilds `host` if what it shows has changed, so that what is marked or focused there stays. */
export function show(host, spec, build) {
  const signature = JSON.stringify(spec);
  if (shown.get(host) !== signature) {
    shown.set(host, signature);
    host.replaceChildren(...build());
  }
}

const shown = new WeakMap();

/** Fills a `dl`: rows of label and content. */
export function facts(host, rows) {
  const pairs = rows.filter((row) => row !== null);
  show(host, pairs, () => pairs.map(([label, spec]) =>
    element("div", {}, element("dt", {}, label), element("dd", {}, ...content(spec)))));
}

/** How many rows of a table are shown at once. */
const PAGE = 12;

/** A table with pages and, once there is more than one, a filter. Its rows are reused from one showing to the next. */
export class Table {
  /** `columns`: pairs of a text's key and what a row shows there. `empty`: the key of what to say without rows. */
  constructor(host, name, columns, empty) {
    Object.assign(this, { name, columns, empty, rows: [], page: 0, missing: null });
    this.head = element("tr", { role: "row" });
    this.body = element("tbody", { role: "rowgroup" });
    this.caption = element("caption", { class: "unseen" });
    this.table = element("table", { role: "table" }, this.caption,
      element("thead", { role: "rowgroup" }, this.head), this.body);
    this.nothing = element("p", { class: "empty" });
    this.filter = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    this.place = element("span", { role: "status" });
    this.before = element("button", { type: "button" }, "‹");
    this.after = element("button", { type: "button" }, "›");
    this.foot = element("p", { class: "pager" }, this.filter, this.place, this.before, this.after);
    this.filter.addEventListener("input", () => this.turn(-this.page));
    this.before.addEventListener("click", () => this.turn(-1));
    this.after.addEventListener("click", () => this.turn(1));
    host.replaceChildren(this.table, this.nothing, this.foot);
  }

  turn(by) {
    this.page += by;
    this.draw();
  }

  /** `missing` says why rows may be absent that are there. */
  update(rows, missing = null) {
    Object.assign(this, { rows, missing });
    this.draw();
  }

  draw() {
    const made = this.rows.map((row) => this.columns.map(([, cell]) => cell(row)));
    const wanted = this.filter.value.trim().toLowerCase();
    const found = made.filter((cells) => cells.map(plain).join(" ").toLowerCase().includes(wanted));
    this.page = Math.max(0, Math.min(this.page, Math.ceil(found.length / PAGE) - 1));
    const first = this.page * PAGE;
    const shown = found.slice(first, first + PAGE);
    this.drawHead();
    shown.forEach((cells, index) => this.drawRow(index, cells));
    while (this.body.rows.length > shown.length) {
      this.body.lastElementChild.remove();
    }
    this.table.hidden = shown.length === 0;
    this.nothing.hidden = shown.length !== 0;
    this.nothing.textContent = wanted !== "" ? t("table.not_found") : this.missing ?? t(this.empty);
    this.drawFoot(first, shown.length, found.length);
  }

  drawHead() {
    this.caption.textContent = t(this.name);
    this.columns.forEach(([key], index) => {
      const cell = this.head.cells[index]
        ?? this.head.appendChild(element("th", { scope: "col", role: "columnheader" }));
      cell.textContent = t(key);
    });
  }

  drawRow(index, cells) {
    const row = this.body.rows[index] ?? this.body.appendChild(element("tr", { role: "row" }));
    cells.forEach((spec, column) => {
      const cell = row.cells[column] ?? row.appendChild(column === 0
        ? element("th", { scope: "row", role: "rowheader" })
        : element("td", { role: "cell" }));
      cell.dataset.column = t(this.columns[column][0]);
      show(cell, spec ?? null, () => content(spec));
    });
  }

  drawFoot(first, shown, found) {
    this.foot.hidden = this.rows.length <= PAGE;
    this.filter.setAttribute("aria-label", t("table.filter"));
    this.filter.setAttribute("placeholder", t("table.filter"));
    this.before.setAttribute("aria-label", t("table.before"));
    this.after.setAttribute("aria-label", t("table.after"));
    const from = number(shown === 0 ? 0 : first + 1);
    const place = t("table.place", { from, to: number(first + shown), all: number(found) });
    if (this.place.textContent !== place) {
      this.place.textContent = place;
    }
    this.before.disabled = this.page === 0;
    this.after.disabled = first + shown >= found;
  }
}
