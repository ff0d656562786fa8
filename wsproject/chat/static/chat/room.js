/** One room. Everything from the server is inserted as text, never as HTML. */
import { Live } from "../fastws/live.js";

const find = (id) => document.getElementById(id);
const { socket: path, user: me, max } = find("chat").dataset;
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

const receive = {
  history({ messages: page, done }) {
    page.forEach(show);
    resume = Math.max(resume, page.at(-1)?.number ?? 0);
    advance();
    if (!done) return;
    synced = true;
    scroll.ariaBusy = "false";
    find("empty").hidden = shown.size + outbox.size > 0;
    flush();
  },

  message(frame) {
    show(frame);
    quiet(frame.user);
    advance();
    if (synced && frame.number > resume) recall();
  },

  typing({ user }) {
    if (user !== me) hearTyping(user);
  },

  error({ key, detail }) {
    if (outbox.has(key)) fail(key, detail);
  },
};

/** Numbers have no gaps, so a missing number means a lost message. */
function advance() {
  while (shown.has(resume + 1)) resume++;
}

function recall() {
  synced = false;
  live.send({ type: "history", after: resume });
}

function show(frame) {
  if (frame.user === me) settle(frame.key);
  if (shown.has(frame.number)) return;
  const follow = atEnd() || frame.user === me;
  const item = bubble(frame);
  item.dataset.number = frame.number;
  item.dataset.author = frame.user;
  shown.set(frame.number, item);
  let before = messages.lastElementChild;
  while (before && Number(before.dataset.number) > frame.number) before = before.previousElementSibling;
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

const store = `chat:${me}:${path}`; // survives a reload of the tab
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
    if (synced && !entry.sent && !entry.failed) entry.sent = live.send({ type: "message", key, text: entry.text });
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
  if (live.send({ type: "typing" })) told = Date.now();
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
find("retry").addEventListener("click", () => live.retry());
find("newer").addEventListener("click", toEnd);
scroll.addEventListener("scroll", () => atEnd() && (find("newer").hidden = true));

const live = new Live(path, { query: () => ({ after: resume }), heartbeat: true });
live.onStatus(showState);
live.on("message", (frame) => receive[frame.type]?.(frame));
for (const [key, kept] of JSON.parse(sessionStorage.getItem(store) ?? "[]")) post(kept, key);
flush();
text.focus();
