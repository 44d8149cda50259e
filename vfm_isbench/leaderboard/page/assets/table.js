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
        "data-label": column.kind === "name" ? null : column.label,
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

/** Who is good, in a sentence: the entries that may be the best, because none is shown to be better. */
function renderVerdict() {
  const place = document.getElementById("verdict");
  const ranked = currentGroup() ? rankedIn(currentGroup()).sort(byRank) : [];
  const front = ranked.filter(mayBeBest);
  place.hidden = ranked.length < 2 || !front.length;
  if (place.hidden) return;
  const where = state.data ? ` on ${state.data}` : "";
  const [first, ...others] = front;
  const names = list(others.map((entry) => foreign(entry.name)), 8);
  const lead = element("strong", {}, foreign(first.name));
  const verdict = others.length
    ? [lead, foreign(` has the best score${where}. `), `${plural(others.length, "other entry", "other entries")} may be the best too: `, ...names, "."]
    : [lead, foreign(` is shown to be the best${where}.`)];
  const rest = ranked.length - front.length;
  if (rest && others.length) verdict.push(rest === 1 ? " The remaining entry is shown to be worse than another." : ` Each of the remaining ${rest} is shown to be worse than another entry.`);
  place.replaceChildren(...verdict);
}

/** Elements with commas between them; beyond ``most``, their number. */
function list(parts, most) {
  const shown = parts.length > most + 1 ? parts.slice(0, most) : parts;
  const joined = shown.flatMap((part, index) => (index ? [", ", part] : [part]));
  return shown.length < parts.length ? [...joined, ` and ${parts.length - shown.length} more`] : joined;
}

const WHOLE = { noc80: 80, noc85: 85, noc90: 90 };

/** What the headline score means, in words, with the first and the last entry as examples. */
function renderMeaning() {
  const place = document.getElementById("meaning");
  const group = currentGroup();
  const metric = headlineOf(group);
  const ranked = group ? rankedIn(group).sort(byRank) : [];
  place.hidden = !ranked.length;
  if (place.hidden) return;
  const { label, fewer } = METRICS[metric];
  const text = fewer
    ? `${label} is the mean number of clicks until mask and object overlap by ${WHOLE[metric]} %; an object that never ` +
      `gets there counts as ${group.max_clicks} clicks.`
    : `${label} is the mean overlap of mask and object after the first click, in %; 100 % is a perfect mask.`;
  const [first, last] = [ranked[0], ranked.at(-1)];
  const score = (entry) => (state.data ? meanHeadline(entry) : entry.mean_headline) ?? null;
  const value = (entry) => scaled(score(entry), METRICS[metric]);
  const example = [" ", foreign(first.name), ` ${fewer ? "needs" : "reaches"} ${value(first)}`];
  if (last !== first) example.push(", ", foreign(last.name), ` ${value(last)}`);
  place.replaceChildren(text, ...(score(first) === null || score(last) === null ? [] : [...example, "."]));
}

function renderSetting() {
  const group = currentGroup();
  const text = group
    ? `${group.protocol} protocol · ${group.backbone} · clicks: ${group.click_encoder}, ${group.injection} · ` +
      `head: ${group.head} · ${group.image_size} px · at most ${group.max_clicks} clicks · ` +
      group.datasets.map((dataset) => `${dataset.name}: ${dataset.objects} objects`).join(", ")
    : "";
  document.getElementById("setting").replaceChildren(foreign(text));
  document.getElementById("demo").hidden = !(group && /^demo\b/.test(group.protocol));
}

/** A small table, without sorting: the first ``words`` columns are text, the others numbers. */
function simpleTable(caption, head, rows, words = 1) {
  const kind = (index) => (index < words ? null : "number");
  const cell = (tag, scope) => (content, index) => element(tag, { scope, class: kind(index) }, content);
  return element(
    "table",
    { class: "simple" },
    element("caption", { class: "hidden" }, caption),
    element("thead", {}, element("tr", {}, ...head.map(cell("th", "col")))),
    element(
      "tbody",
      {},
      ...rows.map(([first, ...rest]) =>
        element("tr", {}, element("th", { scope: "row" }, first), ...rest.map((content, index) => element("td", { class: kind(index + 1) }, content))),
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
  section.querySelector("pre").textContent = page.wanted.commands.map(plain).join("\n");
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
