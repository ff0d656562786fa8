// Shows the messages of a watched socket as they come. Each request also keeps the watching alive.

const INTERVAL = 2000;
const MAX_ROWS = 50;

const byId = (id) => document.getElementById(id);
const form = byId("tap-form");
const body = byId("tap-rows");
const state = byId("tap-state");
const empty = byId("tap-empty");

let stopped = false;
let asking = false;

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function make(line) {
  const row = document.createElement("tr");
  row.dataset.number = line.number;
  row.dataset.direction = line.direction;
  for (const text of [line.time, line.way, line.kind, line.size, line.text]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    row.append(cell);
  }
  row.lastElementChild.className = "tap-text";
  return row;
}

function show(lines) {
  body.prepend(...lines.map(make));
  while (body.rows.length > MAX_ROWS) body.lastElementChild.remove();
  empty.hidden = body.rows.length > 0;
}

async function ask() {
  if (asking || stopped || document.hidden) return;
  asking = true;
  const values = new URLSearchParams(new FormData(form));
  values.set("action", "renew");
  values.set("after", body.rows[0]?.dataset.number ?? "0");
  try {
    const answer = await fetch(form.action, { method: "POST", body: values, redirect: "manual" });
    if (answer.ok) {
      const news = await answer.json();
      show(news.lines);
      stopped = !news.is_on;
      say(stopped ? state.dataset.ended : "");
    } else {
      stopped = answer.type === "opaqueredirect" || answer.status === 403;
      say(state.dataset.failed);
    }
  } catch {
    say(state.dataset.failed);
  } finally {
    asking = false;
  }
}

document.addEventListener("visibilitychange", ask);
setInterval(ask, INTERVAL);
