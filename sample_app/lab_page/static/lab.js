// Draws the lab from /state.json, four times a second, and sends what people do to /act.
"use strict";

const PERIOD_MS = 250;
const $ = (id) => document.getElementById(id);
const WORDS = {
  active: "active", passive: "passive", standalone: "standalone", off: "powered off",
  dead: "agent dead", frozen: "agent frozen", starting: "starting",
};
// Where the badge of the virtual IP rests: in a gateway, or between them when nobody holds it.
const PLACES = { a: "translate(180px, 455px)", b: "translate(580px, 455px)", nobody: "translate(380px, 512px)" };
const LANES = { a: "M180 92V330", b: "M180 92V198H580V330" };

let latest = null;
let said = "";

async function ask(path, body) {
  const options = body
    ? { method: "POST", headers: { "Content-Type": "application/json", "X-Lab": "1" }, body: JSON.stringify(body) }
    : {};
  const response = await fetch(path, options);
  const answer = await response.json();
  if (response.status === 409) throw new Error(answer.refused);
  if (!response.ok) throw new Error(`The lab answered ${response.status}.`);
  return answer;
}

async function act(action, gateway = "", cable = "") {
  try {
    draw(await ask("/act", { action, gateway, cable }));
  } catch (error) {
    toast(error.message);
  }
}

let toastTimer = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 5000);
}

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function draw(state) {
  latest = state;
  $("unformed").hidden = state.formed;
  const form = $("unformed").querySelector("button");
  form.disabled = state.forming;
  text(form, state.forming ? "Forming …" : "Form the cluster for me");
  for (const [name, gateway] of Object.entries(state.gateways)) drawGateway(name, gateway, state.formed);
  drawCables(new Set(state.pulled));
  drawAddress(state);
  drawChart(state.client);
  drawFigure(state);
  drawLog(state.log);
}

function drawGateway(name, gateway, formed) {
  const role = WORDS[gateway.role] ? gateway.role : "starting";
  $(`box-${name}`).setAttribute("class", `gateway ${role}`);
  text($(`box-${name}`).querySelector(".role"), WORDS[role]);
  const card = $(`card-${name}`);
  const badge = card.querySelector(".state");
  badge.className = `state ${role}`;
  text(badge, WORDS[role]);
  const why = gateway.why || (gateway.role === "off" ? "No frame leaves or enters it." : "");
  const unready = formed && role === "passive" && !gateway.ready ? gateway.reasons : [];
  text(card.querySelector(".why"), [why, ...unready].filter(Boolean).map(sentence).join(" "));
  const alarms = card.querySelector(".alarms");
  const key = JSON.stringify(gateway.alarms);
  if (alarms.dataset.key !== key) {
    alarms.dataset.key = key;
    alarms.replaceChildren(...gateway.alarms.map((alarm) => Object.assign(document.createElement("li"), { textContent: alarm })));
  }
  const [power, freeze, kill, failover, reboot] = card.querySelectorAll(".actions button");
  toggle(power, !gateway.power, "power_off", "Power off", "power_on", "Power on");
  toggle(freeze, gateway.agent === "frozen", "freeze", "Freeze agent", "thaw", "Thaw agent");
  toggle(kill, gateway.power && gateway.agent === "dead", "kill", "Kill agent", "start", "Start agent");
  freeze.disabled = !gateway.power || gateway.agent === "dead";
  kill.disabled = reboot.disabled = !gateway.power;
  failover.hidden = role !== "active" || !formed;
}

function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

function toggle(button, undo, action, title, undoAction, undoTitle) {
  button.dataset.action = undo ? undoAction : action;
  button.classList.toggle("undo", undo);
  text(button, undo ? undoTitle : title);
}

function drawCables(pulled) {
  for (const wire of document.querySelectorAll(".wire")) {
    const out = pulled.has(wire.id);
    wire.classList.toggle("pulled", out);
    wire.setAttribute("aria-pressed", String(out));
    wire.setAttribute("aria-label", `${wire.dataset.name}: ${out ? "pulled. Plug it in" : "plugged in. Pull it"}`);
  }
}

function drawAddress(state) {
  const holders = Object.keys(state.gateways).filter((name) => state.gateways[name].holds);
  const both = holders.length === 2;
  $("badge").style.transform = PLACES[holders[0] || "nobody"];
  $("badge").classList.toggle("nobody", holders.length === 0);
  $("badge").classList.toggle("both", both);
  $("badge-second").classList.toggle("both", both);
  const answering = holders.length === 1 && state.client.ever && state.client.silent_ms === 0;
  $("flow").setAttribute("d", answering ? LANES[holders[0]] : "");
  const holding = holders.length ? `Gateway ${holders.join(" and ").toUpperCase()} holds the virtual IP.` : "Nobody holds the virtual IP.";
  if (holding !== said) text($("say"), said = holding);
}

function drawChart(client) {
  let answered = "";
  let silence = "";
  // Neighbouring columns of one height are drawn as one box.
  for (let start = 0; start < client.columns.length;) {
    const digit = client.columns[start];
    let end = start + 1;
    while (client.columns[end] === digit) end += 1;
    // A dash, for the time before the first answer, is no number and is not drawn.
    const top = 94 - 8 * Number(digit);
    if (digit > "0") answered += `M${start} 100V${top}H${end}V100Z`;
    // An outage shorter than a column shows as answers that are missing in it.
    if (digit < "7" && digit >= "0") silence += `M${start} 0H${end}V${digit === "0" ? 100 : top}H${start}Z`;
    start = end;
  }
  $("chart").querySelector(".answered").setAttribute("d", answered);
  $("chart").querySelector(".silence").setAttribute("d", silence);
}

function drawFigure(state) {
  const figure = $("outage");
  const now = state.client.ever && state.client.silent_ms > 0;
  figure.classList.toggle("now", now);
  const last = state.log.find((entry) => entry.outage_ms);
  if (now) {
    text(figure, duration(state.client.silent_ms));
    text($("outage-what"), "without an answer, now");
  } else if (last) {
    text(figure, duration(last.outage_ms));
    text($("outage-what"), `last outage: ${last.text.charAt(0).toLowerCase()}${last.text.slice(1)}`);
  } else {
    text(figure, state.client.ever ? "0 ms" : "–");
    text($("outage-what"), state.client.ever ? "no outage yet" : "nobody has the address yet");
  }
  $("chart").setAttribute("aria-label", `Answers of the last 30 seconds; ${figure.textContent} ${$("outage-what").textContent}`);
}

function duration(ms) {
  return ms < 10000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function drawLog(entries) {
  const key = JSON.stringify(entries);
  if ($("log").dataset.key === key || entries.length === 0) return;
  $("log").dataset.key = key;
  $("log").replaceChildren(...entries.map((entry) => {
    const item = document.createElement("li");
    const time = Object.assign(document.createElement("time"), { textContent: entry.ago_s < 60 ? `${entry.ago_s} s ago` : `${Math.floor(entry.ago_s / 60)} min ago` });
    const what = Object.assign(document.createElement("span"), { className: entry.kind, textContent: entry.text });
    const ms = Object.assign(document.createElement("span"), { className: "ms" });
    if (entry.outage_ms !== null) ms.textContent = entry.outage_ms ? `${duration(entry.outage_ms)} outage` : "no outage";
    item.append(time, what, ms);
    return item;
  }));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button) return void act(button.dataset.action, button.parentElement.dataset.gateway);
  const wire = event.target.closest(".wire");
  if (wire) flip(wire);
});

document.addEventListener("keydown", (event) => {
  const wire = event.target.closest(".wire");
  if (wire && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    flip(wire);
  }
});

function flip(wire) {
  act(wire.classList.contains("pulled") ? "plug" : "pull", wire.dataset.gateway, wire.dataset.cable);
}

async function poll() {
  try {
    const state = await ask("/state.json");
    $("gone").hidden = true;
    draw(state);
  } catch {
    $("gone").hidden = false;
  }
  setTimeout(poll, document.hidden ? 4 * PERIOD_MS : PERIOD_MS);
}

poll();
