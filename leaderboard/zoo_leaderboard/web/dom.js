"use strict";
// The page is built from text nodes and attributes only; no text of a board is ever parsed as HTML.

const NONE = "–";

const board = JSON.parse(document.getElementById("board").textContent);
const copies = JSON.parse(document.getElementById("copies").textContent);
const scorer = board.headline === null ? "proxy" : "gold";

const pairOf = (a, b) => board.pairs.find((one) => (one.a === a && one.b === b) || (one.a === b && one.b === a));
const known = (value) => value !== null && value !== undefined;
const words = (value) => typeof value === "string" ? value : JSON.stringify(value);

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat().filter(known).map((child) => child instanceof Node ? child : String(child)));
  return node;
}

function number(value, digits = 2, signed = false) {
  if (!known(value)) return NONE;
  const text = value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
  return signed && Number(text) > 0 ? `+${text}` : text;
}

function interval(quantity, digits = 2, signed = false) {
  const mean = number(quantity.mean, digits, signed);
  return known(quantity.low) ? `${mean} [${number(quantity.low, digits)}, ${number(quantity.high, digits)}]` : mean;
}

// 1.23e12 -> "1.23 T"
function short(value) {
  if (!known(value)) return NONE;
  const steps = ["", " k", " M", " G", " T", " P", " E", " Z", " Y"];
  const step = value < 1000 ? 0 : Math.min(steps.length - 1, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** step;
  return `${scaled >= 100 || Number.isInteger(scaled) ? scaled.toFixed(0) : scaled.toPrecision(3)}${steps[step]}`;
}

function percent(value) {
  return known(value) ? `${(100 * value).toFixed(0)} %` : NONE;
}

// The only links on the page besides anchors: papers, and only where the id is one.
function paperLink(id) {
  return /^\d{4}\.\d{4,5}$/.test(id ?? "")
    ? el("a", { href: `https://arxiv.org/abs/${id}`, rel: "noopener noreferrer" }, `arXiv:${id}`)
    : null;
}

function section(id, title, explanation, ...children) {
  return el("section", { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), explanation ? el("p", { class: "soft" }, explanation) : null, ...children);
}

// What is wider than a phone scrolls by itself, by keyboard too.
function wide(label, ...children) {
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, ...children);
}

function chooser(label, options, value, changed) {
  const select = el("select", { "aria-label": label }, ...options.map(([key, text]) => el("option", { value: key }, text)));
  select.value = value;
  select.addEventListener("change", () => changed(select.value));
  return el("label", {}, label, " ", select);
}
