// The status page: asks for the report again and again, and shows it.

import * as actions from "./actions.js";
import { Problem, get, token } from "./client.js";
import { choose, clock, duration, t, write } from "./language.js";
import * as live from "./live.js";
import * as plots from "./plots.js";
import * as sections from "./sections.js";
import { at } from "./view.js";

/** Between two reports, and between two attempts to get one, in milliseconds. */
const INTERVAL = 5000;
const RETRY = 3000;

let report = null;
let received = null;
let goneSince = null;
let timer = null;
let turns = 0;
let hasMetrics = true;

/** `loading`, `data`, or `sign-in`: which part of the page is shown. */
function enter(phase) {
  document.body.dataset.phase = phase;
  at("loading").hidden = phase !== "loading";
  at("sign-in").hidden = phase !== "sign-in";
  for (const part of document.querySelectorAll("[data-needs=data]")) {
    part.hidden = phase !== "data";
  }
  at("sign-out").hidden = token.get() === null;
}

/** Asks and shows, and goes on with that while somebody looks. A turn that another has overtaken shows nothing. */
async function turn() {
  clearTimeout(timer);
  turns += 1;
  const own = turns;
  const isLatest = () => own === turns;
  try {
    const answers = await Promise.all([get("status"), measure()]);
    if (isLatest()) {
      take(...answers);
    }
  } catch (fault) {
    if (isLatest()) {
      gone(fault);
    }
  } finally {
    if (isLatest() && !document.hidden && document.body.dataset.phase !== "sign-in") {
      timer = setTimeout(turn, goneSince === null ? INTERVAL : RETRY);
    }
  }
}

/** The metrics. Without them there are no plots; that is no reason to show nothing. */
async function measure() {
  try {
    return hasMetrics ? await get("metrics", (answer) => answer.text()) : null;
  } catch (fault) {
    hasMetrics = fault.status !== 404;
    return null;
  }
}

function take(status, metrics) {
  report = status;
  received = new Date();
  goneSince = null;
  draw();
  plots.sample(metrics);
  live.followEvents();
}

/** Shows what was reported last. */
function draw() {
  if (report === null) {
    return;
  }
  enter("data");
  at("gone").hidden = true;
  document.body.classList.remove("old");
  sections.render(report);
  actions.showLevels(report.settings);
  at("freshness").textContent = t("updated", { time: clock(received) });
}

/** The service does not answer: says so, and how old the rest is. */
function gone(fault) {
  if (!(fault instanceof Problem)) {
    throw fault;
  }
  if (fault.status === 401) {
    signIn();
    return;
  }
  goneSince ??= new Date();
  // Its connection may be dead without having ended.
  live.leaveEvents();
  document.body.classList.add("old");
  at("gone").hidden = false;
  const text = fault.status === 0 ? t("gone") : t("gone.answers", { reason: fault.message });
  if (at("gone-text").textContent !== text) {
    at("gone-text").textContent = text;
  }
  at("gone-age").textContent = received === null
    ? t("gone.never", { time: clock(goneSince) })
    : t("gone.age", { time: clock(received), age: duration((Date.now() - received) / 1000) });
}

function signIn() {
  live.leave();
  at("gone").hidden = true;
  at("sign-in-fault").textContent = token.get() === null ? "" : t("sign_in.refused");
  token.forget();
  enter("sign-in");
  at("token").value = "";
  at("token").focus();
}

function relabel() {
  write(document);
  actions.name();
  live.redraw();
  plots.draw();
  draw();
}

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    choose(button.dataset.language);
    relabel();
  });
}
at("sign-in-form").addEventListener("submit", (submission) => {
  submission.preventDefault();
  token.set(at("token").value.trim());
  turn();
});
at("sign-out").addEventListener("click", () => {
  token.forget();
  signIn();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    live.leaveEvents();
  } else {
    turn();
  }
});

write(document);
sections.prepare();
actions.prepare(turn);
live.prepare();
enter("loading");
turn();
