"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const taskById = new Map(data.tasks.map((task) => [task.id, task]));
const judged = data.nights.filter((night) => night.arms.length === 3);
const ARMS = { baseline: "Baseline (frozen)", current: "Served before", candidate: "Candidate" };
const STATES = { p: "pass", f: "fail", g: "GAINED", l: "LOST", m: "not measured" };

const $ = (id) => document.getElementById(id);
const percent = (x, digits = 1) => `${(100 * x).toFixed(digits)}%`;
const points = (x) => `${x < 0 ? "\u2212" : "+"}${Math.abs(100 * x).toFixed(1)}`;
const when = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/* All text goes in through textContent: prompts and model names are data, never markup. */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(node.style, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const two = (x) => String(Math.floor(x)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} min`;
}

function showTiles() {
  const tile = (value, label, tone = "") =>
    $("tiles").append(element("div", { class: "card tile" }, element("b", { class: tone }, value), element("span", {}, label)));
  const base = data.baseline, served = data.now;
  if (base !== null && served !== null) {
    tile(percent(served), "of the frozen tasks pass now");
    tile(`${points(served - base)} points`, `against the baseline's ${percent(base)}`, served < base ? "down" : served > base ? "up" : "");
  }
  const promoted = data.nights.filter((night) => night.outcome === "promoted").length;
  if (data.nights.length) tile(`${promoted} of ${data.nights.length}`, "nights promoted a candidate");
  if (data.episodes_total) tile(`${data.episodes_passed} of ${data.episodes_total}`, "collected episodes passed");
}

function showTimeline() {
  if (!data.nights.length) {
    $("night").append(element("p", { class: "empty" }, "No night yet. The first one will appear here."));
    return;
  }
  data.nights.forEach((night, i) => {
    const change = night.arms.length ? `+${night.gained.length} \u2212${night.lost.length} tasks` : "no candidate";
    const button = element(
      "button", { type: "button", class: night.outcome, "aria-pressed": "false", "aria-controls": "night" },
      element("b", {}, `Night ${night.cycle}`), " ", element("span", { class: "outcome" }, night.outcome),
      element("small", {}, when(night.started)), element("small", {}, change));
    button.addEventListener("click", () => showNight(i));
    $("timeline").append(button);
  });
  showNight(data.nights.length - 1);
  $("timeline").scrollLeft = $("timeline").scrollWidth;
}

function bars(rows, tone) {
  const grid = element("div", { class: "bars" });
  for (const row of rows) {
    const bar = element("div", { class: "bar" }, element("b", { style: { width: `${100 * row.share}%`, background: colour(row.tone ?? tone) } }));
    if (row.mark !== undefined) bar.append(element("u", { style: { left: `${100 * row.mark}%` }, title: "asked" }));
    grid.append(element("span", {}, row.label), bar, element("span", { class: "value" }, row.value));
  }
  return grid;
}

function showNight(index) {
  const night = data.nights[index];
  [...$("timeline").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
  const left = element("div"), right = element("div");
  left.append(element("h3", {}, "Why"), element("ul", {}, ...night.sentences.map((s) => element("li", {}, s))));
  left.append(element("div", { class: "codes" }, ...night.reasons.map((code) => element("code", {}, code))));
  if (night.arms.length) {
    left.append(element("h3", {}, "Pass rates"), bars(night.arms.map((a) => ({
      label: ARMS[a.arm], share: a.rate, tone: a.arm, value: `${percent(a.rate)}  [${percent(a.low, 0)} to ${percent(a.high, 0)}]` }))));
  }
  if (night.recipe) left.append(element("h3", {}, "Recipe"), night.recipe);
  if (night.shares.length) {
    right.append(element("h3", {}, "Training mix (mark: asked share)"), bars(night.shares.map((s) => ({
      label: s.kind, share: s.met, mark: s.asked, value: `${percent(s.met)} of ${percent(s.asked, 0)}, ${plural(s.rows, "row")}` })), "promoted"));
    right.append(...night.notes.map((note) => element("p", { class: "sub" }, note)));
  }
  const longest = Math.max(...night.phases.map((phase) => phase.seconds), 1e-9);
  right.append(element("h3", {}, `Phases (${duration(night.seconds)} in all)`), bars(night.phases.map((phase) => ({
    label: phase.name + (phase.resumed ? " (kept)" : ""), share: phase.seconds / longest, value: duration(phase.seconds) })), "baseline"));
  $("night").className = `card night ${night.outcome}`;
  $("night").replaceChildren(
    element("p", { class: "head" }, element("span", { class: "outcome" }, `Night ${night.cycle}: ${night.outcome}. `), `${night.headline} ${night.recovery}`),
    left, right);
}

const whiskers = {
  id: "whiskers",
  afterDatasetsDraw(chart) {
    const draw = chart.ctx;
    chart.data.datasets.forEach((set, i) => {
      if (!set.ends || !chart.isDatasetVisible(i)) return;
      draw.save();
      draw.strokeStyle = set.backgroundColor;
      draw.lineWidth = 1.6;
      chart.getDatasetMeta(i).data.forEach((point, j) => {
        const [low, high] = set.ends[j].map((value) => chart.scales.y.getPixelForValue(value));
        draw.beginPath();
        draw.moveTo(point.x, low);
        draw.lineTo(point.x, high);
        for (const y of [low, high]) { draw.moveTo(point.x - 4, y); draw.lineTo(point.x + 4, y); }
        draw.stroke();
      });
      draw.restore();
    });
  },
};

function chart(id, type, labels, datasets, options, plugins = []) {
  const grid = { color: colour("line") }, ticks = { color: colour("quiet") };
  const { x = {}, y = {}, ...others } = options;
  new Chart($(id), {
    type, data: { labels, datasets }, plugins,
    options: {
      responsive: true, maintainAspectRatio: false, animation: false,
      ...others,
      plugins: { legend: { labels: { color: colour("ink"), usePointStyle: true, boxHeight: 7 } }, ...others.plugins },
      scales: {
        x: { ...x, grid: { display: false, ...x.grid }, ticks: { ...ticks, ...x.ticks } },
        y: { ...y, grid: { ...grid, ...y.grid }, ticks: { ...ticks, ...y.ticks }, border: { display: false } },
      },
    },
  });
}

function showRates() {
  const shapes = { baseline: "circle", current: "rect", candidate: "rectRot" };
  const datasets = Object.keys(ARMS).map((name, i) => {
    const arms = judged.map((night) => night.arms.find((a) => a.arm === name));
    return {
      label: ARMS[name], ends: arms.map((a) => [100 * a.low, 100 * a.high]), pointStyle: shapes[name],
      data: judged.map((_, j) => ({ x: j + 0.17 * (i - 1), y: 100 * arms[j].rate })),
      backgroundColor: colour(name), borderColor: colour(name), pointRadius: name === "candidate" ? 7 : 5.5, pointHoverRadius: 8,
    };
  });
  const ends = judged.flatMap((night) => night.arms.flatMap((a) => [100 * a.low, 100 * a.high]));
  const roomy = () => $("rates").parentElement.clientWidth > 90 * judged.length;
  const name = (night) => (roomy() ? [`night ${night.cycle}`, night.outcome] : `N${night.cycle}`);
  const label = (value) => (judged[value] ? name(judged[value]) : "");
  chart("rates", "scatter", [], datasets, {
    x: { type: "linear", min: -0.5, max: judged.length - 0.5, afterBuildTicks: (axis) => { axis.ticks = judged.map((_, value) => ({ value })); }, ticks: { callback: label, maxRotation: 0 } },
    y: { min: Math.max(0, Math.floor(Math.min(...ends) / 5) * 5 - 5), max: Math.min(100, Math.ceil(Math.max(...ends) / 5) * 5 + 5), ticks: { callback: (v) => `${v}%` } },
    plugins: { tooltip: { callbacks: { label: (item) => {
      const [low, high] = item.dataset.ends[item.dataIndex];
      return `${item.dataset.label}: ${item.parsed.y.toFixed(1)}% [${low.toFixed(1)} to ${high.toFixed(1)}]`;
    } } } },
  }, [whiskers]);
}

/* As many phases as there are colours that can be told apart, the longest; the others are drawn as one. */
function showPhases() {
  const palette = ["#0072b2", "#e69f00", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#f0e442", "#8c564b"];
  const seconds = (night, names) => night.phases.reduce((sum, phase) => sum + (names.includes(phase.name) ? phase.seconds : 0), 0);
  const total = (name) => data.nights.reduce((sum, night) => sum + seconds(night, [name]), 0);
  const names = [...new Set(data.nights.flatMap((night) => night.phases.map((phase) => phase.name)))];
  const longest = [...names].sort((a, b) => total(b) - total(a)).slice(0, palette.length);
  const groups = names.filter((name) => longest.includes(name)).map((name, i) => [name, palette[i], [name]]);
  const others = names.filter((name) => !longest.includes(name));
  if (others.length) groups.push(["other", "#b9b4ac", others]);
  const datasets = groups.map(([label, backgroundColor, of]) => ({
    label, backgroundColor, barThickness: "flex", maxBarThickness: 26, data: data.nights.map((night) => seconds(night, of)),
  }));
  chart("phases", "bar", data.nights.map((night) => `night ${night.cycle}`), datasets, {
    indexAxis: "y", x: { stacked: true, grid: { display: true, color: colour("line") }, ticks: { callback: (v) => duration(v), maxRotation: 0 } }, y: { stacked: true, grid: { display: false } },
    plugins: { legend: { position: "bottom", labels: { color: colour("ink"), boxWidth: 10, boxHeight: 10, font: { size: 11 } } },
      tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${duration(item.parsed.x)}` } } },
  });
}

function showFamilies() {
  const known = (row) => row.serving !== null && row.baseline !== null;
  const gain = (row) => (known(row) ? row.serving - row.baseline : -Infinity);
  const rows = [...data.families].sort((a, b) => gain(b) - gain(a) || a.family.localeCompare(b.family));
  const scale = (x) => (x === null ? null : 100 * x), text = (x) => (x === null ? "not measured" : percent(x, 0));
  $("family-rows").append(...rows.map((row) => element("tr", {}, ...[
    row.family, String(row.tasks), text(row.baseline), text(row.serving), known(row) ? points(gain(row)) : "",
  ].map((cell) => element("td", {}, cell)))));
  $("families").parentElement.style.minWidth = `${60 + 15 * rows.length}px`;
  const short = (name) => (name.length > 34 ? `${name.slice(0, 33)}\u2026` : name);
  chart("families", "bar", rows.map((row) => short(row.family)), [
    { label: "Baseline (frozen)", data: rows.map((row) => scale(row.baseline)), backgroundColor: colour("baseline"), minBarLength: 4 },
    { label: "Serving now (orange: below the baseline)", data: rows.map((row) => scale(row.serving)), borderColor: colour("gained"), minBarLength: 4,
      backgroundColor: rows.map((row) => colour(known(row) && gain(row) < 0 ? "lost" : "gained")) },
  ], {
    x: { ticks: { autoSkip: false, maxRotation: 60, minRotation: 60, font: { size: 11 } } }, y: { min: 0, max: 100, ticks: { callback: (v) => `${v}%` } },
    plugins: { legend: { align: "start", labels: { color: colour("ink"), usePointStyle: true, boxHeight: 7,
      generateLabels: (c) => Chart.defaults.plugins.legend.labels.generateLabels(c).map((l, i) => ({ ...l, fillStyle: colour(i ? "gained" : "baseline"), lineWidth: 0 })) } },
      tooltip: { callbacks: { label: (item) => `${item.dataset.label.split(" (")[0]}: ${item.parsed.y.toFixed(0)}% of ${plural(rows[item.dataIndex].tasks, "task")}` } } },
  });
}

function showHeat() {
  const families = Map.groupBy ? Map.groupBy(data.tasks, (task) => task.family)
    : data.tasks.reduce((m, task) => m.set(task.family, [...(m.get(task.family) ?? []), task]), new Map());
  for (const [family, tasks] of families) {
    const block = element("div", {}, element("h3", { title: family }, family));
    data.columns.forEach((label, i) => {
      const row = element("div", { class: "row" }, element("span", data.promoted[i] ? { class: "served" } : {}, label));
      for (const task of tasks) {
        const state = task.cells[i], said = `${label}: ${STATES[state]}\n${task.id} (${family})`;
        const square = { class: `c ${state}`, "data-task": task.id, title: `${said}\n${task.prompt}` };
        row.append("gl".includes(state) ? element("button", { type: "button", "aria-label": said, ...square }) : element("i", square));
      }
      block.append(row);
    });
    $("heat").append(block);
  }
  $("heat").addEventListener("click", (event) => {
    const task = event.target.dataset.task;
    if (task) { $("search").value = task; $("by-night").value = ""; $("by-kind").value = ""; showRows(); $("search").scrollIntoView({ behavior: "smooth", block: "center" }); }
  });
}

const changes = data.nights.flatMap((night) => ["gained", "lost"].flatMap((kind) => night[kind].map((id) => {
  const task = taskById.get(id);
  return { night: String(night.cycle), kind, id, family: task?.family ?? "", prompt: task?.prompt ?? "" };
}))).reverse();

function showRows() {
  const wanted = $("search").value.trim().toLowerCase(), night = $("by-night").value, kind = $("by-kind").value;
  const found = changes.filter((row) => (!night || row.night === night) && (!kind || row.kind === kind)
    && (!wanted || `${row.id} ${row.family} ${row.prompt}`.toLowerCase().includes(wanted)));
  $("rows").replaceChildren(...found.map((row) => element("tr", {},
    element("td", {}, row.night), element("td", { class: `${row.kind}-text` }, row.kind === "gained" ? "+ gained" : "\u2212 lost"),
    element("td", {}, element("code", {}, row.id)), element("td", {}, row.family), element("td", {}, row.prompt))));
  const known = taskById.get($("search").value.trim());
  $("count").textContent = `${plural(found.length, "change")}` + (known && !found.length ? `: ${known.id} (${known.family}) never changed. ${known.prompt}` : "");
}

function showTable() {
  $("by-night").append(element("option", { value: "" }, "all nights"), ...data.nights.filter((n) => n.arms.length).map((n) => element("option", { value: String(n.cycle) }, `night ${n.cycle}`)));
  for (const id of ["search", "by-night", "by-kind"]) $(id).addEventListener("input", showRows);
  showRows();
}

function showDays() {
  $("days-card").hidden = !data.days.length;
  $("days").append(...data.days.map((day) => element("tr", {}, ...[
    String(day.before), String(day.episodes), percent(day.passed), percent(day.at_once), String(day.attempts_to_green ?? ""), percent(day.repeats),
  ].map((text) => element("td", {}, text)))));
}

$("generated").textContent = `${$("live") ? "" : "\u00b7 "}generated ${when(data.generated)}`;
showTiles();
showTimeline();
showDays();
if (judged.length) {
  showRates();
  showPhases();
  showFamilies();
  showHeat();
  showTable();
} else {
  document.querySelectorAll("[data-needs-candidate]").forEach((section) => { section.hidden = true; });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
