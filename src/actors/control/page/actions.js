// What may be done from here: reload, drain, log level.

import { Problem, send } from "./client.js";
import { count, t, word } from "./language.js";
import { at, content, element, icon } from "./view.js";

/** The modules with a log level of their own, as the configuration has them. */
const MODULES = [
  "config", "connection", "control", "federation_resolver", "journal", "listener", "registrar", "router", "security",
  "stun", "supervisor", "tls",
];
const LEVELS = ["error", "warning", "info", "debug", "trace"];

/** Why something was not done; our own faults are not hidden. */
function reason(fault) {
  if (!(fault instanceof Problem)) {
    throw fault;
  }
  return fault.status === 0 ? t("no_answer") : fault.message;
}

const status = (kind, text) => element("p", { class: `status ${kind}` }, icon(kind), element("strong", {}, text));

async function reload() {
  const button = at("reload");
  button.disabled = true;
  let parts;
  try {
    parts = reloaded(await send("POST", "reload"));
  } catch (fault) {
    parts = [status("bad", t("reload.failed")), element("p", { lang: "en" }, reason(fault))];
  }
  button.disabled = false;
  at("result-title").textContent = t("reload");
  at("result-body").replaceChildren(...parts.filter((part) => part !== null));
  at("result").showModal();
  at("result-title").focus();
}

function reloaded({ changes, warnings, faults }) {
  const verdict = faults.length > 0
    ? status("bad", count("reload.faults", faults.length))
    : status("ok", changes.length > 0 ? count("reload.changes", changes.length) : t("reload.nothing"));
  return [
    verdict,
    found("reload.faults.title", faults),
    changes.length === 0 ? null : list("reload.changes.title", ["key", "change", "old", "new"],
      changes.map((one) => [{ text: one.key, code: true }, word("change", one.kind), value(one.old), value(one.new)])),
    found("reload.warnings.title", warnings),
  ];
}

const value = (text) => (text === null ? null : { text, code: true });

function found(title, faults) {
  return faults.length === 0 ? null : list(title, ["place", "key", "what"],
    faults.map((one) => [{ text: one.place, code: true }, { text: one.key, code: true }, { text: one.text, said: true }]));
}

function list(title, columns, rows) {
  return element("table", { role: "table" }, element("caption", {}, t(title)),
    element("thead", { role: "rowgroup" },
      element("tr", { role: "row" }, ...columns.map((key) => element("th", { scope: "col", role: "columnheader" }, t(key))))),
    element("tbody", { role: "rowgroup" }, ...rows.map((cells) => element("tr", { role: "row" },
      ...cells.map((cell, index) => element("td", { role: "cell", "data-column": t(columns[index]) }, ...content(cell)))))));
}

async function drain() {
  at("confirm-yes").disabled = true;
  try {
    await send("POST", "drain");
    at("confirm").close();
  } catch (fault) {
    at("confirm-fault").textContent = t("drain.failed", { reason: reason(fault) });
  }
  at("confirm-yes").disabled = false;
}

let settings = null;

/** The levels in force. What is being chosen stays. */
export function showLevels(now) {
  const before = JSON.stringify(settings);
  settings = { log_level: now.log_level, module_log_levels: now.module_log_levels };
  if (JSON.stringify(settings) !== before) {
    preselect();
  }
}

function preselect() {
  const module = at("log-module").value;
  at("log-value").value = settings.module_log_levels[module] ?? settings.log_level;
}

async function setLevel() {
  const [module, level] = [at("log-module").value, at("log-value").value];
  const answer = at("log-level-answer");
  try {
    await send("PUT", "log-level", { module: module === "" ? null : module, level });
    answer.textContent = module === "" ? t("log_level.done", { level }) : t("log_level.done_for", { module, level });
  } catch (fault) {
    answer.textContent = t("log_level.failed", { reason: reason(fault) });
  }
}

/** The names in the lists, in the language that is spoken now. */
export function name() {
  const module = at("log-module").value;
  at("log-module").replaceChildren(element("option", { value: "" }, t("log_level.all")),
    ...MODULES.map((one) => element("option", { value: one }, one)));
  at("log-module").value = module;
}

/** `done` is called once something has been asked for, so that what comes of it is shown soon. */
export function prepare(done) {
  at("log-value").replaceChildren(...LEVELS.map((level) => element("option", { value: level }, level)));
  name();
  at("reload").addEventListener("click", () => reload().finally(done));
  at("result-close").addEventListener("click", () => at("result").close());
  at("drain").addEventListener("click", () => {
    at("confirm-fault").textContent = "";
    at("confirm").showModal();
  });
  at("confirm-no").addEventListener("click", () => at("confirm").close());
  at("confirm-yes").addEventListener("click", () => drain().finally(done));
  at("log-module").addEventListener("change", preselect);
  at("log-level").addEventListener("submit", (submission) => {
    submission.preventDefault();
    setLevel().finally(done);
  });
}
