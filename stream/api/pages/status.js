"use strict";
// Reads the figures every two seconds and writes them into the page; no library, no other host.
const EVERY_MS = 2000;
const KEPT = 60;
const rates = [];
let before = null;
let paused = false;

const byId = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
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

function showFigures(status) {
  const events = status.events["headrace.events"] || 0;
  const now = performance.now();
  if (before !== null) rates.push(Math.max(0, (events - before.events) * 1000 / (now - before.at)));
  if (rates.length > KEPT) rates.shift();
  before = { events, at: now };
  const recommender = status.recommender;
  const figures = {
    "events learned": whole.format(events),
    "events a second": rates.length ? whole.format(rates.at(-1)) : "–",
    "rejected lines": whole.format(status.rejected),
    "duplicates": whole.format(status.duplicates),
    "feedback joined": whole.format(status.join.matched),
    "open examples": whole.format(status.join.pending),
    "late corrections": whole.format(status.join.late_corrections),
    "hit@10": recommender.n ? share(recommender["hit@10"]) : "–",
    "nDCG@10": recommender.n ? share(recommender["ndcg@10"]) : "–",
  };
  byId("figures").replaceChildren(...Object.entries(figures).map(([name, value]) => {
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    return pair;
  }));
  const most = Math.max(1, ...rates);
  const points = rates.map((rate, n) => `${(n * 300) / (KEPT - 1)},${58 - (54 * rate) / most}`);
  byId("rate").replaceChildren(
    drawn("polyline", { class: "line", points: points.join(" ") }),
    drawn("text", { x: 4, y: 12 }, `${whole.format(most)} at most`),
  );
}

function table(functions) {
  const columns = [
    ["labeling function", (f) => `${f.name} v${f.version}`],
    ["coverage", (f) => share(f.coverage)],
    ["overlap", (f) => share(f.overlap)],
    ["conflict", (f) => share(f.conflict)],
    ["estimated accuracy", (f) => share(f.estimated_accuracy)],
    ["gold accuracy", (f) => share(f.gold_accuracy)],
    ["failures", (f) => whole.format(f.failures)],
  ];
  const made = element("table");
  const head = element("tr");
  head.append(...columns.map(([name]) => element("th", name, { scope: "col" })));
  const body = element("tbody");
  body.append(...functions.map((f) => {
    const row = element("tr");
    row.append(...columns.map(([, read], n) =>
      n ? element("td", read(f)) : element("th", read(f), { scope: "row" })));
    return row;
  }));
  const top = element("thead");
  top.append(head);
  made.append(element("caption", "Votes and how far each function is trusted"), top, body);
  const box = element("div", undefined,
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Labeling functions" });
  box.append(made);
  return box;
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
      table(task.lfs), calibration(task.calibration));
    return box;
  }));
}

async function refresh() {
  const state = byId("state");
  try {
    const answer = await fetch("/v1/status", { cache: "no-store" });
    if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
    const status = await answer.json();
    showFigures(status);
    showTasks(status.tasks);
    state.className = "";
    state.textContent = `live, ${status.partitions} partition${status.partitions === 1 ? "" : "s"}`;
  } catch (error) {
    state.className = "bad";
    state.textContent = `not live: ${error.message}`;
  }
}

byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  event.target.textContent = paused ? "Go on" : "Pause";
});
refresh();
setInterval(() => { if (!paused && !document.hidden) refresh(); }, EVERY_MS);
