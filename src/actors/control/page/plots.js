// Message rates as small plots, from the counters of `GET /metrics`.

import { rate, t } from "./language.js";
import { at, drawing, element } from "./view.js";

const COUNTERS = { __proto__: null, sip_proxy_requests_total: "method", sip_proxy_responses_total: "class" };

/** Samples that are kept: ten minutes, one each five seconds. */
const KEPT = 121;
/** As many fill the width of a plot at least. */
const SPAN = 25;
/** Plots of single methods: the busiest. */
const METHODS = 4;
const WIDTH = 240;
const HEIGHT = 56;

/**
 * The counters of messages in Prometheus' text: by `request/METHOD` or `response/CLASS`, what came `in` and went
 * `out`. Empty where the text has none.
 */
export function rates(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels, value] = /^(\w+)\{(.*)\}\s+(\S+)/.exec(line) ?? [];
    const label = COUNTERS[name];
    if (label === undefined) {
      continue;
    }
    const values = Object.fromEntries(
      [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((match) => [match[1], match[2]]));
    const key = `${name === "sip_proxy_requests_total" ? "request" : "response"}/${values[label]}`;
    const counter = found.get(key) ?? { in: 0, out: 0 };
    counter[values.direction === "out" ? "out" : "in"] += Number(value) || 0;
    found.set(key, counter);
  }
  return found;
}

/** What the page has seen: the last counters, and per key the rates between. */
let last = null;
const series = new Map();
let samples = 0;

/** Takes the answer of `GET /metrics`, or `null` where there is none. */
export function sample(text) {
  const counters = text === null ? new Map() : rates(text);
  const now = performance.now();
  const seconds = last === null ? 0 : (now - last.now) / 1000;
  if (last !== null && seconds > 0 && counters.size > 0) {
    for (const [key, counter] of [...counters, ...sums(counters)]) {
      record(key, counter, last.counters.get(key), seconds);
    }
    samples = Math.min(samples + 1, KEPT);
  }
  last = counters.size === 0 ? null : { now, counters: new Map([...counters, ...sums(counters)]) };
  draw(counters.size > 0);
}

function sums(counters) {
  const all = { in: 0, out: 0 };
  for (const [key, counter] of counters) {
    if (key.startsWith("request/")) {
      all.in += counter.in;
      all.out += counter.out;
    }
  }
  return new Map([["request/", all]]);
}

/** A counter that has fallen began anew with the service. */
function record(key, counter, before = { in: 0, out: 0 }, seconds) {
  const row = series.get(key) ?? { in: Array(samples).fill(0), out: Array(samples).fill(0) };
  for (const direction of ["in", "out"]) {
    const grown = counter[direction] - before[direction];
    row[direction].push((grown < 0 ? counter[direction] : grown) / seconds);
    row[direction].splice(0, row[direction].length - KEPT);
  }
  series.set(key, row);
}

/** Draws again, for instance in another language. */
export function draw(isThere = last !== null) {
  at("rates").hidden = !isThere;
  document.querySelector("[data-for=rates]").hidden = !isThere;
  if (isThere) {
    at("plots").replaceChildren(...chosen().map((key) => plot(title(key), series.get(key) ?? { in: [], out: [] })));
  }
}

const sum = (values) => values.reduce((all, value) => all + value, 0);

/** All requests, the busiest methods, and the classes of responses. */
function chosen() {
  const busy = (key) => sum(series.get(key).in) + sum(series.get(key).out);
  const keys = [...series.keys()];
  const methods = keys.filter((key) => /^request\/./.test(key) && busy(key) > 0).sort((one, other) => busy(other) - busy(one));
  const classes = keys.filter((key) => key.startsWith("response/")).sort();
  return ["request/", ...methods.slice(0, METHODS), ...classes];
}

function title(key) {
  const [group, name] = [key.slice(0, key.indexOf("/")), key.slice(key.indexOf("/") + 1)];
  if (group === "response") {
    return t("rates.responses", { class: name });
  }
  return name === "" ? t("rates.requests") : name;
}

function plot(name, { in: received, out: sent }) {
  const peak = Math.max(...received, ...sent, 0);
  const [now, gone] = [received.at(-1) ?? 0, sent.at(-1) ?? 0];
  const values = { name, received: rate(now), sent: rate(gone), peak: rate(peak) };
  return element("figure", {},
    element("figcaption", {}, name),
    drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": t("rates.label", values) },
      drawing("path", { class: "ground", d: `M0 ${HEIGHT - 0.5}H${WIDTH}M0 .5H${WIDTH}` }),
      drawing("path", { class: "area", d: area(points(received, peak)) }),
      drawing("path", { class: "in", d: line(points(received, peak)) }),
      drawing("path", { class: "out", d: line(points(sent, peak)) })),
    element("p", { class: "values" },
      element("span", {}, t("rates.now", values)), element("span", {}, t("rates.peak", values))));
}

/** The latest value stands at the right edge. */
function points(values, peak) {
  const step = WIDTH / (Math.max(values.length, SPAN) - 1);
  const left = WIDTH - (values.length - 1) * step;
  const height = (value) => HEIGHT - 2 - (peak === 0 ? 0 : value / peak) * (HEIGHT - 4);
  return values.map((value, index) => [left + index * step, height(value)].map((place) => place.toFixed(1)));
}

const line = (places) => (places.length === 0 ? "" : `M${places.map((place) => place.join(" ")).join("L")}`);

const area = (places) => (places.length === 0 ? "" : `${line(places)}V${HEIGHT}H${places[0][0]}Z`);
