"use strict";
// Charts by Observable Plot. It draws text as text; colours are those of the page, so that they turn dark with it.

const COLORS = Array.from({ length: 12 }, (_, index) => `var(--c${index})`);
const ROW_HEIGHT = 15;
const NARROW = 500;
const DASHES = ["2 4", "8 4", "1 7"], SYMBOLS = ["circle", "square2", "triangle"];

// A row looks the same in all charts. Where there are more rows than colours, the next ones have other marks and dashes.
const placeOf = (name) => Math.max(0, board.rows.findIndex((row) => row.row === name));
const colorOf = (one) => COLORS[placeOf(one.name) % COLORS.length];
const lapOf = (one) => Math.floor(placeOf(one.name) / COLORS.length) % DASHES.length;
const symbol = (one) => SYMBOLS[lapOf(one)];
const dashed = (points) => DASHES.map((strokeDasharray, lap) =>
  Plot.line(points.filter((one) => lapOf(one) === lap), { x: "x", y: "y", z: "name", stroke: colorOf, strokeDasharray }));

// To a screen reader a chart is one picture with a name; its numbers stand in the tables.
function chart(label, marks, options) {
  const svg = Plot.plot({ className: "plot", style: { fontSize: "12px", background: "transparent" }, ariaLabel: label, marks, ...options });
  svg.setAttribute("role", "img");
  for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label");
  return svg;
}

// Names stand at the right edge, one under another, with a thin line to what they name: they never cover each other.
function named(label, points, marks, options) {
  const sized = { marginRight: 150, marginLeft: 54, marginBottom: 40, height: Math.max(340, points.length * ROW_HEIGHT + 70), ...options };
  const bare = chart(label, marks, sized), x = bare.scale("x"), y = bare.scale("y");
  const tops = spread(points.map((point) => y.apply(point.y)), ROW_HEIGHT, Math.min(...y.range), Math.max(...y.range));
  const right = x.domain[1];
  const names = points.map((point, index) => ({ ...point, right, top: y.invert(tops[index]) }));
  return chart(label, [
    ...marks,
    Plot.link(names, { x1: "x", y1: "y", x2: "right", y2: "top", stroke: colorOf, strokeOpacity: 0.6 }),
    Plot.text(names, { x: "right", y: "top", text: (point) => clip(point.name), textAnchor: "start", dx: 6, fill: "currentColor" }),
  ], { ...sized, x: { ...sized.x, domain: x.domain }, y: { ...sized.y, domain: y.domain } });
}

// Heights at least `gap` apart, in the order of the given ones, between low and high where there is room.
function spread(heights, gap, low, high) {
  const order = heights.map((height, index) => [height, index]).sort((a, b) => a[0] - b[0]);
  const placed = [];
  let last = low - gap;
  for (const [height] of order) placed.push(last = Math.max(height, last + gap));
  let limit = high + gap;
  for (let i = placed.length - 1; i >= 0; i--) limit = placed[i] = Math.min(placed[i], limit - gap);
  const found = new Array(heights.length);
  order.forEach(([, index], place) => { found[index] = placed[place]; });
  return found;
}

function clip(text) {
  return text.length > 20 ? `${text.slice(0, 19)}…` : text;
}

function frontier() {
  const rows = board.rows.filter((row) => known(row[scorer].mean) && known(row.kl_start.mean));
  if (rows.length === 0) return null;
  const there = (point) => known(point[scorer]) && known(point.kl_start);
  const point = (row, one) => ({ name: row.row, x: one.kl_start, y: one[scorer] });
  const means = rows.map((row) => ({ name: row.row, x: row.kl_start.mean, y: row[scorer].mean }));
  const seeds = rows.flatMap((row) => row.by_seed.filter(there).map((one) => point(row, one)));
  const paths = rows.flatMap((row) => row.curve.filter(there).map((one) => point(row, one)));
  const furthest = Math.max(...[...means, ...seeds, ...paths].map((one) => one.x));
  const ticks = (width) => apart([0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], furthest, width);
  const draw = (width) => named(`${scorer} against KL`, means, [
    Plot.line(front(means), { x: "x", y: "y", curve: "step-after", stroke: "currentColor", strokeOpacity: 0.5 }),
    ...dashed(paths),
    Plot.dot(seeds, { x: "x", y: "y", fill: colorOf, symbol, fillOpacity: 0.4, r: 2.5 }),
    Plot.dot(means, { x: "x", y: "y", fill: colorOf, symbol, r: 5, title: (one) => `${one.name}: ${scorer} ${number(one.y)}, KL ${number(one.x, 1)}` }),
  ], { width, x: { label: "KL(policy ‖ start), nats a response", type: "sqrt", ticks: ticks(width), zero: true, grid: true }, y: { label: scorer, grid: true, nice: true } });
  return section("frontier", "Reward against divergence",
    "Large dots: means over seeds, small dots: seeds, both at a row's best temperature. The stepped line joins the best means at each divergence. Dotted: the same runs on their way, at temperature 1. Rows after the first twelve have squares and dashes. The lower axis goes by the square root.",
    drawn(draw));
}

// Ticks of an axis of square roots that have room beside the one before.
function apart(ticks, furthest, width) {
  const inner = width - 204, place = (tick) => inner * Math.sqrt(tick / furthest);
  return ticks.filter((tick) => tick <= furthest).reduce((kept, tick) =>
    kept.length && place(tick) - place(kept.at(-1)) < 28 ? kept : [...kept, tick], []);
}

// The means that no other mean beats with as little divergence.
function front(means) {
  let best = -Infinity;
  return [...means].sort((a, b) => a.x - b.x || b.y - a.y).filter((one) => one.y > best && (best = one.y, true));
}

function anytime() {
  const rows = board.rows.filter((row) => row.curve.some((point) => known(point[scorer]) && known(point.flops)));
  if (rows.length === 0) return null;
  const there = (one) => known(one[scorer]) && known(one.flops);
  const points = rows.flatMap((row) => row.curve.filter(there).map((one) => ({ name: row.row, x: one.flops, y: one[scorer] })));
  const ends = rows.map((row) => points.findLast((one) => one.name === row.row));
  const draw = (width) => named(`${scorer} while training`, ends, [
    ...dashed(points),
    Plot.dot(ends, { x: "x", y: "y", fill: colorOf, symbol, r: 5 }),
  ], { width, x: { label: "FLOPs, stages included", tickFormat: short, ticks: width < NARROW ? 2 : 5, zero: true }, y: { label: scorer, grid: true, nice: true } });
  return section("anytime", "While training",
    "Answers at temperature 1. Points before the end are of unfinished runs, whose learning rate has not come down: they show over-optimisation, not who would win with less compute.", drawn(draw));
}

function costs() {
  const rows = board.rows.filter((row) => Object.keys(row.flops_by_role_phase).length);
  if (rows.length === 0) return null;
  const parts = [...new Set(rows.flatMap((row) => Object.keys(row.flops_by_role_phase)))].sort();
  const pieces = rows.flatMap((row) => parts.map((part) => ({ row: row.row, part, flops: row.flops_by_role_phase[part] ?? 0 })));
  const draw = (width) => chart("Where the compute went", [
    Plot.barX(pieces, Plot.stackX({ x: "flops", y: "row", fill: (one) => COLORS[parts.indexOf(one.part) % COLORS.length], order: parts, title: (one) => `${one.row}, ${one.part}: ${short(one.flops)} FLOPs` })),
  ], { width, height: rows.length * 24 + 60, marginLeft: 120, marginBottom: 42, x: { label: "FLOPs", labelOffset: 38, tickFormat: short, ticks: width < NARROW ? 2 : 5 }, y: { label: null, domain: rows.map((row) => row.row), tickFormat: clip } });
  const legend = el("p", { class: "legend" }, ...parts.map((part, index) => el("span", {}, el("span", { class: `swatch f${index % COLORS.length}` }), part)));
  return section("costs", "Where each FLOP went", "Means over seeds. The stages before a row's own training are charged to it in full; memory is the highest peak of any seed.",
    legend, drawn(draw), costTable(rows));
}

function costTable(rows) {
  const titles = ["Row", "FLOPs", "Stages", "Updates", "Tokens sampled", "Judge calls", "Labels", "Seconds", "Memory"];
  const lines = rows.map((row) => {
    const shares = row.stages.map((stage) => stage.share).filter(known);
    const labels = Object.entries(row.labels).filter(([, count]) => count).map(([name, count]) => `${short(count)} ${name}`);
    const cells = [short(row.flops_used), shares.length ? percent(shares.reduce((a, b) => a + b, 0)) : NONE, short(row.updates), short(row.generated_tokens),
      short(row.judge_calls), labels.join(", ") || NONE, number(row.wall_seconds, 0), bytes(row.peak_memory_bytes)];
    return el("tr", {}, el("th", { scope: "row" }, row.row), ...cells.map((cell) => el("td", {}, cell)));
  });
  return wide("Costs", el("table", { class: "costs" }, el("thead", {}, el("tr", {}, ...titles.map((title) => el("th", { scope: "col" }, title)))), el("tbody", {}, ...lines)));
}

function bytes(count) {
  return known(count) ? `${short(count)}B` : NONE;
}

// Charts are drawn as wide as their place, and again where that changes.
function drawn(draw) {
  const place = el("div", { class: "chart" });
  let width = 0;
  const redraw = () => {
    const room = Math.max(320, Math.min(1100, Math.floor(place.clientWidth)));
    if (room === width) return;
    width = room;
    place.replaceChildren(draw(width));
  };
  new ResizeObserver(() => requestAnimationFrame(redraw)).observe(place);
  return place;
}
