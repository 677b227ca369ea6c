const TONES = { running: "good", idle: "good", held: "bad", waiting: "warn", gated: "warn" };
const STATES = { ready: ["Ready", "good"], degraded: ["Degraded", "warn"], not_ready: ["Not ready", "bad"] };
let history = null;
let status = null;

const pill = (phase) => el("span", { class: `pill ${TONES[phase] ?? ""}` }, phase);
const URGENCY = ["held", "waiting", "gated", "starting"];
const urgency = ({ phase }) => (URGENCY.indexOf(phase) + URGENCY.length + 1) % (URGENCY.length + 1);
/** What needs a person comes first; the order of the settings is kept otherwise. */
const urgent = (rows) => [...rows].sort((one, other) => urgency(one) - urgency(other));

const command = (...words) => el("code", {}, ["forwarder", ...words].join(" "));
const runbook = (alert) => el("a", { href: `runbook#${alert}` }, "runbook");
const trouble = (next, alerts) => (one) => one.error
  ? el("div", {}, el("span", { class: "trouble" }, one.error),
    one.hint ? el("span", { class: "hint" }, one.hint) : null,
    el("span", { class: "hint" }, "Next: ", next(one), ", ", runbook(alerts[one.phase] ?? alerts.held)))
  : null;
const optional = (value, write) => (value === null || value === undefined ? "" : write(value));
const none = (text) => el("p", { class: "muted" }, text);
const next = (...parts) => el("p", { class: "hint" }, "Next: ", ...parts);
const last = (values) => (values && known(values).at(-1)) ?? null;

const settings = ({ refused = [], needs_restart: waiting = [] }) => [
  ...refused.map((fault) => `The settings file has a fault, older settings stay in force: ${fault}`),
  ...(waiting.length ? [`These settings wait for a restart: ${waiting.join(", ")}`] : []),
];

const headline = (found) => {
  const state = document.getElementById("state");
  const [ready, tone] = STATES[found.state] ?? STATES.not_ready;
  const word = !found.live ? "Stuck" : found.ready && standsBy(found) ? "Standing by" : ready;
  if (state.textContent !== word) state.textContent = word;
  state.className = `pill ${tone}`;
  document.title = `${word} \u00b7 ${found.host} \u00b7 forwarder`;
  document.getElementById("about").textContent =
    `${found.host} \u00b7 version ${found.version} \u00b7 up ${duration(found.uptime_seconds)} \u00b7 settings ${found.config}`;
  const reasons = document.getElementById("reasons");
  const lines = [...found.reasons, ...settings(found.settings ?? {})];
  reasons.hidden = !lines.length;
  reasons.className = `notice ${tone === "good" ? "warn" : tone}`;
  show("reasons", lines, (lines) => el("ul", {}, lines.map((line) => el("li", {}, line))));
};

const summary = (found) => {
  const now = (group, key) => Object.values(history?.[group] ?? {})
    .reduce((sum, measures) => sum + (last(measures[key]) ?? 0), 0);
  const lag = Math.max(...found.streams.map((one) => one.lag_seconds ?? 0), 0);
  const sum = (key) => found.sinks.reduce((total, one) => total + one[key], 0);
  const oldest = Math.max(...found.sinks.map((one) => one.oldest_unacknowledged_seconds), 0);
  const dead = sum("dead_letters");
  const budgets = Object.values(found.budgets ?? {});
  const tiles = [
    ["New rows", rate(now("streams", "new_per_second")), "a second", ""],
    ["Delivered", rate(now("sinks", "delivered_per_second")), "a second", ""],
    ["Lag", duration(lag), "", lag > 1800 ? "warn" : ""],
    ["Request budget", budgets.length ? count(Math.min(...budgets)) : "", "left", ""],
    ["Backlog", count(sum("backlog_events")), oldest >= 60 ? `${duration(oldest)} old` : "", ""],
    ["Dead letters", count(dead), "", dead ? "warn" : ""],
    ["Open gaps", count(found.gaps.open), `of ${count(found.gaps.total)}`, found.gaps.open ? "bad" : ""],
  ];
  show("summary", tiles, (all) => all.map(([name, value, unit, kind]) => el("div", {},
    el("dt", {}, name), el("dd", { class: kind }, value, unit && " ", unit && el("small", {}, unit)))));
};

const streams = (found) => show("streams", found.streams, (rows) => rows.length
  ? table("Every stream", [
    ["Account", (one) => one.account],
    ["Stream", (one) => one.stream],
    ["State", (one) => pill(one.phase)],
    ["Covered until", (one) => optional(one.covered_until, time)],
    ["Lag", (one) => optional(one.lag_seconds, duration), "number"],
    ["Retention left", (one) => optional(one.retention_left_seconds, duration), "number"],
    ["Last success", (one) =>
      optional(one.last_success_seconds_ago, (age) => `${duration(age)} ago`), "number"],
  ], urgent(rows), trouble(() => command("check", "--live"),
    { held: "forwarderstreamheld", waiting: "forwardernopollsuccess", gated: "forwarderbackpressure" }))
  : none("No stream is read."));

const sinks = (found) => show("sinks", [found.sinks, history?.times.at(-1)], ([rows]) => rows.length
  ? table("Every sink", [
    ["Sink", (one) => one.sink],
    ["Type", (one) => `${one.type ?? ""} \u00b7 ${one.format ?? ""}`],
    ["State", (one) => pill(one.phase)],
    ["Events a second", (one) =>
      optional(last(history?.sinks[one.sink]?.delivered_per_second), rate), "number"],
    ["Last hour", (one) => spark(history, history?.sinks[one.sink]?.delivered_per_second)],
    ["Backlog", (one) => count(one.backlog_events), "number"],
    ["Oldest", (one) => one.oldest_unacknowledged_seconds
      ? duration(one.oldest_unacknowledged_seconds) : "", "number"],
    ["In flight", (one) => count(one.in_flight_batches), "number"],
    ["Dead letters", (one) => count(one.dead_letters), "number"],
    ["Last success", (one) => optional(one.last_success, time)],
  ], urgent(rows), trouble((one) => one.dead_letters
    ? command("dead-letters", "list", "--sink", one.sink) : command("check", "--live"),
  { held: "forwardersinkheld", waiting: "forwardersinknotdelivering" }))
  : none("No sink is configured."));

const share = ({ since, done_until: done, until }) =>
  percent.format((new Date(done) - new Date(since)) / Math.max(1, new Date(until) - new Date(since)));

const gauge = (share) => shape("svg", { class: "gauge", "aria-hidden": "true" },
  shape("rect", { class: "rail", width: "100%", height: "8", rx: "4" }),
  shape("rect", {
    class: `fill ${share > .95 ? "bad" : share > .8 ? "warn" : ""}`,
    width: `${Math.min(100, Math.max(share * 100, share ? 1 : 0))}%`, height: "8", rx: "4",
  }));

const journal = (found) => {
  show("journal", found.journal, (one) => {
    const share = one.undelivered_bytes / Math.max(1, one.limit_bytes);
    return [
      el("p", {}, el("strong", {}, percent.format(share)),
        ` full: ${bytes(one.undelivered_bytes)} of ${bytes(one.limit_bytes)} wait for a sink.`,
        one.gate_closed ? el("span", { class: "trouble" }, " Reading waits for room.") : ""),
      gauge(share),
      el("p", { class: "muted" },
        `${bytes(one.stored_bytes)} of rows are kept, the file has ${bytes(one.file_bytes)}.`,
        one.orphans.length
          ? ` Left by sinks that the settings no longer name: ${
            one.orphans.map((orphan) => orphan.sink).join(", ")}.`
          : ""),
    ];
  });
  const lanes = found.sinks.flatMap((sink) => sink.lanes
    .filter((lane) => lane.lane !== "live" && lane.backlog_events).map((lane) => ({ sink: sink.sink, ...lane })));
  show("backfills", [found.backfills, lanes], () => [
    found.backfills.length ? [el("h2", {}, "Backfills"), table("Every backfill", [
      ["Backfill", (one) => one.lane],
      ["Account", (one) => one.account],
      ["Stream", (one) => one.stream],
      ["From", (one) => time(one.since)],
      ["Read until", (one) => time(one.done_until)],
      ["To", (one) => time(one.until)],
      ["Done", share, "number"],
      ["Rows", (one) => count(one.rows), "number"],
    ], found.backfills)] : null,
    lanes.length ? [el("h2", {}, "Lanes beside live"), table("Lanes of backfills and replays", [
      ["Lane", (one) => one.lane],
      ["Sink", (one) => one.sink],
      ["Backlog", (one) => count(one.backlog_events), "number"],
    ], lanes)] : null,
  ].flat());
};

const letters = (found) => show("letters", found.dead_letters, (rows) => rows.length
  ? [next(command("dead-letters", "list"), ", and after the cause is fixed ",
    command("dead-letters", "replay", "--sink", rows[0].sink), ", ", runbook("forwarderdeadletters")),
  table("Dead letters by sink and reason", [
    ["Sink", (one) => one.sink],
    ["Events", (one) => count(one.events), "number"],
    ["Latest", (one) => time(one.latest)],
    ["Reason", (one) => one.reason, "wide"],
  ], rows)]
  : none("None: no sink has refused an event."));

const gaps = (found) => show("gaps", found.gaps.latest, (rows) => rows.length
  ? [next(command("gaps", "list"), ", ", runbook("forwardergap")), table("The latest gaps", [
    ["Whose", (one) => one.scope],
    ["State", (one) => one.closed
      ? el("span", { class: "pill" }, "closed") : el("span", { class: "pill bad" }, "open")],
    ["Reason", (one) => one.reason],
    ["From", (one) => time(one.since)],
    ["To", (one) => time(one.until)],
    ["Rows", (one) => (one.rows === null ? "unknown" : count(one.rows)), "number"],
    ["Detail", (one) => one.detail, "wide"],
  ], rows)]
  : none("None: nothing was lost."));

/** The fields of a log line that have no column of their own, as the log has them. */
const rest = ({ time, level, event, ...fields }) =>
  Object.entries(fields).map(([key, value]) => `${key}=${value}`).join(" ");
const log = (found) => show("log", found.log ?? [], (lines) => lines.length
  ? table("The latest warnings and errors of the log", [
    ["Time", (one) => time(one.time)],
    ["Level", (one) => el("span", { class: `pill ${one.level === "error" ? "bad" : "warn"}` }, one.level)],
    ["Event", (one) => one.event],
    ["Details", rest, "wide"],
  ], [...lines].reverse())
  : none("None since the start."));

const render = () => {
  if (!status) return;
  for (const part of [headline, summary, fleet, streams, sinks, journal, letters, gaps, log]) part(status);
};

const ask = async (path) => {
  const answer = await fetch(path, { signal: AbortSignal.timeout(15000) });
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  return answer.json();
};
const silent = () => {
  const state = document.getElementById("state");
  state.textContent = "No answer";
  state.className = "pill bad";
};

/** Ask again and again, never twice at once, and not while nobody looks. */
const repeat = (path, seconds, take) => {
  const turn = async () => {
    try {
      if (!document.hidden) take(await ask(path));
    } catch {
      silent();
    }
    setTimeout(turn, seconds * 1000);
  };
  turn();
};

repeat("history", 15, (found) => { history = found; drawCharts(found); render(); });
repeat("status", 3, (found) => {
  status = found;
  render();
  document.getElementById("asked").textContent = `As of ${new Date().toLocaleTimeString("en-GB")}.`;
});
new ResizeObserver(() => history && drawCharts(history)).observe(document.getElementById("charts"));
