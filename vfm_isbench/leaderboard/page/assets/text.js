"use strict";
// Text and elements. Everything from an entry goes through plain() and becomes a text node; no HTML is ever parsed.

// Invisible characters that change how text reads: control characters and changes of writing direction.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
const MISSING = "–";

/** One line of text with invisible characters spelled out, such as ⟨U+202E⟩. */
function plain(value) {
  return String(value)
    .replace(/[\t\r\n]+/g, " ")
    .replace(UNSEEN, (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** An element with attributes (a function is a listener; null and false are left out) and children (nodes or text). */
function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Text from an entry, isolated so that its writing direction does not affect its surroundings. */
function foreign(value) {
  return element("bdi", {}, plain(value));
}

/** A link for http and https; plain text for anything else. */
function outside(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return foreign(address);
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return foreign(address);
  return element("a", { href: url.href, rel: "noopener noreferrer nofollow ugc", target: "_blank" }, foreign(address));
}

/** A number with fixed digits and a real minus sign; – if missing. */
function fixed(number, digits) {
  return typeof number === "number" && Number.isFinite(number) ? number.toFixed(digits).replace("-", "−") : MISSING;
}

/** A count of parameters in the usual unit: 1.2 M. */
function parameters(count) {
  if (typeof count !== "number") return MISSING;
  if (count < 1000) return String(count);
  const [unit, size] = count < 1e6 ? ["k", 1e3] : count < 1e9 ? ["M", 1e6] : ["G", 1e9];
  return `${(count / size).toPrecision(3).replace(/\.?0+$/, "")} ${unit}`;
}

/** Milliseconds with three significant digits. */
function milliseconds(time) {
  if (typeof time !== "number" || !Number.isFinite(time)) return MISSING;
  return time >= 100 ? time.toFixed(0) : time >= 10 ? time.toFixed(1) : time.toFixed(2);
}

function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

/** Tell screen-reader users what happened. */
function say(text) {
  document.getElementById("said").textContent = text;
}
