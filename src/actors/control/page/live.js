// What comes without being asked for again: events, and messages that are traced.

import { Problem, follow } from "./client.js";
import { clock, count, moment, t, word } from "./language.js";
import { at, element, icon } from "./view.js";

/** Lines that are kept of events and of messages. */
const KEPT = 500;
/** How many events from before are read. */
const BEFORE = 200;
/** After so many milliseconds those are there. */
const SETTLED = 1000;

const SIGNS = { __proto__: null, error: "bad", warning: "warn", info: "info" };
const WEIGHTS = { __proto__: null, error: 2, warning: 1, info: 0 };

const events = { rows: [], known: new Set(), waiting: [], paused: false, level: "info", following: null };

/** An event's name in `known`: numbers begin anew with the service. */
const name = (event) => `${event.number} ${event.time}`;

/** Follows the events, unless that is being done. */
export async function followEvents() {
  if (events.following !== null) {
    return;
  }
  events.following = new AbortController();
  const { signal } = events.following;
  // What was before need not be read out.
  at("events-list").setAttribute("aria-busy", "true");
  try {
    await follow(`events?follow=true&limit=${BEFORE}`, take, signal, () => {
      summary(true);
      setTimeout(() => at("events-list").removeAttribute("aria-busy"), SETTLED);
    });
  } catch (fault) {
    if (!(fault instanceof Problem)) {
      throw fault;
    }
    // The next report that arrives begins anew.
  } finally {
    events.following = null;
    summary(false);
  }
}

/** While nobody looks, the connection is of no use. */
export function leaveEvents() {
  events.following?.abort();
}

function take(list) {
  const fresh = list.filter((event) => !events.known.has(name(event)));
  for (const event of fresh) {
    events.known.add(name(event));
  }
  (events.paused ? events.waiting : events.rows).push(...fresh);
  for (const old of [...events.rows.splice(0, events.rows.length - KEPT), ...events.waiting.splice(0, events.waiting.length - KEPT)]) {
    events.known.delete(name(old));
  }
  if (events.paused) {
    at("events-pause").textContent = t("events.resume", { count: events.waiting.length });
    return;
  }
  prepend(at("events-list"), fresh.filter(wanted).map(line));
  at("events-empty").hidden = at("events-list").children.length > 0;
}

const wanted = (event) => (WEIGHTS[event.level] ?? 0) >= WEIGHTS[events.level];

/** The latest is first. */
function prepend(list, made) {
  list.prepend(...made.reverse());
  while (list.children.length > KEPT) {
    list.lastElementChild.remove();
  }
}

function line(event) {
  const sign = SIGNS[event.level] ?? "unknown";
  return element("li", {},
    element("time", { datetime: event.time, title: moment(event.time) }, clock(event.time)),
    element("span", { class: `status ${sign}` }, icon(sign), element("span", {}, word("level", event.level))),
    element("code", { class: "name", lang: "en" }, `${event.module} `, element("b", {}, event.event)),
    element("code", { class: "said", lang: "en" }, event.text));
}

function summary(isLive) {
  const text = t(isLive ? "events.live" : "events.interrupted");
  at("events-summary").replaceChildren(
    element("span", { class: `status ${isLive ? "ok" : "wait"}` }, icon(isLive ? "ok" : "wait"), element("span", {}, text)));
}

/** Writes all lines again: another level, another language. */
export function redraw() {
  at("events-list").replaceChildren(...events.rows.filter(wanted).map(line).reverse());
  at("events-empty").hidden = at("events-list").children.length > 0;
  at("events-pause").setAttribute("aria-pressed", String(events.paused));
  at("events-pause").textContent = events.paused
    ? t("events.resume", { count: events.waiting.length })
    : t("events.pause");
  summary(events.following !== null);
  traced();
}

function pause() {
  events.paused = !events.paused;
  if (!events.paused) {
    events.rows.push(...events.waiting.splice(0));
  }
  redraw();
}

const trace = { running: null, messages: 0, missed: 0, fault: null };

async function startTrace() {
  trace.running?.abort();
  const running = new AbortController();
  Object.assign(trace, { running, messages: 0, missed: 0, fault: null });
  at("trace-list").replaceChildren();
  const question = new URLSearchParams({ [at("trace-by").value]: at("trace-value").value.trim() });
  if (at("trace-bodies").checked) {
    question.set("bodies", "true");
  }
  traced();
  try {
    await follow(`trace?${question}`, (messages) => show(messages, running), running.signal);
    trace.fault = t("trace.ended");
  } catch (fault) {
    if (!(fault instanceof Problem)) {
      throw fault;
    }
    trace.fault = running.signal.aborted ? null : t("trace.failed", { reason: fault.message });
  }
  if (trace.running === running) {
    trace.running = null;
    traced();
  }
}

function show(messages, running) {
  if (trace.running === running) {
    trace.messages += messages.length;
    trace.missed += messages.reduce((all, message_) => all + (message_.missed ?? 0), 0);
    prepend(at("trace-list"), messages.map(message));
    traced();
  }
}

function message(it) {
  const first = String(it.text).split(/\r?\n/, 1)[0];
  return element("li", {}, element("details", {},
    element("summary", {},
      element("time", { datetime: it.time, title: moment(it.time) }, clock(it.time, true)),
      element("span", { class: "way" }, `${it.direction === "out" ? "→" : "←"} ${word("direction", it.direction)}`),
      element("code", {}, `${String(it.transport).toUpperCase()} ${it.source} → ${it.destination}`),
      element("b", { lang: "en" }, first)),
    element("pre", { lang: "en", tabindex: "0" }, it.text)));
}

/** Says how the trace stands. */
function traced() {
  const isOn = trace.running !== null;
  at("trace-stop").disabled = !isOn;
  const missed = trace.missed > 0 ? ` ${count("trace.missed", trace.missed)}` : "";
  const seen = `${count("trace.messages", trace.messages)}${missed}`;
  at("trace-summary").textContent = isOn ? `${t("trace.running")} ${seen}` : trace.fault ?? (trace.messages > 0 ? seen : "");
  at("trace-empty").hidden = isOn || at("trace-list").children.length > 0;
}

/** Ends both where the service may no longer be asked. */
export function leave() {
  leaveEvents();
  trace.running?.abort();
}

export function prepare() {
  at("events-pause").addEventListener("click", pause);
  at("events-level").addEventListener("change", () => {
    events.level = at("events-level").value;
    redraw();
  });
  at("trace-form").addEventListener("submit", (submission) => {
    submission.preventDefault();
    startTrace();
  });
  at("trace-stop").addEventListener("click", () => trace.running?.abort());
  at("trace-clear").addEventListener("click", () => {
    at("trace-list").replaceChildren();
    Object.assign(trace, { messages: 0, missed: 0 });
    traced();
  });
}
