"use strict";
// The page is built from text nodes and attributes only; no text of a board is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const NONE = "–";

const board = JSON.parse(document.getElementById("board").textContent);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null).map((child) => child instanceof Node ? child : String(child)));
  return node;
}

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function number(value, digits = 2, signed = false) {
  if (value === null || value === undefined) return NONE;
  const text = value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
  return signed && Number(text) > 0 ? `+${text}` : text;
}

function interval(quantity, digits = 2, signed = false) {
  const mean = number(quantity.mean, digits, signed);
  return quantity.low === null ? mean : `${mean} [${number(quantity.low, digits)}, ${number(quantity.high, digits)}]`;
}

// 1.23e12 -> "1.23 T"
function short(value) {
  if (value === null || value === undefined) return NONE;
  const steps = ["", " k", " M", " G", " T", " P", " E", " Z", " Y"];
  const step = value < 1000 ? 0 : Math.min(steps.length - 1, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** step;
  return `${scaled >= 100 || Number.isInteger(scaled) ? scaled.toFixed(0) : scaled.toPrecision(3)}${steps[step]}`;
}

function percent(value) {
  return value === null || value === undefined ? NONE : `${(100 * value).toFixed(0)} %`;
}

// The only links on the page besides anchors: papers, and only where the id is one.
function paperLink(id) {
  return /^\d{4}\.\d{4,5}$/.test(id ?? "")
    ? el("a", { href: `https://arxiv.org/abs/${id}`, rel: "noopener noreferrer" }, "paper")
    : null;
}

// Rounded steps that cover [low, high].
function ticks(low, high, count = 5) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

function scale(low, high, from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

const known = (value) => value !== null && value !== undefined;
