"use strict";
// Reads the figures every two seconds and writes them into the page; no library, no other host.
const EVERY_MS = 2000;
const KEPT = 60;
const SHOWN_SIGNALS = 5;
// A rate is over some readings: figures move with checkpoints, about as often as they are read.
const OVER = 5;
const rates = [];
const seen = [];
let paused = false;

const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const signed = (value, digits) => (value < 0 ? "" : "+") + value.toFixed(digits);
const moment = (ts) =>
  (ts ? new Date(ts * 1000).toISOString().replace("T", " ").slice(0, 16) : "–");
const age = (seconds) => {
  if (seconds === null || seconds === undefined) return "no vote yet";
  if (seconds < 120) return `${whole.format(seconds)} s`;
  if (seconds < 7200) return `${whole.format(seconds / 60)} min`;
  return seconds < 172800 ? `${whole.format(seconds / 3600)} h` : `${whole.format(seconds / 86400)} d`;
};
const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// What is read aloud whenever it changes is left alone while it does not.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function showVerdict(concerns) {
  const box = byId("verdict");
  box.hidden = false;
  box.className = concerns.length ? "look" : "well";
  const things = concerns.length === 1 ? "1 thing needs" : `${concerns.length} things need`;
  say(byId("well"), concerns.length ? `${things} a look` : "All is well");
  const told = concerns.map(({ where, what }) => `${where} ${what}`).join("\n");
  const list = byId("concerns");
  if (list.dataset.told === told) return;
  list.dataset.told = told;
  list.replaceChildren(...concerns.map(({ where, what }) => {
    const row = element("li");
    row.append(element("a", what, { href: `#${where}` }));
    return row;
  }));
}

// Rows that are seldom wanted; whoever opened them finds them open after the next reading.
function folded(summary, name, content) {
  const box = element("details", undefined, { "data-name": name });
  box.append(element("summary", summary, { "aria-label": `${summary}: ${name}` }), content);
  return box;
}

function showFigures(status) {
  const events = status.events["headrace.events"] || 0;
  const now = performance.now();
  const before = seen.at(-OVER) || seen[0];
  if (before) rates.push(Math.max(0, (events - before.events) * 1000 / (now - before.at)));
  if (rates.length > KEPT) rates.shift();
  seen.push({ events, at: now });
  if (seen.length > OVER) seen.shift();
  const recommender = status.recommender;
  const figures = {
    "events learned": whole.format(events),
    "events a second": rates.length ? whole.format(rates.at(-1)) : "–",
    "behind by": status.lag_s === null ? "see workers" : `${whole.format(status.lag_s)} s`,
    "rejected lines": whole.format(status.rejected),
    "duplicates": whole.format(status.duplicates),
    "feedback joined": whole.format(status.join.matched),
    "open examples": whole.format(status.join.pending),
    "late corrections": whole.format(status.join.late_corrections),
    "hit@10": share(recommender.recent.hit_ratio),
    "nDCG@10": share(recommender.recent.ndcg),
    "signals away": whole.format(status.drift.firing),
  };
  byId("figures").replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  const most = Math.max(1, ...rates);
  const points = rates.map((rate, n) => `${(n * 300) / (KEPT - 1)},${39 - (37 * rate) / most}`);
  byId("rate").replaceChildren(drawn("polyline", { class: "line", points: points.join(" ") }));
  byId("most").textContent = `Events a second while this page is open: ${whole.format(most)} at most`;
}

function grid(caption, columns, rows, name, className) {
  const made = element("table");
  if (className) made.className = className;
  const head = element("tr");
  head.append(...columns.map(([title]) => element("th", title, { scope: "col" })));
  const body = element("tbody");
  body.append(...rows.map((one) => {
    const row = element("tr");
    row.append(...columns.map(([, read], n) => {
      const value = read(one);
      if (value instanceof Node) return value;
      return n ? element("td", value) : element("th", value, { scope: "row" });
    }));
    return row;
  }));
  const top = element("thead");
  top.append(head);
  made.append(element("caption", caption), top, body);
  const box = element("div", undefined,
    { class: "scroll", tabindex: "0", role: "region", "aria-label": name });
  box.append(made);
  return box;
}

function table(functions, task, name) {
  return grid(task, [
    ["labeling function", (f) => `${f.name} v${f.version}`],
    ["coverage", (f) => share(f.coverage)],
    ["overlap", (f) => share(f.overlap)],
    ["conflict", (f) => share(f.conflict)],
    ["against the model", (f) => share(f.disagreement)],
    ["estimated accuracy", (f) => share(f.estimated_accuracy)],
    ["gold accuracy", (f) => share(f.gold_accuracy)],
    ["silent for", (f) => age(f.silence_s)],
    ["failures", (f) => whole.format(f.failures)],
  ], functions, name);
}

function tables(functions, task) {
  const voted = functions.filter((f) => f.coverage > 0).sort((f, g) => g.coverage - f.coverage);
  const rest = functions.filter((f) => !(f.coverage > 0));
  const shown = table(voted, "Votes and how far each function is trusted, as shares of 1",
    `Labeling functions of ${task}`);
  if (!rest.length) return [shown];
  const caption = "What they read has not come";
  return [shown, folded(`${rest.length} functions have never voted`, task,
    table(rest, caption, `Functions of ${task} without a vote`))];
}

function heat(map, task) {
  if (map.names.length < 2) return element("p", "No two functions have met often enough yet.");
  const cell = (value) => {
    if (value === null) return element("td", "·");
    const made = element("td", value.toFixed(2).replace(/^0/, ""), { class: "some" });
    made.style.setProperty("--share", (0.85 * value).toFixed(2));
    return made;
  };
  const columns = [["function", (row) => row.name],
    ...map.names.map((name, n) => [String(n + 1), (row) => cell(row.cells[n])])];
  const rows = map.names.map((name, n) => ({ name: `${n + 1} ${name}`, cells: map.rows[n] }));
  return grid("Conflict heat map: how often two functions differ where both vote",
    columns, rows, `Conflict heat map of ${task}`, "heat");
}

function showDrift(drift) {
  const told = element("p", drift.with_reference
    ? `${drift.firing} of ${drift.with_reference} signals with a reference are away from it`
    : "no signal has a reference yet");
  if (drift.firing) told.className = "firing";
  const columns = [
    ["signal", (s) => s.signal],
    ["z", (s) => signed(s.z, 1)],
    ["away beyond", (s) => `±${s.limit.toFixed(1)}`],
    ["share moved by", (s) => share(s.effect)],
    ["state", (s) => (s.firing ? "away" : "calm")],
    ["reference of (UTC)", (s) => moment(s.since)],
  ];
  const first = Math.max(SHOWN_SIGNALS, drift.signals.filter((s) => s.firing).length);
  const signals = grid("The signals furthest from their references; z counts their own deviations",
    columns, drift.signals.slice(0, first), "Drift of signals");
  const calm = drift.signals.slice(first);
  const others = folded(`${calm.length} more signals`, "drift",
    grid("Those that are next", columns, calm, "Drift of more signals"));
  const found = grid("Latest detections", [
    ["signal", (d) => d.signal],
    ["category", (d) => d.category],
    ["from", (d) => share(d.reference)],
    ["to", (d) => share(d.share)],
    ["event time (UTC)", (d) => moment(d.ts)],
  ], drift.detections, "Latest detections");
  byId("drift").replaceChildren(told, ...(drift.signals.length ? [signals] : []),
    ...(calm.length ? [others] : []), ...(drift.detections.length ? [found] : []));
}

function showSegments(segments) {
  const tasks = segments.length ? Object.keys(segments[0].tasks) : [];
  const columns = [
    ["segment", (s) => s.segment],
    ["hits lately", (s) => share(s["hit@10"])],
  ];
  for (const task of tasks) {
    const of = tasks.length > 1 ? ` of ${task}` : "";
    columns.push([`confidence${of}`, (s) => share(s.tasks[task].confidence)],
      [`coverage${of}`, (s) => share(s.tasks[task].coverage)],
      [`conflict${of}`, (s) => share(s.tasks[task].conflict)]);
  }
  columns.push(["functions that differ there", (s) => s.functions.map((f) => {
    const cell = f.reason.startsWith("against") ? "disagreement" : "coverage";
    return `${f.name}: ${f.reason} (${share(f[cell])}, elsewhere ${share(f[`${cell}_elsewhere`])})`;
  }).join("; ") || "–"]);
  byId("segments").replaceChildren(
    grid("Lately: recommender quality beside the labels it learns from",
      columns, segments, "Segments"),
    ...(segments.length > 1 ? []
      : [element("p", "Set monitoring.segments to compare groups of people.")]));
}

function showChanges(changes) {
  byId("changes").replaceChildren(changes.length
    ? grid("Latest governance events", [
      ["what", (c) => c.action],
      ["subject", (c) => c.subject],
      ["why", (c) => c.why],
      ["when (UTC)", (c) => moment(c.ts)],
    ], changes, "Governance events")
    : element("p", "nothing was changed yet"));
}

function calibration(bins) {
  const plot = drawn("svg", { viewBox: "0 0 120 120", role: "img", class: "calibration",
    "aria-label": "Calibration: " + (bins.map((b) =>
      `${share(b.confidence)} claimed, ${share(b.accuracy)} right`).join("; ") || "no gold yet") });
  plot.append(drawn("line", { class: "ideal", x1: 10, y1: 110, x2: 110, y2: 10 }));
  for (const bin of bins) {
    plot.append(drawn("circle", { class: "dot", r: 3,
      cx: 10 + 100 * bin.confidence, cy: 110 - 100 * bin.accuracy }));
  }
  const figure = element("figure");
  figure.append(element("figcaption", "Calibration: claimed confidence, share that was right"), plot);
  return figure;
}

function showTasks(tasks) {
  byId("tasks").replaceChildren(...Object.entries(tasks).map(([name, task]) => {
    const box = element("div");
    const stages = Object.entries(task.labels).map(([stage, n]) => `${whole.format(n)} ${stage}`);
    const shares = Object.entries(task.class_share).map(([label, part]) => `${label} ${share(part)}`);
    const gold = task.gold.n
      ? `gold: ${whole.format(task.gold.n)}, accuracy ${share(task.gold.accuracy)}, ECE ${share(task.gold.ece)}`
      : "no gold yet";
    box.append(element("h3", name), element("p", `${stages.join(", ")}; ${shares.join(", ")}; ${gold}`),
      ...tables(task.lfs, name), heat(task.heat, name), calibration(task.calibration));
    return box;
  }));
}

async function refresh() {
  const state = byId("state");
  // Whoever reads a table by keyboard keeps the place: what is redrawn gets focus and scroll back.
  const held = document.activeElement && document.activeElement.getAttribute("aria-label");
  const open = new Set([...document.querySelectorAll("details[open]")].map((box) => box.dataset.name));
  const places = new Map([...document.querySelectorAll(".scroll")].map((box) =>
    [box.getAttribute("aria-label"), box.scrollLeft]));
  try {
    const answer = await fetch("/v1/status", { cache: "no-store" });
    if (!answer.ok) {
      const problem = await answer.json().catch(() => ({}));
      throw new Error(problem.detail || `the service answered ${answer.status}`);
    }
    const status = await answer.json();
    showVerdict(status.concerns);
    showFigures(status);
    showDrift(status.drift);
    showTasks(status.tasks);
    showSegments(status.segments);
    showChanges(status.governance);
    for (const box of document.querySelectorAll("details")) box.open = open.has(box.dataset.name);
    for (const box of document.querySelectorAll(".scroll, summary")) {
      const name = box.getAttribute("aria-label");
      box.scrollLeft = places.get(name) || 0;
      if (name === held) box.focus({ preventScroll: true });
    }
    state.className = "";
    say(state, `live, ${status.partitions} partition${status.partitions === 1 ? "" : "s"}`);
  } catch (error) {
    // What stands below is old: it must not look as if all were well.
    byId("verdict").hidden = true;
    state.className = "bad";
    say(state, `not live: ${error.message}`);
  }
}

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  event.target.textContent = paused ? "Go on" : "Pause";
});
refresh();
setInterval(() => { if (!paused && !document.hidden) refresh(); }, EVERY_MS);
