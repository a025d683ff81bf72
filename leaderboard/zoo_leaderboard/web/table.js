"use strict";
// The main table: one block of rows per status, sortable within each block.

const HEADLINES = { headroom: "Headroom gained", win_start: "Wins against start" };
const BLOCKS = {
  "pays tax": "Pays tax: capability separated below start by more than 2 points; ranked by themselves",
  unreliable: "Unreliable: too many failed seeds; the numbers are those of the seeds that survived",
  unfinished: "Unfinished: cells are still missing",
  failed: "Failed: every seed",
  reference: "Reference rows: not ranked",
};

function columns() {
  const mean = (name) => (row) => row[name].mean;
  const columns = [
    { title: "Rank", value: (row) => row.rank_low === null ? null : row.rank_low + row.rank_high / 1000, show: rank, up: true },
    { title: "Algorithm", value: (row) => row.row, show: nameCell, className: "name", up: true },
    { title: HEADLINES[board.headline] ?? "Headline", value: mean("headline"), show: (row) => number(row.headline.mean) },
    { title: "95 % interval", value: (row) => row.headline.low, show: intervalCell, className: "bars", hint: "over seeds; sorts by the lower end" },
    { title: "Gold", value: mean("gold"), show: (row) => number(row.gold.mean) },
    { title: "Δ\u00a0start", value: mean("gold_delta_start"), show: (row) => number(row.gold_delta_start.mean, 2, true) },
    { title: "Δ\u00a0sft", value: mean("gold_delta_sft"), show: (row) => number(row.gold_delta_sft.mean, 2, true), hint: `gold minus that of ${board.sft_row ?? "the row that spends all on the start's recipe"}` },
    { title: "Proxy", value: mean("proxy"), show: (row) => number(row.proxy.mean, 2, true) },
    { title: "KL", value: mean("kl_start"), show: (row) => number(row.kl_start.mean, 1), hint: "nats a response, to start" },
    { title: "Wins", value: mean("win_start"), show: (row) => number(row.win_start.mean), hint: "win rate against start" },
    { title: "Length", value: mean("length"), show: (row) => number(row.length.mean, 0), hint: "tokens" },
    { title: "Δ\u00a0tasks", value: mean("capability_delta_start"), show: (row) => number(row.capability_delta_start.mean, 2, true), hint: "mean over tasks, chance at 0, minus that of start" },
    { title: "FLOPs/\u200banswer", value: mean("flops_per_query"), show: (row) => short(row.flops_per_query.mean), hint: "what one answer costs; of best-of-n all its samples and their scores" },
    { title: "Models", value: (row) => row.models_resident, show: (row) => number(row.models_resident, 1), hint: "parameters in memory while training, in policies" },
    { title: "MB", value: (row) => row.peak_memory_bytes, show: (row) => known(row.peak_memory_bytes) ? short(row.peak_memory_bytes / 1e6) : NONE, hint: "peak memory while training, above what imports take" },
    { title: "Budget", value: spent, show: (row) => percent(spent(row)) },
    { title: "Seeds", value: (row) => row.seeds_ok, show: (row) => `${row.seeds_ok}/${row.seeds_total}` },
    { title: "Flags", value: (row) => row.flags.length, show: flagChips, className: "remarks", up: true },
  ];
  return columns.filter((column) => column.up || board.rows.some((row) => known(column.value(row))));
}

function rank(row) {
  if (row.rank_low === null) return NONE;
  return row.rank_low === row.rank_high ? row.rank_low : `${row.rank_low}–${row.rank_high}`;
}

function spent(row) {
  return row.kind === "reference" || !row.flops_budget ? null : row.flops_used / row.flops_budget;
}

function nameCell(row) {
  const paper = paperLink(row.paper);
  const source = row.plugin ? `${row.plugin} ${row.plugin_version ?? ""}` : null;
  return [
    el("a", { href: `#row-${board.rows.indexOf(row)}` }, row.row),
    source ? el("div", { class: "soft small" }, source, paper ? " · " : null, paper) : null,
  ];
}

function flagChips(row) {
  return row.flags.map((flag) => el("span", { class: "chip bad" }, flag));
}

function ends(row) {
  return [row.headline.mean, row.headline.low, row.headline.high].filter(known);
}

// One scale for all rows, so that bars can be compared by eye; what lies beyond it (two seeds can span anything) is cut.
const all = board.rows.flatMap(ends);
const span = [Math.max(-1, Math.min(0, ...all)), Math.min(2, Math.max(0, ...all) || 1)];

function intervalCell(row) {
  const { low, high } = row.headline;
  if (!known(row.headline.mean)) return NONE;
  return [intervalBar(row), known(low) ? el("div", { class: "soft ends" }, `${number(low)} to ${number(high)}`) : null];
}

function intervalBar(row) {
  const { mean, low, high } = row.headline;
  const x = scale(span[0], span[1], 6, 114);
  const cut = (value) => x(Math.min(span[1], Math.max(span[0], value)));
  return svg("svg", { width: 120, height: 16, role: "img", "aria-label": interval(row.headline) },
    svg("line", { class: "zero", x1: x(0), x2: x(0), y1: 0, y2: 16 }),
    known(low) ? svg("line", { class: "whisker", x1: cut(low), x2: cut(high), y1: 8, y2: 8 }) : null,
    svg("circle", { class: "dot", cx: cut(mean), cy: 8, r: 4 }));
}

function mainTable() {
  const shown = columns();
  const head = el("tr");
  const bodies = [...new Set(board.rows.map((row) => row.status))].map((status) => body(shown, status, board.rows.filter((row) => row.status === status)));
  const table = el("table", { id: "ranks" }, el("thead", {}, head), ...bodies.map((one) => one.node));
  shown.forEach((column, index) => {
    const button = el("button", { type: "button", title: column.hint ?? "" }, column.title);
    const th = el("th", { scope: "col", class: column.className ? "left" : "" }, button);
    button.addEventListener("click", () => sort(head, bodies, shown, index, th));
    head.append(th);
  });
  return el("div", { class: "wide" }, table);
}

function body(shown, status, rows) {
  const title = BLOCKS[status];
  const heading = title ? el("tr", {}, el("th", { class: "block", scope: "rowgroup", colspan: shown.length }, title)) : null;
  const lines = rows.map((row) => ({
    row,
    node: el("tr", {}, ...shown.map((column) => el("td", { class: column.className ?? "" }, column.show(row)))),
  }));
  return { lines, node: el("tbody", {}, heading, ...lines.map((line) => line.node)) };
}

// A second click turns the order; what is unknown stays last either way.
function sort(head, bodies, shown, index, th) {
  const before = th.getAttribute("aria-sort");
  const first = shown[index].up ? "ascending" : "descending";
  const order = !before ? first : before === "ascending" ? "descending" : "ascending";
  for (const other of head.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  for (const { lines, node } of bodies) {
    lines.sort((a, b) => compare(shown[index].value(a.row), shown[index].value(b.row), sign));
    node.append(...lines.map((line) => line.node));
  }
}

function compare(a, b, sign) {
  if (!known(a) || !known(b)) return Number(!known(a)) - Number(!known(b));
  return sign * (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
}
