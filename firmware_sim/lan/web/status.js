"use strict";
// Counts what really arrived, usable: an icon that is drawn, a style that applies, a script that
// ran, a value that parses. The line #ready and the title say the outcome.

const WANTED = 60;
const arrived = new Set();
const failed = new Set();
let socketState = "waiting";
let cookieState = "waiting";
window.scripts = new Set();

const two = (number) => String(number).padStart(2, "0");
const byId = (id) => document.getElementById(id);

function show() {
  let text = `${arrived.size} of ${WANTED} objects, websocket ${socketState}, cookie ${cookieState}`;
  const good = arrived.size === WANTED && socketState === "ok" && cookieState === "ok";
  if (failed.size > 0) text += `; failed: ${[...failed].sort().join(" ")}`;
  byId("ready").textContent = text;
  byId("ready").classList.toggle("good", good);
  if (good || failed.size > 0 || socketState === "failed" || cookieState === "failed") document.title = text;
}

function note(name, good) {
  (good ? arrived : failed).add(name);
  show();
}

function icon(number) {
  const name = `icon-${two(number)}.${number <= 15 ? "svg" : "png"}`;
  const image = new Image();
  image.alt = "";
  image.onload = () => note(name, image.naturalWidth === 24 && image.naturalHeight === 24);
  image.onerror = () => note(name, false);
  image.src = `/piece/${name}`;
  byId("icons").append(image);
}

function style(number) {
  const name = `style-${two(number)}`;
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.onload = () => {
    const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
    note(name, value.trim() === "ok");
  };
  link.onerror = () => note(name, false);
  link.href = `/piece/${name}.css`;
  document.head.append(link);
}

function script(number) {
  const name = `script-${two(number)}`;
  const element = document.createElement("script");
  element.onload = () => note(name, window.scripts.has(name));
  element.onerror = () => note(name, false);
  element.src = `/piece/${name}.js`;
  document.head.append(element);
}

async function value(number) {
  const name = `value-${two(number)}`;
  try {
    const answer = await fetch(`/api/value/${number}`);
    const content = await answer.json();
    const term = document.createElement("dt");
    const said = document.createElement("dd");
    term.textContent = content.name;
    said.textContent = content.value;
    byId("values").append(term, said);
    note(name, answer.ok && content.number === number);
  } catch {
    note(name, false);
  }
}

function socket() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const connection = new WebSocket(`${scheme}//${location.host}/ws`);
  const hello = `hello ${Math.random()} ž €`;
  let echoed = false;
  let ticked = false;
  connection.onopen = () => connection.send(hello);
  connection.onmessage = (message) => {
    if (message.data === hello) {
      echoed = true;
    } else {
      const said = JSON.parse(message.data);
      ticked = true;
      byId("rsrp").textContent = said.rsrp;
      byId("sinr").textContent = said.sinr;
      byId("uptime").textContent = said.uptime;
    }
    if (echoed && ticked) socketState = "ok";
    show();
  };
  connection.onclose = () => {
    socketState = socketState === "ok" ? "closed" : "failed";
    show();
  };
}

async function cookies() {
  try {
    const answer = await fetch("/api/cookies");
    const sent = await answer.json();
    const hidden = !document.cookie.includes("sysauth");
    const theme = document.cookie.split("; ").includes("theme=harbour");
    cookieState = sent.signed_in && sent.theme && hidden && theme ? "ok" : "failed";
  } catch {
    cookieState = "failed";
  }
  show();
}

for (let number = 1; number <= 30; number++) icon(number);
for (let number = 1; number <= 10; number++) {
  style(number);
  script(number);
  value(number);
}
socket();
cookies();
