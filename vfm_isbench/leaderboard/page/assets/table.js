"use strict";
// The table of measured entries and the lists below it. Roles are explicit, because the narrow layout turns rows into
// cards, and browsers drop the roles of tables with another layout.

/** Rows that pass the filter, in the chosen order, split into ranked and unranked ones. */
function shownRows() {
  if (!currentGroup()) return { ranked: [], unranked: [], all: 0 };
  const all = measuredIn(currentGroup());
  const column = columns().find(({ key }) => key === state.sort) || columns()[0];
  const rows = sorted(all.filter(passes).sort(byRank), column, state.desc === "1");
  const isRanked = (entry) => entry.status === "ranked";
  return { ranked: rows.filter(isRanked), unranked: rows.filter((entry) => !isRanked(entry)), all: all.length };
}

function sortBy(column) {
  if (state.sort === column.key) state.desc = state.desc === "1" ? "" : "1";
  else [state.sort, state.desc] = [column.key, column.bestFirst ? "1" : ""];
  render();
  document.querySelector(`#table th[data-key="${CSS.escape(column.key)}"] button`)?.focus();
  say(`sorted by ${column.label}, ${state.desc === "1" ? "descending" : "ascending"}`);
}

function headerCell(column) {
  const active = column.key === state.sort;
  const order = state.desc === "1" ? "descending" : "ascending";
  return element(
    "th",
    { scope: "col", role: "columnheader", class: column.kind, "data-key": column.key, "aria-sort": active ? order : "none" },
    element(
      "button",
      { type: "button", click: () => sortBy(column) },
      element("span", { class: "label" }, column.label),
      element("span", { class: "arrow", "aria-hidden": "true" }, active ? (order === "ascending" ? "▲" : "▼") : ""),
      column.unit ? element("span", { class: "unit" }, column.unit) : null,
    ),
  );
}

function bodyRow(entry, all) {
  const cells = all.map((column) =>
    element(
      column.kind === "name" ? "th" : "td",
      {
        role: column.kind === "name" ? "rowheader" : "cell",
        scope: column.kind === "name" ? "row" : null,
        class: column.kind,
        "data-label": column.kind === "name" ? null : column.unit ? `${column.label} (${column.unit})` : column.label,
      },
      ...column.cell(entry),
    ),
  );
  return element("tr", { role: "row", class: mayBeBest(entry) ? "front" : null, "data-row": entry.id }, ...cells);
}

function renderTable() {
  const place = document.getElementById("table");
  const { ranked, unranked, all } = shownRows();
  const shown = ranked.length + unranked.length;
  document.getElementById("count").textContent = all
    ? `${shown} of ${plural(all, "entry", "entries")} shown`
    : "There are no measured entries here yet.";
  for (const button of document.querySelectorAll(".exports button")) button.disabled = !shown && !quotedOnShown().length;
  if (!all) return place.replaceChildren();
  if (!shown) return place.replaceChildren(nothingMatches());
  const list = columns();
  const body = (rows) => element("tbody", { role: "rowgroup" }, ...rows.map((entry) => bodyRow(entry, list)));
  const apart = element(
    "tbody",
    { role: "rowgroup" },
    element(
      "tr",
      { role: "row", class: "divider" },
      element("th", { role: "columnheader", scope: "rowgroup", colspan: list.length }, "Measured, not ranked"),
    ),
  );
  const table = element(
    "table",
    { class: "ranking", role: "table", "aria-labelledby": "ranking" },
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...list.map(headerCell))),
    body(ranked),
  );
  if (unranked.length) table.append(apart, body(unranked));
  place.replaceChildren(table);
}

/** What stands in place of the table if the filters hide every row. */
function nothingMatches() {
  const button = element("button", { type: "button", class: "reset", click: resetFocused }, "Reset");
  return element("p", { class: "none" }, "No entry matches the filters. ", button);
}

function resetFocused() {
  reset();
  document.getElementById("ranking").focus();
}

/** The answer, in words: the best score, how sure that is, and which entries may be the best too. */
function renderVerdict() {
  const place = document.getElementById("verdict");
  const group = currentGroup();
  const ranked = group ? rankedIn(group).sort(byRank) : [];
  const front = ranked.filter(mayBeBest);
  place.hidden = ranked.length < 2 || !front.length;
  if (place.hidden) return;
  const { ranked: shown, unranked } = shownRows();
  if (!shown.length && !unranked.length) return place.replaceChildren("No entry matches the filters.");
  const [first, ...others] = front;
  const where = state.data ? ` on ${state.data}` : "";
  const lead = element("strong", {}, foreign(first.name));
  const verdict = others.length
    ? [lead, foreign(` has the best score${where}: `), ...headlineScore(first), `. With 95 % confidence, ${plural(others.length, "other entry", "other entries")} may be the best too: `, ...list(others.map((entry) => foreign(entry.name)), 8), "."]
    : [lead, foreign(` is shown to be the best of ${ranked.length} upsamplers${where}, with 95 % confidence: `), ...headlineScore(first), "."];
  const rest = ranked.length - front.length;
  if (rest && others.length) verdict.push(rest === 1 ? " The remaining entry is shown to be worse than another." : ` Each of the remaining ${rest} is shown to be worse than another entry.`);
  if (isDemo(group)) verdict.push(" These are demo numbers.");
  if (!shown.includes(first)) verdict.push(` The filters hide ${plain(first.name)}.`);
  place.replaceChildren(...verdict);
}

/** The headline score of an entry with its unit, name and, on a single data set, its interval. */
function headlineScore(entry) {
  const metric = headlineOf(currentGroup());
  const { label, unit, factor, digits } = METRICS[metric];
  const [{ name }, ...more] = shownDatasets();
  const score = element("strong", {}, `${scaled(meanScore(entry), METRICS[metric])} ${unit}`);
  const found = more.length ? null : estimate(entry, name, metric);
  if (typeof found?.low !== "number" || typeof found.high !== "number") {
    return [score, ` (${label}${more.length ? `, mean over ${more.length + 1} data sets` : ""})`];
  }
  return [score, ` (${label}; 95\u00a0% interval ${fixed(found.low * factor, digits)}\u00a0to\u00a0${fixed(found.high * factor, digits)})`];
}

const isDemo = (group) => /^demo\b/.test(group.protocol);

/** Elements with commas between them; beyond ``most``, their number. */
function list(parts, most) {
  const shown = parts.length > most + 1 ? parts.slice(0, most) : parts;
  const joined = shown.flatMap((part, index) => (index ? [", ", part] : [part]));
  return shown.length < parts.length ? [...joined, ` and ${parts.length - shown.length} more`] : joined;
}

const WHOLE = { noc80: 80, noc85: 85, noc90: 90 };

/** What the score shown means, in words, with the first and the last entry as examples. */
function renderMeaning() {
  const place = document.getElementById("meaning");
  const group = currentGroup();
  const headline = headlineOf(group);
  const metric = state.data ? headline : shownMetric();
  const ranked = group ? rankedIn(group).sort(byRank) : [];
  place.hidden = !ranked.length || !measuredIn(group).some(passes);
  if (place.hidden) return;
  const { label, fewer } = METRICS[metric];
  const text = fewer
    ? `${label} is the mean number of clicks until the mask has an IoU of ${WHOLE[metric]} % with the object (IoU: their ` +
      `overlap divided by their union). An object that never gets there counts as ${group.max_clicks} clicks.`
    : `${label} is the mean IoU of mask and object after the first click, in % (IoU: their overlap divided by their ` +
      "union); 100 % is a perfect mask.";
  const [first, last] = [ranked[0], ranked.at(-1)];
  const value = (entry) => scaled(meanScore(entry, metric), METRICS[metric]);
  const example = [" ", foreign(first.name), ` ${fewer ? "needs" : "reaches"} ${value(first)}`];
  if (last !== first) example.push(", ", foreign(last.name), ` ${value(last)}`);
  const isKnown = [first, last].every((entry) => meanScore(entry, metric) !== null);
  const other = metric === headline ? "" : ` Ranks and the answer above are by ${METRICS[headline].label}, whatever score the table shows.`;
  place.replaceChildren(text, ...(isKnown ? [...example, "."] : []), other);
}

function renderSetting() {
  const group = currentGroup();
  const text = group
    ? `${group.protocol} protocol · ${group.backbone} · clicks: ${group.click_encoder}, ${group.injection} · ` +
      `head: ${group.head} · ${group.image_size} px · at most ${group.max_clicks} clicks · ` +
      group.datasets.map((dataset) => `${dataset.name}: ${dataset.objects} objects`).join(", ")
    : "";
  document.getElementById("setting").replaceChildren(foreign(text));
  document.getElementById("demo").hidden = !(group && isDemo(group));
}

/** A small table, without sorting: the first ``words`` columns are text, the others numbers. Its cells know their
 * heading, and its roles are explicit, because a narrow layout may turn the rows into cards. */
function simpleTable(caption, head, rows, words = 1) {
  const kind = (index) => (index < words ? null : "number");
  const label = (index) => head[index].textContent ?? head[index];
  const heading = (content, index) => element("th", { scope: "col", role: "columnheader", class: kind(index) }, content);
  const cell = (content, index) => element("td", { role: "cell", class: kind(index + 1), "data-label": label(index + 1) }, content);
  return element(
    "table",
    { class: "simple", role: "table" },
    element("caption", { class: "hidden" }, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...head.map(heading))),
    element(
      "tbody",
      { role: "rowgroup" },
      ...rows.map(([first, ...rest]) =>
        element("tr", { role: "row" }, element("th", { scope: "row", role: "rowheader" }, first), ...rest.map(cell)),
      ),
    ),
  );
}

function renderQuoted() {
  const section = document.getElementById("quoted");
  const { label, factor, digits } = METRICS[shownMetric()];
  const all = quotedRows();
  const own = datasets().map((dataset) => dataset.name);
  const names = state.data ? [state.data] : [...new Set([...own, ...all.flatMap((row) => Object.keys(row.scores))])];
  const rows = all.filter((row) => names.some((name) => estimate(row, name, shownMetric())));
  const filled = names.filter((name) => rows.some((row) => estimate(row, name, shownMetric())));
  section.hidden = !rows.length;
  const sources = [...new Set(rows.map(sourceKey))];
  const table = simpleTable(
    "Quoted from papers",
    ["Upsampler", "Injection", "Origin", ...filled.map((name) => foreign(`${label}, ${name}`)), "Source"],
    rows.map((entry) => [
      foreign(entry.name),
      foreign(entry.injection ?? MISSING),
      foreign(entry.origin ?? MISSING),
      ...filled.map((name) => {
        const found = estimate(entry, name, shownMetric());
        return found ? fixed(found.value * factor, digits) : MISSING;
      }),
      `[${sources.indexOf(sourceKey(entry)) + 1}]`,
    ]),
    3,
  );
  section.querySelector(".scroller").replaceChildren(table);
  const first = (key) => rows.find((entry) => sourceKey(entry) === key);
  section.querySelector(".sources").replaceChildren(...sources.map((key) => element("li", {}, sourceOf(first(key)))));
}

/** Rows with the same source and setting share a line below the table. */
const sourceKey = (entry) => JSON.stringify([entry.citation, entry.paper, entry.notes]);

function sourceOf(entry) {
  const parts = [entry.citation ? foreign(entry.citation) : null, entry.paper ? outside(entry.paper) : null];
  if (!parts.some(Boolean)) parts.push("no source is recorded");
  parts.push(...(entry.notes || []).map(foreign));
  return element("span", {}, ...parts.filter(Boolean).flatMap((part, index) => (index ? [" · ", part] : [part])));
}

/** The call for a full-size result; the data lack it as soon as there is one. */
function renderWanted() {
  const section = document.getElementById("wanted");
  section.hidden = !page.wanted;
  if (section.hidden) return;
  section.querySelector("ul").replaceChildren(...page.wanted.needs.map((need) => element("li", {}, plain(need))));
  document.getElementById("wanted-quoted").hidden = document.getElementById("quoted").hidden;
  const remark = "DATA is your folder of data sets. The last two commands check the results and write the entries.";
  document.getElementById("wanted-commands").replaceChildren(copied("Commands", page.wanted.commands, remark));
}

function renderLists() {
  const apart = page.entries.filter((entry) => entry.status === "unranked" && !groupById.has(entry.group));
  document.getElementById("apart").hidden = !apart.length;
  document.querySelector("#apart ul").replaceChildren(
    ...apart.map((entry) => element("li", {}, nameCell(entry)[0], ": ", foreign(entry.why_unranked || "no reason is recorded"))),
  );
  document.getElementById("removed").hidden = !page.removed.length;
  document.querySelector("#removed ul").replaceChildren(
    ...page.removed.map(({ name, date, why }) => element("li", {}, foreign(name), ` (${plain(date)}): `, foreign(why))),
  );
  document.getElementById("made").textContent = plain(`Made by vfm_isbench ${page.version} on ${String(page.generated).slice(0, 10)}.`);
  const source = document.getElementById("source");
  source.hidden = !page.repository;
  if (page.repository) source.replaceChildren("Source code: ", outside(page.repository));
}
