// Keeps the list of sockets up to date. Rows are matched by id, so ticks, focus and the scroll position stay.

const INTERVAL = 2000;
// Seconds after which the age of the list is shown as late.
const LATE = 6;

const byId = (id) => document.getElementById(id);
const form = byId("changelist-form");
const body = byId("live-rows");
const template = byId("live-row");
const toggle = byId("action-toggle");
const counter = form.querySelector(".action-counter");
const age = byId("live-age");
const state = byId("live-state");
const pause = byId("live-pause");

let paused = false;
let stopped = false;
let asking = false;
let updated = Date.now();

// The selection

const boxes = () => [...body.querySelectorAll(".action-select")];

function count() {
  const all = boxes();
  const chosen = all.filter((box) => box.checked);
  for (const box of all) box.closest("tr").classList.toggle("selected", box.checked);
  if (toggle) {
    toggle.checked = all.length > 0 && chosen.length === all.length;
    toggle.indeterminate = chosen.length > 0 && chosen.length < all.length;
  }
  if (counter) counter.textContent = counter.dataset.text.replace("%(sel)s", chosen.length).replace("%(cnt)s", all.length);
}

if (toggle) {
  toggle.hidden = false;
  toggle.addEventListener("change", () => {
    for (const box of boxes()) box.checked = toggle.checked;
    count();
  });
}
body.addEventListener("change", count);

// The rows

function fill(row, values) {
  row.dataset.state = values.state;
  for (const [index, cell] of values.cells.entries()) {
    const found = row.querySelector(`.field-${cell.name}`);
    const target = index === 0 ? found.firstElementChild : found;
    if (target.textContent !== cell.text) target.textContent = cell.text;
  }
}

function make(values) {
  const row = template.content.firstElementChild.cloneNode(true);
  row.dataset.id = values.id;
  const box = row.querySelector(".action-select");
  if (box) {
    box.value = values.id;
    box.setAttribute("aria-label", box.dataset.label.replace("%s", values.label));
  }
  for (const [index, cell] of values.cells.entries()) {
    const element = document.createElement(index === 0 ? "th" : "td");
    element.className = `field-${cell.name}${cell.wide ? " wide" : ""}`;
    element.dataset.label = cell.label[0].toUpperCase() + cell.label.slice(1);
    if (index === 0) {
      element.scope = "row";
      const link = document.createElement("a");
      link.href = values.url;
      element.append(link);
    }
    row.append(element);
  }
  row.classList.add("fresh");
  return row;
}

function showRows(rows) {
  const known = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const wanted = rows.map((values) => {
    const row = known.get(values.id) ?? make(values);
    fill(row, values);
    return row;
  });
  for (const row of [...body.rows]) if (!wanted.includes(row)) row.remove();
  wanted.forEach((row, index) => {
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
}

function show(answer) {
  showRows(answer.rows);
  byId("live-summary").textContent = answer.summary;
  byId("live-footer").textContent = answer.footer;
  byId("live-empty").textContent = answer.empty;
  byId("live-empty").hidden = !answer.empty;
  const warnings = byId("live-warnings");
  const texts = [...warnings.children].map((item) => item.textContent);
  if (texts.join("\n") !== answer.warnings.join("\n")) {
    warnings.replaceChildren(
      ...answer.warnings.map((text) => {
        const item = document.createElement("li");
        item.className = "warning";
        item.textContent = text;
        return item;
      }),
    );
    warnings.hidden = answer.warnings.length === 0;
  }
  count();
}

// Asking

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function showAge() {
  const seconds = Math.round((Date.now() - updated) / 1000);
  age.textContent = paused ? age.dataset.paused : seconds < 1 ? age.dataset.now : age.dataset.ago.replace("%s", seconds);
  age.classList.toggle("late", !paused && !stopped && seconds > LATE);
}

const menuIsOpen = () => document.activeElement?.matches("#changelist-form select") ?? false;

async function ask() {
  if (asking || stopped || paused || document.hidden || menuIsOpen()) return;
  asking = true;
  try {
    const answer = await fetch(form.dataset.url, { redirect: "manual", headers: { Accept: "application/json" } });
    if (answer.type === "opaqueredirect" || answer.status === 403) {
      stopped = true;
      say(state.dataset.stopped);
    } else if (answer.ok) {
      show(await answer.json());
      updated = Date.now();
      say("");
    } else {
      say(state.dataset.failed);
    }
  } catch {
    say(state.dataset.failed);
  } finally {
    asking = false;
    showAge();
  }
}

// The filter is folded where the style sheet shows its summary, and cannot be folded elsewhere.

const filter = byId("live-filter");
let isNarrow = false;

function fold() {
  const wasNarrow = isNarrow;
  isNarrow = getComputedStyle(filter.firstElementChild).display !== "none";
  if (isNarrow !== wasNarrow) filter.open = !isNarrow;
}

if (filter) {
  fold();
  new ResizeObserver(fold).observe(byId("content-main"));
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.textContent = paused ? pause.dataset.resume : pause.dataset.pause;
  pause.setAttribute("aria-pressed", String(paused));
  showAge();
  ask();
});
document.addEventListener("visibilitychange", ask);
setInterval(ask, INTERVAL);
setInterval(showAge, 1000);
count();
showAge();
