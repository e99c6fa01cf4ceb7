// German and English: which one, its texts, and how it writes numbers and times.

import texts from "./texts.js";

const LANGUAGES = ["en", "de"];
const REMEMBERED = "sip-proxy.language";

let language = remembered() ?? preferred();

/** The language that was chosen here before. */
function remembered() {
  try {
    const code = localStorage.getItem(REMEMBERED);
    return LANGUAGES.includes(code) ? code : null;
  } catch {
    return null; // A browser that keeps nothing of pages.
  }
}

/** The first of the browser's languages that the page has. */
function preferred() {
  const codes = navigator.languages.map((code) => code.slice(0, 2).toLowerCase());
  return codes.find((code) => LANGUAGES.includes(code)) ?? "en";
}

export function current() {
  return language;
}

/** Changes the language, for the next visits too. */
export function choose(code) {
  language = code;
  try {
    localStorage.setItem(REMEMBERED, code);
  } catch {
    // It holds for this visit.
  }
}

/** The text of a key, with `{name}` replaced by `values.name`. */
export function t(key, values = {}) {
  return texts[key][language].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** The text of a key for a number: `key.one` or `key.other`. */
export function count(key, number_) {
  const form = new Intl.PluralRules(language).select(number_);
  return t(`${key}.${form}`, { count: number(number_) });
}

/** What a value of the service is called here; a value without a name stands for itself. */
export function word(group, value) {
  return texts[`${group}.${value}`]?.[language] ?? String(value);
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

/** A rate: three figures are enough. */
export function rate(value) {
  return new Intl.NumberFormat(language, { maximumSignificantDigits: 3 }).format(value);
}

/** A duration, by its two largest units. */
export function duration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const from = Math.max(0, units.findIndex(([, length]) => seconds >= length));
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, length] of seconds < 1 ? [["second", 1]] : units.slice(from, from + 2)) {
    const whole = Math.floor(rest / length);
    rest -= whole * length;
    if (whole > 0 || parts.length === 0) {
      parts.push(new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(whole));
    }
  }
  return parts.join(" ");
}

/** Date and time of an RFC 3339 text, in the browser's time zone; what is no time stands as it is. */
export function moment(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) {
    return String(text);
  }
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" }).format(date);
}

/** Time of day, with milliseconds where asked for. */
export function clock(text, withMilliseconds = false) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) {
    return String(text);
  }
  const form = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  if (withMilliseconds) {
    form.fractionalSecondDigits = 3;
  }
  return new Intl.DateTimeFormat(language, form).format(date);
}

/** Writes the texts of all elements that name one: `data-text` as content, `data-label` for those who cannot see. */
export function write(root) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = t(element.dataset.text);
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
  for (const button of root.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
}
