// The sections: what of `GET /status` stands where.

import { count, duration, moment, number, t, word } from "./language.js";
import { Table, at, content, element, facts, icon, show } from "./view.js";

/** The kind of sign that goes with a word of the service. */
const KINDS = {
  __proto__: null,
  starting: "wait", ready: "ok", impaired: "warn", draining: "wait",
  listening: "ok", not_listening: "bad", disabled: "off",
  well: "ok", ill: "bad", unknown: "unknown",
  ok: "ok", warning: "warn", failed: "bad",
};

/** Days before the end of a certificate from which on it needs attention. */
const SOON = 30;

const kind = (value) => KINDS[value] ?? "unknown";
const code = (text, title) => (text === null || text === "" ? null : { text, code: true, title });
const codes = (texts) => ({ list: texts.map((text) => code(text)) });
const said = (text) => (text === null ? null : { text, said: true });
const yes = (value) => ({ text: t(value ? "yes" : "no"), kind: value ? "ok" : "off" });
const on = (value) => ({ text: t(value ? "on" : "off"), kind: value ? "ok" : "off" });
const when = (text) => (text === null ? null : { text: moment(text), title: text });

/** An IPv6 address stands in brackets where a port follows it. */
const socket = (ip, port) => (ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`);

function days(certificate) {
  const left = certificate.days_left;
  const text = left < 0 ? t("certificate.expired") : count("days", left);
  return { text, kind: left < 0 ? "bad" : left < SOON ? "warn" : "ok" };
}

const standing = (group, value, reason) =>
  ({ text: word(group, value), kind: kind(value), note: reason, said: reason !== null });

const tables = {};

/** Makes the tables, once. */
export function prepare() {
  const table = (id, columns, empty) => {
    tables[id] = new Table(at(`${id}-table`), id, columns, empty);
  };
  table("interfaces", [
    ["ip_address", (row) => code(row.ip_address, row.key)],
    ["port", (row) => code(String(row.port))],
    ["protocol", (row) => row.protocol.toUpperCase()],
    ["side", (row) => word("side", row.side)],
    ["enabled", (row) => yes(row.enabled)],
    ["status", (row) => standing("interface", row.status, row.reason)],
    ["connections", (row) => (row.connections === null ? null : number(row.connections))],
  ], "interfaces.empty");
  table("servers", [
    ["account", (row) => row.account],
    ["address", (row) => code(row.peer)],
    ["interface", (row) => code(row.interface)],
    ["by", (row) => word("by", row.by)],
    ["bindings", (row) => number(row.bindings)],
  ], "servers.empty");
  table("accounts", [
    ["account", (row) => row.user_name],
    ["account.kind", (row) => word("account", row.kind)],
    ["proof", (row) => word("proof", row.proof)],
    ["logged_on", (row) => (row.kind === "uc_server"
      ? { text: row.flows === 0 ? t("no") : count("flows", row.flows), kind: row.flows === 0 ? "off" : "ok" }
      : null)],
  ], "accounts.empty");
  table("records", [
    ["domain", (row) => row.domain],
    ["host_ip", (row) => code(row.host_ip)],
    ["dns_port", (row) => (row.port === null ? null : code(String(row.port)))],
    ["verdict", (row) => ({ text: word("grade", row.grade), kind: kind(row.grade), note: row.text, said: true })],
  ], "records.empty");
  table("peers", [
    ["address", (row) => code(row.peer)],
    ["direction", (row) => word("direction", row.direction)],
    ["names", (row) => ({ list: row.names })],
    ["route", (row) => row.route],
    ["interface", (row) => code(row.interface)],
    ["since", (row) => duration(row.connected_seconds)],
  ], "peers.empty");
  table("routes", [
    ["domain", (row) => ({ text: row.domain_name, title: row.key })],
    ["access_server", (row) => ({ ...code(socket(row.access_server, row.port)), note: row.addresses.join(" ") })],
    ["protocol", (row) => row.protocol.toUpperCase()],
    ["bind", (row) => code(row.bind_to_ip_address) ?? t("any")],
    ["enabled", (row) => yes(row.enabled)],
    ["trusted", (row) => yes(row.trusted)],
    ["health", (row) => standing("health", row.health, row.reason)],
  ], "routes.empty");
}

/** Shows a report. */
export function render(status) {
  const missing = status.unanswered.length === 0
    ? null
    : t("table.unanswered", { parts: status.unanswered.join(", ") });
  const flows = (name) => status.servers.filter((server) => server.account === name).length;
  const accounts = status.settings.accounts.map((one) => ({ ...one, flows: flows(one.user_name) }));
  head(status);
  overview(status);
  service(status);
  certificate(status.certificate);
  federation(status.federation);
  nat(status.nat);
  diagnostics(status.settings);
  tables.interfaces.update(status.interfaces, missing);
  tables.servers.update(status.servers, status.settings.lan_enabled ? missing : t("lan.disabled"));
  tables.accounts.update(accounts);
  tables.records.update(status.federation.records, missing);
  tables.peers.update(status.peers, missing);
  tables.routes.update(status.routes, missing);
  summary("lan-summary", on(status.settings.lan_enabled));
  summary("routes-summary", on(status.static_routes_enabled));
}

function summary(id, spec) {
  show(at(id), spec, () => content(spec));
}

function head(status) {
  const domains = status.presence_domains.join(", ");
  at("domains").textContent = domains;
  document.title = `${word("state", status.state)} – ${domains || "sip-proxy"}`;
  summary("state", { text: word("state", status.state), kind: kind(status.state) });
}

/** Whatever an administrator should look at, the worst first: kind, section, text, the service's words on it. */
function troubles(status) {
  const list = [];
  const add = (sign, section, text, note = null) => list.push({ sign, section, text, note });
  if (status.state === "draining") {
    add("wait", "service", t("trouble.draining"));
  }
  for (const one of status.interfaces.filter((row) => row.status === "not_listening")) {
    const values = { address: socket(one.ip_address, one.port), protocol: one.protocol.toUpperCase() };
    add("bad", "interfaces", t("trouble.interface", values), one.reason);
  }
  for (const one of status.routes.filter((row) => row.health === "ill")) {
    add("bad", "routes", t("trouble.route", { domain: one.domain_name }), one.reason);
  }
  const own = status.certificate;
  if (own !== null && own.days_left < SOON) {
    const text = own.days_left < 0 ? t("trouble.expired") : count("trouble.expires", own.days_left);
    add(own.days_left < 0 ? "bad" : "warn", "certificate", text);
  }
  for (const one of status.federation.records.filter((row) => row.grade !== "ok")) {
    const sign = status.federation.open && one.grade === "failed" ? "bad" : "warn";
    add(sign, "federation", t("trouble.record", { domain: one.domain }), one.text);
  }
  if (status.nat.enabled && status.nat.public_address === null) {
    add("warn", "nat", t("trouble.nat"), status.nat.reason);
  }
  for (const one of status.endpoints.filter((row) => row.status === "not_listening")) {
    add("warn", "service", t("trouble.endpoint", { address: one.address }), one.reason);
  }
  if (status.settings.log_fault !== null) {
    add("bad", "diagnostics", t("trouble.log"), status.settings.log_fault);
  }
  if (status.settings.log_lines_dropped > 0) {
    add("warn", "diagnostics", count("trouble.dropped", status.settings.log_lines_dropped));
  }
  for (const part of status.unanswered) {
    add("warn", "service", t("trouble.unanswered", { part }));
  }
  const weight = { bad: 0, warn: 1, wait: 2 };
  return list.sort((one, other) => weight[one.sign] - weight[other.sign]);
}

/** How many troubles are shown; the tables have them all. */
const TROUBLES = 8;

function overview(status) {
  const all = troubles(status);
  const list = all.slice(0, TROUBLES);
  const more = all.length - list.length;
  show(at("attention"), [list, more, t("trouble.none")], () => [
    ...list.map(({ sign, section, text, note }) => element("li", { class: sign }, icon(sign),
      element("span", {}, element("a", { href: `#${section}` }, text), " ",
        note === null ? null : element("span", { class: "note", lang: "en" }, note)))),
    more > 0 ? element("li", {}, count("trouble.more", more)) : null,
    list.length === 0 ? element("li", { class: "ok" }, icon("ok"), element("span", {}, t("trouble.none"))) : null,
  ].filter((one) => one !== null));
  const made = tiles(status);
  show(at("tiles"), made, () => made.map(({ section, label, value, sign, note }) => element("li", {},
    element("a", { href: `#${section}` }, element("span", { class: "label" }, label),
      element("strong", {}, value),
      element("span", { class: `status ${sign}` }, icon(sign), element("span", {}, note))))));
}

function tiles(status) {
  const enabled = status.interfaces.filter((row) => row.status !== "disabled");
  const listening = enabled.filter((row) => row.status === "listening");
  const silent = enabled.filter((row) => row.status === "not_listening");
  const routes = status.routes.filter((row) => row.enabled);
  const ill = routes.filter((row) => row.health === "ill");
  const own = status.certificate;
  const { registrations, federation: { open }, nat: where } = status;
  const of = (some, all) => (all === 0 ? number(0) : t("of", { some: number(some), all: number(all) }));
  const tile = (section, label, value, sign, note) => ({ section, label: t(label), value, sign, note });
  return [
    tile("interfaces", "tile.interfaces", of(listening.length, enabled.length),
      silent.length > 0 ? "bad" : listening.length < enabled.length ? "wait" : enabled.length > 0 ? "ok" : "off",
      silent.length > 0 ? count("tile.silent", silent.length) : t(enabled.length > 0 ? "tile.listening" : "tile.none")),
    tile("lan", "servers", number(status.servers.length), status.servers.length > 0 ? "ok" : "off",
      status.servers.length > 0 ? t("logged_on") : t("tile.nobody")),
    tile("lan", "tile.registered", number(registrations.addresses_of_record),
      registrations.bindings > 0 ? "ok" : "off", count("tile.bindings", registrations.bindings)),
    tile("peers", "peers", number(status.peers.length), open ? "ok" : "off", t(open ? "tile.open" : "tile.not_open")),
    tile("routes", "routes", of(routes.length - ill.length, routes.length),
      ill.length > 0 ? "bad" : routes.length > 0 ? "ok" : "off",
      ill.length > 0 ? count("tile.ill", ill.length) : t(routes.length > 0 ? "tile.not_ill" : "tile.none")),
    tile("certificate", "certificate", own === null ? "–" : number(own.days_left),
      own === null ? "off" : days(own).kind, own === null ? t("tile.no_certificate") : t("tile.days_left")),
    tile("nat", "tile.public_address", where.written ?? where.public_address ?? "–",
      where.enabled && where.public_address === null ? "warn" : where.enabled ? "ok" : "off",
      where.nat_type ?? t(where.enabled ? "tile.nat_unknown" : "tile.no_stun")),
  ];
}

function service(status) {
  facts(at("service-facts"), [
    [t("state"), { text: word("state", status.state), kind: kind(status.state), note: word("state.means", status.state) }],
    [t("uptime"), duration(status.uptime_seconds)],
    [t("started"), when(status.started)],
    [t("version"), status.version],
    [t("domains"), codes(status.presence_domains)],
    [t("configuration"), code(status.configuration)],
    [t("configured"), when(status.configured)],
    [t("endpoints"), { list: status.endpoints.map((one) => ({
      text: one.address, code: true, kind: kind(one.status), title: word("endpoint", one.status), note: one.reason, said: true,
    })) }],
  ]);
}

function certificate(own) {
  if (own === null) {
    facts(at("certificate-facts"), [[t("certificate"), { text: t("certificate.none"), kind: "off", note: t("certificate.how") }]]);
    return;
  }
  facts(at("certificate-facts"), [
    [t("certificate.fqdn"), code(own.names[0] ?? null)],
    [t("certificate.subject"), said(own.subject)],
    own.names.length > 1 ? [t("certificate.names"), codes(own.names.slice(1))] : null,
    [t("certificate.issuer"), said(own.issuer)],
    [t("certificate.from"), when(own.not_before)],
    [t("certificate.to"), when(own.not_after)],
    [t("certificate.left"), days(own)],
    [t("file"), code(own.file)],
  ]);
}

function federation(it) {
  facts(at("federation-facts"), [
    [t("federation.enabled"), on(it.enabled)],
    [t("federation.open"), { ...on(it.open), note: it.open ? null : t("federation.how") }],
    [t("federation.policy"), word("policy", it.policy)],
  ]);
}

function nat(it) {
  facts(at("nat-facts"), [
    [t("nat.stun"), { ...on(it.enabled), note: it.enabled ? null : t("nat.how") }],
    [t("nat.address"), it.public_address === null && it.reason !== null
      ? { text: t("not_known"), kind: "warn", note: it.reason, said: true }
      : code(it.public_address)],
    [t("nat.type"), it.nat_type === null ? null : { text: it.nat_type, note: word("nat.means", it.nat_type) }],
    it.public_address !== null && it.reason !== null ? [t("reason"), said(it.reason)] : null,
    [t("nat.determined"), when(it.determined)],
    [t("nat.written"), code(it.written) ?? t("nat.not_written")],
  ]);
}

function diagnostics(it) {
  const modules = Object.entries(it.module_log_levels).map(([module, level]) => code(`${module} = ${level}`));
  facts(at("diagnostics-facts"), [
    [t("log_level"), code(it.log_level)],
    modules.length > 0 ? [t("log_level.modules"), { list: modules }] : null,
    [t("log.directory"), code(it.log_file_directory) ?? t("log.standard_error")],
    it.log_fault === null ? null : [t("log.fault"), { text: t("log.not_written"), kind: "bad", note: it.log_fault, said: true }],
    [t("log.size"), `${number(it.maximum_log_file_size_mb)} MB`],
    [t("log.kept"), number(it.kept_log_files)],
    [t("log.daily"), yes(it.delete_log_files_daily)],
    [t("log.dropped"), { text: number(it.log_lines_dropped), kind: it.log_lines_dropped > 0 ? "warn" : "ok" }],
  ]);
}
