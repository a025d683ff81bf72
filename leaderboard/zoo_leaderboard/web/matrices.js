"use strict";
// Who differs from whom, the tasks, and rows at equal divergence: tables whose cells are coloured.

function pairMatrix() {
  if (board.pairs.length === 0) return null;
  const names = board.rows.map((row) => row.row).filter((name) => board.pairs.some((pair) => pair.a === name || pair.b === name));
  const lines = names.map((row) => [row, ...names.map((column) => pairCell(row, column))]);
  const detectable = known(board.minimum_detectable_difference)
    ? ` With these seeds and this spread, differences from about ${number(board.minimum_detectable_difference)} on are found in 4 of 5 boards.` : "";
  return section("matrix", "Who differs from whom",
    `Row minus column, paired by seed. Coloured: separated (corrected for all pairs, p < .05).${detectable}`, matrix("Pairs", "Row", names, lines));
}

function pairCell(row, column) {
  const pair = pairOf(row, column);
  if (!pair || !known(pair.difference)) return el("td", { class: "soft" }, row === column ? "" : NONE);
  const sign = pair.a === row ? 1 : -1;
  return el("td", { class: pair.separated ? (sign > 0 ? "up2" : "down2") : "soft", title: pair.words }, number(sign * pair.difference, 2, true));
}

function taskMap() {
  const tasks = [...new Set(board.rows.flatMap((row) => Object.keys(row.tasks)))].sort();
  const parts = [...new Set(board.rows.flatMap((row) => Object.keys(row.parts)))].sort();
  if (tasks.length + parts.length === 0) return null;
  const start = board.rows.find((row) => row.row === "start");
  const rows = board.rows.filter((row) => row.seeds_ok);
  const lines = rows.map((row) => [row.row,
    ...tasks.map((task) => changeCell(row.tasks[task], row.tasks[task]?.delta_start)),
    ...parts.map((part) => changeCell(row.parts[part], minus(row.parts[part], start?.parts[part])))]);
  return section("tasks", "Tasks and parts of gold", "Means over seeds. Green: above start; red: below it; strong colour: by more than 0.05.",
    matrix("Tasks and parts of gold", "Row", [...tasks, ...parts], lines));
}

function minus(quantity, other) {
  return { mean: known(quantity?.mean) && known(other?.mean) ? quantity.mean - other.mean : null };
}

function changeCell(quantity, change) {
  const by = change?.mean ?? 0, strength = Math.abs(by) > 0.05 ? 2 : 1;
  const state = Math.abs(by) < 0.005 ? "" : by > 0 ? `up${strength}` : `down${strength}`;
  return el("td", { class: state, title: known(change?.mean) ? `${number(by, 3, true)} against start` : "" }, number(quantity?.mean));
}

function equalDivergence() {
  const rows = board.rows.filter((row) => Object.keys(row.gold_at_kl ?? {}).length);
  const levels = [...new Set(rows.flatMap((row) => Object.keys(row.gold_at_kl)))].sort((a, b) => a - b);
  if (levels.length === 0) return null;
  const lines = rows.map((row) => [row.row, ...levels.map((level) => el("td", {}, row.gold_at_kl[level] ? `${interval(row.gold_at_kl[level])}` : NONE))]);
  return section("equal-kl", "At the same divergence",
    "Gold at temperature 1 when a run first reached that KL to start, in nats a response, over the seeds that went so far. Points before the end of a run are unfinished ones.",
    matrix("Gold at equal divergence", "Row", levels.map((level) => `KL ${level}`), lines));
}

function matrix(label, corner, names, lines) {
  const head = el("tr", {}, el("th", { scope: "col" }, corner), ...names.map((name) => el("th", { scope: "col" }, name)));
  return wide(label, el("table", { class: "matrix" }, el("thead", {}, head),
    el("tbody", {}, ...lines.map(([name, ...cells]) => el("tr", {}, el("th", { scope: "row" }, name), ...cells)))));
}
