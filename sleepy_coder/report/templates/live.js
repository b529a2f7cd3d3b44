/* The strip of the moment: asks the gateway every few seconds, only while somebody looks. */
const ASK_SECONDS = 5;
const shownCycle = data.nights.length ? data.nights.at(-1).cycle : 0;
const local = (iso) => new Date(iso).toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });

function facts(state) {
  const requests = Object.values(state.in_flight).reduce((sum, count) => sum + count, 0);
  const busy = state.asleep ? `model server asleep, ${state.held} held` : plural(requests, "request");
  const rows = [
    ["Serving now", state.serving, state.since ? `since ${local(state.since)}` : ""],
    ["Episodes today", state.episodes_today ?? "\u2026", state.recording ? `${state.waiting} waiting to be saved` : "recording is off"],
    ["In flight", busy, `asked for as ${state.alias}`],
  ];
  if (state.nights) {
    rows.push(["Nights", state.nights.running ? "one runs" : "none runs", state.nights.why]);
    if (state.nights.next) rows.push(["Next window", local(state.nights.next), ""]);
  }
  if (state.canary) {
    const { trial, evidence } = state.canary;
    const judged = (arm) => `${arm.failures} of ${arm.sessions} failed`;
    rows.push(["Canary", trial.stage.replace("_", " "), `${judged(evidence.new)}, before it ${judged(evidence.old)}; E ${evidence.sessions_e} of ${state.canary.threshold}`]);
  }
  if (state.last_night) rows.push(["Last verdict", state.last_night[1], `night ${state.last_night[0]}`]);
  return rows;
}

function showNow(state) {
  $("now").replaceChildren(...facts(state).map(([name, value, small]) => element("div", {},
    element("dt", {}, name), element("dd", { class: name === "Last verdict" ? `outcome ${value}` : "" }, String(value)), element("small", {}, small))));
  $("asked").textContent = "";
  $("live").classList.remove("lost");
}

async function ask() {
  if (document.hidden) return;
  try {
    const reply = await fetch("admin/state", { cache: "no-store" });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    const state = await reply.json();
    showNow(state);
    if (state.last_night && state.last_night[0] > shownCycle) location.reload();
  } catch (error) {
    $("asked").textContent = `The daemon does not answer (${error.message}); these are its last words.`;
    $("live").classList.add("lost");
  }
}

ask();
setInterval(ask, 1000 * ASK_SECONDS);
document.addEventListener("visibilitychange", ask);
