"use strict";

function fact(name, value) {
  return known(value) ? el("div", {}, el("dt", {}, name), el("dd", {}, value)) : null;
}

function masthead() {
  const base = board.base, hash = base.sha256 ? ` (${base.sha256.slice(0, 12)})` : "";
  return [
    el("h1", {}, board.name),
    el("dl", { class: "facts" },
      fact("Preset", board.preset), fact("Budget a row and seed", `${short(board.budget)} FLOPs`), fact("Seeds", board.seeds),
      fact("Base model", `${base.ref}${hash}`), fact("Parameters", known(base.parameters) ? short(base.parameters) : null), fact("Bench", board.bench_id)),
    board.conditional_notes.length ? el("ul", { class: "notes", "aria-label": "Notes" }, ...board.conditional_notes.map((note) => el("li", {}, note))) : null,
  ];
}

function legend() {
  const headlines = {
    headroom: "Headroom gained = (gold − gold of start) / (best possible gold − gold of start): 0 is the checkpoint that everyone starts from, 1 the best possible answer.",
    win_start: "Wins against start: share of test prompts on which the row's answer beats that of the checkpoint that everyone starts from; ties count half.",
  };
  const text = headlines[board.headline];
  return el("p", { class: "soft small" }, text ? `${text} ` : "", "A rank range counts the rows separated above and below; rows whose ranges overlap are ties.");
}

function openTarget() {
  const target = /^#row-\d+$/.test(location.hash) ? document.getElementById(location.hash.slice(1)) : null;
  if (target) target.open = true;
}

function howTo() {
  return board.command ? section("Run it again", null, el("p", {}, el("code", {}, board.command))) : null;
}

document.getElementById("page").replaceChildren(
  ...[...masthead(), mainTable(), legend(), matrix(), frontier(), costs(), samples(), details(), howTo()].filter((part) => part !== null));
window.addEventListener("hashchange", openTarget);
openTarget();
