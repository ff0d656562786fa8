/** One room. Everything from the server is inserted as text, never as HTML. */
import { connect } from "./sockets.js";

const find = (id) => document.getElementById(id);
const { slug, user: me, group } = find("chat").dataset;
const [scroll, messages, text] = [find("scroll"), find("messages"), find("text")];
const LOST = ["Reconnecting…", "Connection lost. Your messages are kept and will be sent when it is restored."];
const STATES = {
  connecting: ["Connecting…", ""],
  online: ["Online", ""],
  waiting: LOST,
  offline: LOST,
  refused: ["Signed out", "You are no longer logged in, or the room is gone."],
  closed: ["Disconnected", "The server ended the connection."],
};

// ---- Messages --------------------------------------------------------------------------------------

const shown = new Map(); // number -> element
let resume = 0; // all messages up to this number are shown; requests for the history start after it
let synced = false; // whether the requested history is complete

function showHistory({ messages: page, done }) {
  page.forEach(show);
  resume = Math.max(resume, page.at(-1)?.number ?? 0);
  advance();
  if (!done) return;
  synced = true;
  scroll.ariaBusy = "false";
  find("empty").hidden = shown.size + outbox.size > 0;
  flush();
}

function hear(said) {
  quiet(said.user);
  show(said);
  advance();
  if (synced && said.number > resume) recall();
}

/** Numbers have no gaps, so a missing number means a lost message. */
function advance() {
  while (shown.has(resume + 1)) resume++;
}

function recall() {
  synced = false;
  room.send({ type: "recall", after: resume });
}

function show(said) {
  if (said.user === me) settle(said.key);
  if (shown.has(said.number)) return;
  const follow = atEnd() || said.user === me;
  const item = bubble(said);
  item.dataset.number = said.number;
  item.dataset.author = said.user;
  shown.set(said.number, item);
  let before = messages.lastElementChild;
  while (before && Number(before.dataset.number) > said.number) before = before.previousElementSibling;
  before ? before.after(item) : messages.prepend(item);
  for (const one of [item, item.nextElementSibling]) one && join(one);
  find("empty").hidden = true;
  follow ? toEnd() : (find("newer").hidden = false);
}

/** Consecutive messages of one author share one heading. */
function join(item) {
  item.classList.toggle("same", item.previousElementSibling?.dataset.author === item.dataset.author);
}

function bubble({ user, text, sent_at }) {
  const item = element("li", user === me ? "mine" : "");
  item.style.setProperty("--hue", [...user].reduce((hue, sign) => (hue * 31 + sign.codePointAt(0)) % 360, 7));
  const body = element("div", "bubble");
  const head = element("p", "head");
  head.append(element("strong", "", user === me ? "You" : user));
  const foot = element("p", "foot");
  if (sent_at) foot.append(moment(new Date(sent_at)));
  body.append(head, element("p", "text", text), foot);
  item.append(element("span", "avatar", [...user][0].toUpperCase()), body);
  item.firstChild.ariaHidden = "true";
  return item;
}

function moment(date) {
  const today = date.toDateString() === new Date().toDateString();
  const time = element("time", "", date.toLocaleString([], {
    ...(today ? {} : { day: "numeric", month: "short" }), hour: "2-digit", minute: "2-digit",
  }));
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  return time;
}

function element(name, className, content = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = content;
  return made;
}

// ---- Messages to send -----------------------------------------------------------------------------

const store = `chat:${me}:${slug}`; // survives a reload of the tab
const outbox = new Map(); // key -> { text, item, sent }

function post(text, key = newKey()) {
  const item = bubble({ user: me, text });
  item.classList.add("waiting");
  outbox.set(key, { text, item, sent: false });
  find("outbox").append(item);
  find("empty").hidden = true;
  keep();
  toEnd();
}

/** Send what this connection has not sent yet. Sending twice is harmless: the server recognizes the key. */
function flush() {
  for (const [key, entry] of outbox) {
    const ready = synced && !entry.sent && !entry.failed;
    if (ready) entry.sent = room.send({ type: "post", id: key, key, text: entry.text });
    if (!entry.failed) note(entry, entry.sent ? "Sending…" : "Waiting for the connection");
  }
}

function settle(key) {
  outbox.get(key)?.item.remove();
  if (outbox.delete(key)) keep();
}

function fail(key, detail) {
  const entry = outbox.get(key);
  entry.failed = true;
  entry.item.classList.add("failed");
  note(entry, `Not sent. ${detail}`);
  keep();
}

function note({ item }, words) {
  item.querySelector(".foot").textContent = words;
}

function keep() {
  const waiting = [...outbox].filter(([, entry]) => !entry.failed).map(([key, { text }]) => [key, text]);
  sessionStorage.setItem(store, JSON.stringify(waiting));
}

/** `crypto.randomUUID` is not available over plain http, as used by a phone on the same network. */
function newKey() {
  return "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
    (digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)))).toString(16));
}

// ---- Who is typing ---------------------------------------------------------------------------------

const typing = new Map(); // user -> timer
let told = 0;

function tellTyping() {
  if (!text.value.trim() || Date.now() - told < 2_000) return;
  if (room.send({ type: "typing" })) told = Date.now();
}

function hearTyping(user) {
  clearTimeout(typing.get(user));
  typing.set(user, setTimeout(() => quiet(user), 4_000));
  showTyping();
}

function quiet(user) {
  clearTimeout(typing.get(user));
  if (typing.delete(user)) showTyping();
}

function showTyping() {
  const names = [...typing.keys()];
  const words = names.length > 2 ? "Several people are" : names.join(" and ") + (names.length > 1 ? " are" : " is");
  find("typing").textContent = names.length ? `${words} typing…` : "";
}

// ---- Who is here -----------------------------------------------------------------------------------

function showPeople() {
  const names = [...here.people.values()].map(({ name }) => name).sort();
  find("people").replaceChildren(...names.map((name) => element("li", "", name === me ? `${name} (you)` : name)));
  find("count").textContent = here.count === 1 ? "1 person here" : `${here.count} people here`;
}

// ---- The page --------------------------------------------------------------------------------------

function showState(status) {
  // While it reconnects, the page does not switch back and forth at each attempt.
  const state = status === "connecting" && STATES[find("state").dataset.state] === LOST ? "waiting" : status;
  const [short, long] = STATES[state];
  find("state").dataset.state = state;
  find("state").firstElementChild.textContent = short;
  find("banner").hidden = !long;
  find("banner-text").textContent = long;
  find("retry").hidden = state === "refused";
  find("login").hidden = state !== "refused";
  if (state === "online") return;
  synced = false;
  told = 0;
  for (const entry of outbox.values()) entry.sent = false;
  flush();
}

function atEnd() {
  return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
}

function toEnd() {
  scroll.scrollTop = scroll.scrollHeight;
  find("newer").hidden = true;
}

find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const written = text.value.trim();
  if (!written) return;
  post(written);
  flush();
  text.value = "";
  told = 0;
  text.focus();
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  find("composer").requestSubmit();
});
text.addEventListener("input", tellTyping);
find("retry").addEventListener("click", () => room.retry());
find("newer").addEventListener("click", toEnd);
scroll.addEventListener("scroll", () => atEnd() && (find("newer").hidden = true));

// What waits for the connection is in the outbox, so the client itself keeps nothing.
const room = connect("/ws/chat/{slug}", { params: { slug }, query: () => ({ after: resume }), queue: 0 });
const here = room.live.group(group);
here.on("presence", showPeople);
room.onStatus(showState);
room.on("history", showHistory);
room.on("said", hear);
room.on("posted", ({ message }) => hear(message));
room.on("error", ({ id, detail }) => outbox.has(id) && fail(id, detail[0]?.msg ?? detail));
room.on("typing", ({ user }) => user !== me && hearTyping(user));
for (const [key, kept] of JSON.parse(sessionStorage.getItem(store) ?? "[]")) post(kept, key);
flush();
text.focus();
