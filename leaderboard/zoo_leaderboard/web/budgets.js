"use strict";
// Who wins at which budget: every point is a whole run of its own, whose learning rate came down to its end.

function budgets() {
  const found = board.budgets;
  if (!known(found)) return null;
  const place = el("div");
  const show = (price) => place.replaceChildren(drawn((width) => curves(found, price, width)), ...crossings(found, price));
  const prices = found.token_prices.map(String);
  const price = prices.includes(state.get("price")) ? state.get("price") : prices[0];
  show(price);
  return section("budgets", "Who wins at which budget",
    "Each point is a run of its own, trained to its end with that budget. Bands: 95 % t-intervals over seeds. A sampled token may cost more than its FLOPs say, because sampling uses a device less well than training does.",
    el("div", { class: "tools" }, chooser("A sampled token costs", prices.map((one) => [one, one === "1" ? "its FLOPs" : `${one} times its FLOPs`]), price,
      (value) => { remember({ price: value }); show(value); })),
    place, ...found.changes.map((sentence) => el("p", {}, sentence)));
}

function curves(found, price, width) {
  const points = found.curves.flatMap((curve) => curve.points
    .filter((point) => known(point.headline.mean) && known(point.costs[price]))
    .map((point) => ({ name: curve.row, x: point.costs[price], y: point.headline.mean, low: point.headline.low ?? point.headline.mean, high: point.headline.high ?? point.headline.mean })));
  const ends = found.curves.map((curve) => points.findLast((point) => point.name === curve.row)).filter(known);
  return named("Headline against the cost of a run", ends, [
    Plot.areaY(points, { x: "x", y1: "low", y2: "high", z: "name", fill: colorOf, fillOpacity: 0.1 }),
    Plot.line(points, { x: "x", y: "y", z: "name", stroke: colorOf }),
    Plot.dot(points, { x: "x", y: "y", fill: colorOf, symbol, r: 4, title: (one) => `${one.name}: ${number(one.y)} at ${short(one.x)} FLOPs` }),
  ], { width, x: { label: "cost of a run, FLOPs", type: "log", tickFormat: short, ticks: 6 }, y: { label: "headline", grid: true, nice: true } });
}

function crossings(found, price) {
  const here = found.crossings.filter((one) => String(one.token_price) === price);
  if (here.length === 0) return [el("p", { class: "soft" }, "No two curves cross.")];
  return [el("ul", {}, ...here.map((one) => {
    const within = known(one.low) ? ` [${short(one.low)}, ${short(one.high)}]; they cross so in ${percent(one.draws_with_crossing)} of draws of the seeds` : "";
    return el("li", {}, `Up to ${short(one.flops)} FLOPs${within}, ${one.above} is above ${one.below}; from there on it is the other way round.`);
  }))];
}
