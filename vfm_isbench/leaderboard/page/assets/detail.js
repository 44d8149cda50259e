"use strict";
// All about one entry in a modal dialog; the browser closes it on Escape and keeps the focus inside.

const detail = document.getElementById("detail");

function openDetail(id) {
  const entry = entryById.get(id);
  if (!entry) return;
  state.entry = id;
  writeAddress();
  detail.replaceChildren(...detailContent(entry));
  if (!detail.open) detail.showModal();
  detail.scrollTop = 0;
}

detail.addEventListener("close", () => {
  const opener = document.querySelector(`button.name[data-entry="${CSS.escape(state.entry)}"]`);
  state.entry = "";
  writeAddress();
  opener?.focus();
});
// A click on the backdrop closes the dialog. The dialog has no padding, so such clicks target the dialog itself.
detail.addEventListener("click", (event) => {
  if (event.target === detail) detail.close();
});

function detailContent(entry) {
  const group = groupById.get(entry.group);
  const close = element("button", { type: "button", class: "close quiet", autofocus: true, click: () => detail.close() }, "Close");
  const heading = element("h2", { id: "detail-name" }, foreign(entry.name));
  return [
    element(
      "div",
      { class: "inner" },
      element("div", { class: "heading" }, heading, close),
      element("p", { class: "standing" }, ...standing(entry)),
      neighbours(entry, group),
      ...(entry.notes || []).map((note) => element("p", { class: "notice" }, foreign(note))),
      facts(entry, group),
      scoreTable(entry, group),
      furtherTable(entry, group),
      copied("Signature", entry.signature, "One line that says what was measured. Entries are comparable if data, protocol and hash are equal."),
      ...reproduction(entry),
    ),
  ];
}

function standing(entry) {
  const parts = [];
  if (entry.status === "ranked" && entry.rank) parts.push(`Rank ${placeText(entry)}`);
  if (entry.status === "quoted") parts.push(/second-hand/.test(entry.origin) ? "Quoted from notes on a paper (second-hand), not measured here" : "Quoted from a paper, not measured here");
  if (entry.status === "unranked") parts.push(element("span", {}, "Not ranked: ", foreign(entry.why_unranked || "no reason is recorded")));
  if (entry.trust) parts.push(trustBadge(entry.trust));
  return parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
}

/** Which entries are shown to be better or worse than this one, and which are neither. */
function neighbours(entry, group) {
  if (entry.status !== "ranked" || !group) return null;
  const others = rankedIn(group).filter((other) => other !== entry).sort((one, other) => one.rank - other.rank);
  const better = others.filter((other) => entry.better.includes(other.id));
  const worse = others.filter((other) => other.better.includes(entry.id));
  const open = others.filter((other) => !better.includes(other) && !worse.includes(other));
  const line = (words, found) => element("li", {}, `${words}: `, ...list(found.map((other) => foreign(other.name)), 12));
  const lines = [["Shown to be better", better], ["Cannot be told apart", open], ["Shown to be worse", worse]];
  const kept = lines.filter(([, found]) => found.length);
  return kept.length ? element("ul", { class: "plain-list" }, ...kept.map(([words, found]) => line(`${words} (${found.length})`, found))) : null;
}

function facts(entry, group) {
  const headline = METRICS[headlineOf(group)];
  const list = [
    ["Upsampler", entry.upsampler && foreign(entry.upsampler)],
    [`Mean ${headline.label}`, typeof entry.mean_headline === "number" && names(entry, group).length > 1 ? scaled(entry.mean_headline, headline) : null],
    ["Parameters", typeof entry.parameters === "number" ? entry.parameters.toLocaleString("en") : null],
    ["Time", typeof entry.ms_per_image === "number" ? `${milliseconds(entry.ms_per_image)} ms per image` : null],
    ["FLOPs", typeof entry.flops_per_image === "number" ? `${(entry.flops_per_image / 1e9).toPrecision(3)} billion per image` : null],
    ["Memory", gibibytes([["upsampler", entry.upsampler_bytes], ["training", entry.training_bytes]])],
    ["Timed on", entry.timed_on && foreign(entry.timed_on)],
    ["Training seeds", entry.seeds && entry.seeds.length ? plain(entry.seeds.join(", ")) : null],
    ["Code", entry.code && outside(entry.code)],
    ["Paper", entry.paper && outside(entry.paper)],
    ["Citation", entry.citation && foreign(entry.citation)],
    ["Submitted", entry.date && foreign(entry.submitter ? `${entry.date}, by ${entry.submitter}` : entry.date)],
    ["Measured with", entry.version && foreign(`vfm_isbench ${entry.version}`)],
    ["Protocol", group && foreign(`${group.protocol} · ${group.backbone}`)],
    ["Protocol hash", group && element("code", {}, plain(group.fingerprint))],
  ].filter(([, value]) => value);
  return element("dl", { class: "facts" }, ...list.flatMap(([term, value]) => [element("dt", {}, term), element("dd", {}, value)]));
}

const names = (entry, group) => (group ? group.datasets.map((dataset) => dataset.name) : Object.keys(entry.scores));

function scoreTable(entry, group) {
  const rows = names(entry, group).filter((name) => scoresOn(entry, name)).map((name) => {
    const scores = scoresOn(entry, name);
    const values = Object.entries(METRICS).map(([metric, { factor, digits }]) => {
      const found = estimate(entry, name, metric);
      if (!found) return MISSING;
      const interval = typeof found.low === "number" ? element("span", { class: "interval" }, `${fixed(found.low * factor, digits)} – ${fixed(found.high * factor, digits)}`) : null;
      return element("span", { class: "stack" }, fixed(found.value * factor, digits), interval);
    });
    return [foreign(name), scores.objects ?? MISSING, ...values, fixed(scores.not_reached90, Number.isInteger(scores.not_reached90) ? 0 : 1), scores.rank ? placeText(scores) : MISSING].map((cell) => (typeof cell === "number" ? String(cell) : cell));
  });
  if (!rows.length) return null;
  const head = ["Data set", "Objects", ...Object.values(METRICS).map(({ label, unit }) => (unit === "%" ? `${label}, %` : label)), "At cap, 90 %", "Rank"];
  return element("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Scores per data set" }, simpleTable("Scores per data set", head, rows));
}

const FURTHER = {
  noc95: ["NoC95", 1, 2], nof90: ["NoF90", 1, 1], iou_auc: ["IoU-AUC, %", 100, 1], boundary_iou_at_5: ["Boundary IoU@5, %", 100, 1],
};

/** Scores without intervals, as far as the entry has them. */
function furtherTable(entry, group) {
  const has = (scores, key) => typeof scores?.further?.[key] === "number";
  const shown = names(entry, group).filter((name) => scoresOn(entry, name));
  const keys = Object.keys(FURTHER).filter((key) => shown.some((name) => has(scoresOn(entry, name), key)));
  if (!keys.length) return null;
  const cell = (scores, key) => fixed(has(scores, key) ? scores.further[key] * FURTHER[key][1] : null, FURTHER[key][2]);
  const rows = shown.map((name) => [foreign(name), ...keys.map((key) => cell(scoresOn(entry, name), key))]);
  const head = ["Data set", ...keys.map((key) => FURTHER[key][0])];
  return element("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Further scores" }, simpleTable("Further scores", head, rows));
}

/** Sizes in memory with their names, as far as they are known; or null. */
function gibibytes(parts) {
  const known = parts.filter(([, bytes]) => typeof bytes === "number");
  return known.length ? known.map(([name, bytes]) => `${name} ${(bytes / 2 ** 30).toFixed(2)} GiB`).join(", ") : null;
}

/** How to rerun the entry: command by command, and by the command that also compares. */
function reproduction(entry) {
  const known = Array.isArray(entry.rerun) && entry.rerun.length > 0;
  const folder = known && entry.rerun[0].startsWith("git clone") ? "" : "Run these in a folder with the source code of vfm_isbench. ";
  const data = known && entry.rerun.some((line) => / DATA\b/.test(line)) ? "DATA is your folder of data sets. " : "";
  const run = known ? copied("Run it again", entry.rerun, `${folder}${data}They run the entry’s code: read it first.`) : null;
  const missing = "Nobody recorded how to load it: get its code, read it, and replace UPSAMPLER with its name.";
  const compare = "This runs all seeds and compares every score with the entry’s. It needs a checkout that contains the entry.";
  return [run, copied("Run and compare", entry.reproduce, known ? compare : missing)];
}

/** One or several lines with a copy button; nothing if there is none. */
function copied(title, lines, remark) {
  if (!lines || !lines.length) return null;
  const text = [lines].flat().map(plain).join("\n");
  const button = element("button", { type: "button", "aria-label": `Copy ${title.toLowerCase()}` }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copy(text, button.parentElement);
    button.textContent = done ? "Copied" : "Not copied";
    say(done ? `${title} copied` : `${title} could not be copied`);
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return element(
    "div",
    { class: "copied" },
    element("h3", {}, title),
    element("div", { class: "line" }, element("code", { tabindex: "0" }, text), button),
    element("p", { class: "setting" }, remark),
  );
}

/** Copy text; if the browser refuses the clipboard interface (some do for files), copy a selection instead. */
async function copy(text, host) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { class: "hidden", readonly: true });
    area.value = text;
    const before = document.activeElement;
    host.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus();
    return done;
  }
}
