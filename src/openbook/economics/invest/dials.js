// Moves the dials: asks the server for the answer to their positions and puts its parts into the page.
// It computes nothing itself.
"use strict";

const form = document.getElementById("dials");
const status = document.getElementById("dials-status");
let asked = 0;
let timer = 0;

function positions() {
  const found = {};
  for (const dial of form.querySelectorAll("input[type=range]")) {
    if (dial.dataset.moved) found[dial.name] = Number(dial.value);
  }
  return found;
}

function show(dial) {
  const scale = Number(dial.dataset.scale);
  const value = (Number(dial.value) * scale).toFixed(Number(dial.dataset.digits));
  const shown = dial.dataset.before + value + dial.dataset.after;
  dial.setAttribute("aria-valuetext", shown);
  document.getElementById(dial.id + "-value").textContent = shown;
}

async function ask() {
  const number = ++asked;
  status.textContent = "computing ...";
  form.setAttribute("aria-busy", "true");
  let said;
  try {
    const response = await fetch("/answer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(positions()),
    });
    said = await response.json();
  } catch {
    said = { error: "the server does not answer; is `openbook invest --serve` still running?" };
  }
  if (number !== asked) return; // a later question is on its way
  form.removeAttribute("aria-busy");
  if (said.error) {
    status.textContent = said.error;
    return;
  }
  for (const [id, html] of Object.entries(said.parts)) {
    const part = document.getElementById(id);
    if (part) part.innerHTML = html;
  }
  status.textContent = said.status;
  document.body.dataset.answered = String(number);
}

form.addEventListener("input", (event) => {
  const dial = event.target;
  dial.dataset.moved = "yes";
  show(dial);
  clearTimeout(timer);
  timer = setTimeout(ask, 200);
});

form.addEventListener("submit", (event) => event.preventDefault());

form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const dial of form.querySelectorAll("input[type=range]")) {
    dial.value = dial.defaultValue;
    delete dial.dataset.moved;
    show(dial);
    document.getElementById(dial.id + "-value").textContent = dial.dataset.initially;
  }
  clearTimeout(timer);
  ask();
});
