"use strict";
// The reward-KL plot, the cost bars and the matrix of pairs.

const WIDTH = 760, HEIGHT = 400, LEFT = 54, RIGHT = 130, TOP = 14, BOTTOM = 44;
const scorer = board.headline === null ? "proxy" : "gold";
const color = (index) => `f${index % 10}`;

function section(title, explanation, ...children) {
  return el("section", {}, el("h2", {}, title), explanation ? el("p", { class: "soft small" }, explanation) : null, ...children);
}

function frontier() {
  const rows = board.rows.filter((row) => known(row[scorer].mean) && known(row.kl_start.mean));
  if (rows.length === 0) return null;
  const points = rows.flatMap((row) => [...row.by_seed, ...row.curve]).filter((p) => known(p[scorer]) && known(p.kl_start));
  const kl = points.map((point) => point.kl_start), scores = points.map((point) => point[scorer]);
  const pad = (Math.max(...scores) - Math.min(...scores)) * 0.06 || 0.1;
  const x = scale(0, Math.max(...kl) * 1.04 || 1, LEFT, WIDTH - RIGHT);
  const range = [Math.min(...scores) - pad, Math.max(...scores) + pad];
  const y = scale(range[0], range[1], HEIGHT - BOTTOM, TOP);
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": `${scorer} against KL` },
    ...axes(x, y, Math.max(...kl) * 1.04 || 1, range),
    ...rows.map((row, index) => track(row, index, x, y)),
    ...labels(rows, x, y));
  return section("Reward against divergence",
    `Large dots: mean over seeds; small dots: seeds; dotted: the same runs before their end (unfinished runs, diagnostics only).`,
    el("div", { class: "wide" }, chart));
}

function axes(x, y, highest, range) {
  const across = ticks(0, highest, 6).flatMap((tick) => [
    svg("line", { class: "axis", x1: x(tick), x2: x(tick), y1: TOP, y2: HEIGHT - BOTTOM }),
    svg("text", { x: x(tick), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, Number(tick.toPrecision(6))),
  ]);
  const up = ticks(range[0], range[1], 6).flatMap((tick) => [
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
    svg("text", { x: LEFT - 8, y: y(tick) + 4, "text-anchor": "end" }, Number(tick.toPrecision(6))),
  ]);
  return [...across, ...up,
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "KL(policy ‖ start), nats a response"),
    svg("text", { x: 14, y: (TOP + HEIGHT - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(TOP + HEIGHT - BOTTOM) / 2})` }, scorer)];
}

function track(row, index, x, y) {
  const there = (point) => known(point[scorer]) && known(point.kl_start);
  const path = row.curve.filter(there).map((point) => `${x(point.kl_start)},${y(point[scorer])}`);
  return svg("g", { class: color(index) },
    path.length > 1 ? svg("polyline", { class: "path", points: path.join(" ") }) : null,
    ...row.by_seed.filter(there).map((point) => svg("circle", { class: "seed", cx: x(point.kl_start), cy: y(point[scorer]), r: 3 })),
    svg("circle", { cx: x(row.kl_start.mean), cy: y(row[scorer].mean), r: 6 }));
}

// Labels right of their dots, pushed down where they would cover one another.
function labels(rows, x, y) {
  const placed = [];
  const sorted = rows.map((row) => ({ row, left: x(row.kl_start.mean) + 10, top: y(row[scorer].mean) + 4 })).sort((a, b) => a.top - b.top);
  for (const label of sorted) {
    for (const other of placed) {
      if (Math.abs(other.left - label.left) < 90 && label.top - other.top < 13) label.top = other.top + 13;
    }
    placed.push(label);
  }
  return placed.map(({ row, left, top }) => svg("text", { class: "label", x: left, y: top }, clip(row.row)));
}

function clip(text) {
  return text.length > 20 ? `${text.slice(0, 19)}…` : text;
}

function costs() {
  const rows = board.rows.filter((row) => Object.keys(row.flops_by_role_phase).length);
  if (rows.length === 0) return null;
  const parts = [...new Set(rows.flatMap((row) => Object.keys(row.flops_by_role_phase)))].sort();
  const most = Math.max(...rows.map((row) => total(row)));
  const legend = el("div", { class: "legend" }, ...parts.map((part, index) => el("span", {}, el("span", { class: `swatch ${color(index)}` }), part)));
  const titles = ["Row", "Where the compute went", "FLOPs", "Stages", "Updates", "Tokens sampled", "Judge calls", "Labels", "Seconds", "Memory"];
  const head = el("tr", {}, ...titles.map((title, index) => el("th", { scope: "col", class: index < 2 ? "left" : "" }, title)));
  const lines = rows.map((row) => el("tr", {}, el("td", { class: "name" }, row.row), el("td", {}, costBar(row, parts, most)), ...costCells(row)));
  return section("What it cost", "Means over seeds. The stages before a row's own training are charged to it in full; memory is the highest peak of any seed.",
    legend, el("div", { class: "wide" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...lines))));
}

function total(row) {
  return Object.values(row.flops_by_role_phase).reduce((sum, flops) => sum + flops, 0);
}

function costBar(row, parts, most) {
  const bar = el("div", { class: "bar" });
  bar.style.width = "220px";
  parts.forEach((part, index) => {
    const flops = row.flops_by_role_phase[part] ?? 0;
    const piece = el("div", { class: color(index), title: `${part}: ${short(flops)} FLOPs, ${percent(flops / (total(row) || 1))}` });
    piece.style.width = `${(100 * flops) / (most || 1)}%`;
    bar.append(piece);
  });
  return bar;
}

function costCells(row) {
  const shares = row.stages.map((stage) => stage.share).filter(known);
  const labels = Object.entries(row.labels).filter(([, count]) => count).map(([name, count]) => `${short(count)} ${name}`);
  const cells = [
    short(row.flops_used), shares.length ? percent(shares.reduce((a, b) => a + b, 0)) : NONE, short(row.updates), short(row.generated_tokens),
    short(row.scorer_calls), labels.join(", ") || NONE, number(row.wall_seconds, 0), known(row.peak_memory_bytes) ? `${short(row.peak_memory_bytes)}B` : NONE,
  ];
  return cells.map((cell, index) => el("td", { class: index === 5 ? "wrap" : "" }, cell));
}

function matrix() {
  if (board.pairs.length === 0) return null;
  const names = board.rows.map((row) => row.row).filter((name) => board.pairs.some((pair) => pair.a === name || pair.b === name));
  const head = el("tr", {}, el("th"), ...names.map((name) => el("th", { scope: "col", title: name }, name)));
  const lines = names.map((row) => el("tr", {}, el("th", { scope: "row", class: "left", title: row }, row), ...names.map((column) => pairCell(row, column))));
  const detectable = known(board.minimum_detectable_difference)
    ? ` With these seeds and this spread, differences from about ${number(board.minimum_detectable_difference)} on are found in 4 of 5 boards.` : "";
  return section("Who differs from whom",
    `Row minus column, paired by seed. Coloured: separated (corrected for all pairs, p < .05).${detectable}`,
    el("div", { class: "wide" }, el("table", { class: "matrix" }, el("thead", {}, head), el("tbody", {}, ...lines))));
}

function pairCell(row, column) {
  const pair = board.pairs.find((one) => (one.a === row && one.b === column) || (one.a === column && one.b === row));
  if (!pair || !known(pair.difference)) return el("td", { class: "soft" }, row === column ? "" : NONE);
  const sign = pair.a === row ? 1 : -1;
  const p = known(pair.p_adjusted) ? `, p ${pair.p_adjusted.toPrecision(2)} corrected for all pairs` : "";
  const more = known(pair.seeds_needed) ? `; ${pair.seeds_needed} seeds would probably separate them` : "";
  const state = pair.separated ? `apart ${sign > 0 ? "good" : "bad"}` : "soft";
  return el("td", { class: state, title: `${pair.n} seeds${p}${more}` }, number(sign * pair.difference, 2, true));
}
