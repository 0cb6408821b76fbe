// The terminal: what is typed goes to the gateway over a WebSocket, and what the router says comes
// back. User and password are sent once, and forgotten here.

import { adoptStyles } from "./terminal_styles.js";

const room = document.getElementById("terminal");
const form = document.getElementById("terminal-login");
const keyBox = document.getElementById("host-key");
const said = document.getElementById("terminal-said");
const words = document.getElementById("terminal-words")?.dataset;

let socket = null;
let terminal = null;
let fit = null;

function say(text, tone = "") {
  said.textContent = text;
  said.className = `note ${tone}`;
  said.hidden = !text;
}

function worded(code) {
  const key = code.replace(/_(\w)/g, (_match, letter) => letter.toUpperCase());
  return Object.hasOwn(words, key) ? words[key] : `${words.other} ${code}`;
}

function send(what) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(what));
}

function show() {
  if (terminal) return;
  adoptStyles();
  terminal = new window.Terminal({ cursorBlink: true, screenReaderMode: true, scrollback: 5000, fontSize: 14 });
  fit = new window.FitAddon.FitAddon();
  terminal.loadAddon(fit);
  terminal.open(room);
  const encoder = new TextEncoder();
  terminal.onData((text) => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(encoder.encode(text));
  });
  terminal.onBinary((text) => {
    if (socket?.readyState === WebSocket.OPEN) {
      socket.send(Uint8Array.from(text, (one) => one.charCodeAt(0)));
    }
  });
  terminal.onResize(({ cols, rows }) => send({ do: "resize", columns: cols, rows }));
  new ResizeObserver(() => fit.fit()).observe(room);
}

function asks(on) {
  form.hidden = !on;
  if (on) form.elements.password.focus();
}

function hear(message) {
  if (message.say === "connecting") {
    say(words.connecting);
  } else if (message.say === "host_key") {
    document.getElementById("fingerprint").textContent = message.fingerprint;
    document.getElementById("key-new").hidden = Boolean(message.before);
    document.getElementById("key-changed").hidden = !message.before;
    keyBox.hidden = false;
    document.getElementById("key-yes").focus();
  } else if (message.say === "wrong_password") {
    say(words.wrongPassword, "bad");
    asks(message.left > 0);
  } else if (message.say === "open") {
    say("");
    fit.fit();
    terminal.focus();
  } else if (message.say === "over") {
    say(worded(message.why), message.why === "shell_ended" ? "" : "bad");
  }
}

function login() {
  const { user, password } = form.elements;
  const given = { user: user.value, password: password.value, columns: terminal.cols, rows: terminal.rows };
  password.value = "";
  asks(false);
  return given;
}

function connect() {
  show();
  room.hidden = false;
  fit.fit();
  if (socket?.readyState === WebSocket.OPEN) {
    send({ do: "login", ...login() });
    return;
  }
  terminal.reset();
  const address = new URL(room.dataset.socket, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  const begin = { do: "begin", csrf: room.dataset.csrf, ...login() };
  socket.addEventListener("open", () => send(begin));
  socket.addEventListener("message", (event) => {
    if (typeof event.data === "string") hear(JSON.parse(event.data));
    else terminal.write(new Uint8Array(event.data));
  });
  socket.addEventListener("close", () => {
    keyBox.hidden = true;
    if (said.hidden || said.textContent === words.connecting) say(words.linkLost, "bad");
    asks(true);
  });
}

if (room && window.Terminal) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    connect();
  });
  for (const [id, yes] of [["key-yes", true], ["key-no", false]]) {
    document.getElementById(id).addEventListener("click", () => {
      keyBox.hidden = true;
      send({ do: "trust", yes });
    });
  }
}
