"use strict";
// Two rows side by side: what the seeds say, who wins on which prompt, and both answers.

const AT_ONCE = 6;
const VERDICTS = { "": "all prompts", a: "the first is better", b: "the second is better", ties: "both are as good" };

function pairSection() {
  const rows = board.rows.filter((row) => row.samples.length);
  if (rows.length < 2) return null;
  const names = rows.map((row) => row.row), place = el("div");
  const chosen = {
    a: names.includes(state.get("a")) ? state.get("a") : names[0],
    b: names.includes(state.get("b")) ? state.get("b") : names.includes("start") && names[0] !== "start" ? "start" : names[1],
    show: VERDICTS[state.get("show")] ? state.get("show") : "",
  };
  const show = () => place.replaceChildren(...sideBySide(rows, chosen));
  const changed = (name) => (value) => { chosen[name] = value; remember({ [name]: value }); show(); };
  const options = names.map((name) => [name, name]);
  show();
  return section("pair", "Two rows, prompt by prompt", null, el("div", { class: "tools" },
    chooser("Compare", options, chosen.a, changed("a")), chooser("with", options, chosen.b, changed("b")),
    chooser("on", Object.entries(VERDICTS), chosen.show, changed("show"))), place);
}

function sideBySide(rows, { a, b, show }) {
  const [first, second] = [a, b].map((name) => rows.find((row) => row.row === name));
  const pair = pairOf(a, b);
  const both = first.samples.flatMap((item) => {
    const other = second.samples.find((one) => one.prompt === item.prompt);
    return other ? [{ item, other, verdict: verdict(item[scorer], other[scorer]) }] : [];
  });
  const shown = both.filter((one) => show === "" || one.verdict === show);
  return [
    pair ? el("p", {}, pair.words) : null,
    pair?.prompts ? el("p", {}, promptsWon(pair)) : null,
    el("p", { class: "soft" }, `${shown.length} of ${both.length} prompts to read, of each row's first finished seed at its best temperature.`),
    ...folded(shown.map((one) => asked(one.item.prompt, answer(a, one.item, one.verdict === "a"), answer(b, one.other, one.verdict === "b")))),
  ].filter(known);
}

// The first few; a button shows the others.
function folded(nodes) {
  if (nodes.length <= AT_ONCE) return nodes;
  const rest = nodes.slice(AT_ONCE), button = el("button", { type: "button" }, `Show ${rest.length} more`);
  button.addEventListener("click", () => button.replaceWith(...rest));
  return [...nodes.slice(0, AT_ONCE), el("div", { class: "tools" }, button)];
}

function promptsWon(pair) {
  const { a, b, ties } = pair.prompts, all = a + b + ties;
  return `On ${all} test prompts of all seeds, ${pair.a} has the better answer by gold on ${percent(a / all)}, ${pair.b} on ${percent(b / all)}; the rest are ties.`;
}

function verdict(mine, other) {
  if (!known(mine) || !known(other)) return "";
  return Math.abs(mine - other) < 1e-9 ? "ties" : mine > other ? "a" : "b";
}

function asked(prompt, ...answers) {
  return el("div", { class: "prompt" }, el("p", { class: "asked" }, prompt), el("div", { class: "answers" }, ...answers));
}

function answer(name, item, better) {
  return el("div", { class: better ? "one better" : "one" },
    el("p", { class: "who" }, el("strong", {}, name), el("span", { class: "soft" }, `gold ${number(item.gold)} · proxy ${number(item.proxy)}${better ? " · better" : ""}`)),
    el("p", { class: "said" }, item.response || "(empty)"));
}
