"use strict";
// Shows the counter as the machine sends it; #ready and the title say what works.

let socketState = "waiting";
let cookieState = "waiting";

function show() {
  const text = `plc websocket ${socketState}, cookie ${cookieState}`;
  document.getElementById("ready").textContent = text;
  if (socketState !== "waiting" && cookieState !== "waiting") document.title = text;
}

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const connection = new WebSocket(`${scheme}//${location.host}/ws`);
connection.onmessage = (message) => {
  document.getElementById("bottles").textContent = JSON.parse(message.data).bottles;
  socketState = "ok";
  show();
};
connection.onclose = () => {
  socketState = socketState === "ok" ? "closed" : "failed";
  show();
};

fetch("/value")
  .then((answer) => answer.json())
  .then((said) => said.cookie, () => false)
  .then((known) => {
    cookieState = known ? "ok" : "failed";
    show();
  });
