"use strict";
// State: the page's data, the reader's choices (stored in the address), and the rows derived from them.

const page = JSON.parse(document.getElementById("page-data").textContent);
const entryById = new Map(page.entries.map((entry) => [entry.id, entry]));
const groupById = new Map(page.groups.map((group) => [group.id, group]));

const METRICS = {
  noc80: { label: "NoC80", unit: "clicks", factor: 1, digits: 2, fewer: true },
  noc85: { label: "NoC85", unit: "clicks", factor: 1, digits: 2, fewer: true },
  noc90: { label: "NoC90", unit: "clicks", factor: 1, digits: 2, fewer: true },
  iou_at_1: { label: "IoU@1", unit: "%", factor: 100, digits: 1, fewer: false },
};
const TRUST = ["self-reported", "recomputed", "reproduced"];
/** An empty metric means the headline of the group. */
const DEFAULTS = {
  group: "", protocol: "", backbone: "", data: "", metric: "", trust: "", q: "", sort: "rank", desc: "", entry: "",
};
/** Choices that hide rows or change columns. Where the address makes one, its control must be in sight. */
const FILTERS = ["protocol", "backbone", "data", "metric", "trust", "q"];
const state = { ...DEFAULTS };
/** Data set of the charts if the table shows all data sets, and entries shown or hidden in the charts. */
const chartChoice = { data: "", shown: new Map() };

const measuredIn = (group) => page.entries.filter((entry) => entry.group === group.id && entry.status !== "quoted");

const rankedIn = (group) => measuredIn(group).filter((entry) => entry.status === "ranked");

/** Groups with the chosen protocol and backbone, largest first. */
function matchingGroups() {
  const ranked = (group) => rankedIn(group).length;
  return page.groups
    .filter((group) => !state.protocol || group.protocol === state.protocol)
    .filter((group) => !state.backbone || group.backbone === state.backbone)
    .map((group) => [ranked(group), measuredIn(group).length, group])
    .sort((one, other) => other[0] - one[0] || other[1] - one[1])
    .map(([, , group]) => group);
}

/** Replace choices that contradict each other or do not exist (they may come from the address). */
function settle() {
  const has = (key) => page.groups.some((group) => group[key] === state[key]);
  if (!has("protocol")) state.protocol = "";
  if (!has("backbone")) state.backbone = "";
  let groups = matchingGroups();
  if (!groups.length) {
    state.backbone = "";
    groups = matchingGroups();
  }
  if (!groups.some((group) => group.id === state.group)) state.group = groups.length ? groups[0].id : "";
  const names = datasets().map((dataset) => dataset.name);
  if (!names.includes(state.data)) state.data = "";
  if (!names.includes(chartChoice.data)) chartChoice.data = names[0] || "";
  if (!Object.hasOwn(METRICS, state.metric) || state.metric === headlineOf(currentGroup())) state.metric = DEFAULTS.metric;
  if (!TRUST.includes(state.trust)) state.trust = "";
  const known = currentGroup() && columns().some((column) => column.key === state.sort);
  if (!known) [state.sort, state.desc] = [DEFAULTS.sort, DEFAULTS.desc];
}

const currentGroup = () => groupById.get(state.group) || null;

/** The score that ranks the entries of a group. */
const headlineOf = (group) => (group && Object.hasOwn(METRICS, group.headline) ? group.headline : "noc90");

/** The score of the table if it shows all data sets. */
const shownMetric = () => state.metric || headlineOf(currentGroup());

const datasets = () => (currentGroup() ? currentGroup().datasets : []);
const shownDatasets = () => datasets().filter((dataset) => !state.data || dataset.name === state.data);
const chartDataset = () => state.data || chartChoice.data;

/** The scores of an entry on a data set, or null. */
function scoresOn(entry, name) {
  return Object.hasOwn(entry.scores, name) ? entry.scores[name] : null;
}

function estimate(entry, name, metric) {
  const scores = scoresOn(entry, name);
  return scores && scores[metric] && typeof scores[metric].value === "number" ? scores[metric] : null;
}

/** Mean of a score, by default the headline, over the visible data sets; null if any is missing. */
function meanScore(entry, metric = headlineOf(currentGroup())) {
  if (!state.data && metric === headlineOf(currentGroup()) && typeof entry.mean_headline === "number") return entry.mean_headline;
  const values = shownDatasets().map(({ name }) => estimate(entry, name, metric)?.value);
  return values.length && values.every((value) => typeof value === "number") ? d3.mean(values) : null;
}

/** Order by rank, then by the better headline score, then by name. */
function byRank(one, other) {
  const sign = METRICS[headlineOf(currentGroup())].fewer ? 1 : -1;
  const score = (entry) => {
    const mean = meanScore(entry);
    return mean === null ? null : sign * mean;
  };
  const place = (rank) => rank ?? Number.MAX_SAFE_INTEGER;
  return (
    place(rankOf(one)) - place(rankOf(other)) ||
    place(score(one)) - place(score(other)) ||
    one.name.localeCompare(other.name, "en", { numeric: true })
  );
}

/** The visible rank: over all data sets, or on the chosen one. */
function rankOf(entry) {
  return placeOf(entry)?.rank ?? null;
}

/** Rank and range (rank, rank_low, rank_high) as visible: over all data sets, or on the chosen one; or null. */
function placeOf(entry) {
  if (entry.status !== "ranked") return null;
  const place = state.data ? scoresOn(entry, state.data) : entry;
  return typeof place?.rank === "number" ? place : null;
}

/** The range of a rank, as text; empty if the evidence leaves no other rank open. */
const rangeText = ({ rank_low: low, rank_high: high }) => (low === high ? "" : `(${low}–${high})`);

/** A rank with its range, as text. */
const placeText = (place) => [place.rank, rangeText(place)].filter(Boolean).join(" ");

/** Whether the evidence leaves open that an entry is the best of its group. */
const mayBeBest = (entry) => placeOf(entry)?.rank_low === 1;

/** Entries of the group, best first; colours follow this order, independent of filters. */
function inOrder() {
  const group = currentGroup();
  const place = (entry) => entry.rank ?? Number.MAX_SAFE_INTEGER;
  return group ? measuredIn(group).sort((one, other) => place(one) - place(other) || byRank(one, other)) : [];
}

function passes(entry) {
  const wanted = state.q.trim().toLowerCase();
  const text = `${entry.name} ${entry.upsampler}`.toLowerCase();
  const trusted = !state.trust || TRUST.indexOf(entry.trust) >= TRUST.indexOf(state.trust);
  return trusted && (!wanted || text.includes(wanted));
}

/** Quoted rows of this group and of no group. They have no trust tier, so only the name filters them. */
function quotedRows() {
  const wanted = state.q.trim().toLowerCase();
  return page.entries.filter(
    (entry) =>
      entry.status === "quoted" &&
      (entry.group === state.group || !groupById.has(entry.group)) &&
      (!wanted || `${entry.name} ${entry.upsampler}`.toLowerCase().includes(wanted)),
  );
}

/** Quoted rows of the group's protocol with a score on a visible data set; exports put them below the table's rows. */
function quotedOnShown() {
  const metrics = Object.keys(METRICS);
  const protocol = currentGroup()?.protocol;
  return quotedRows().filter(
    (entry) =>
      entry.protocol === protocol &&
      shownDatasets().some(({ name }) => metrics.some((metric) => estimate(entry, name, metric))),
  );
}

/** Sort rows; missing values come last in either direction, and equal values keep their order. */
function sorted(rows, column, descending) {
  const compare = (one, other) => {
    const [first, second] = [column.value(one), column.value(other)];
    const [none, nothing] = [first === null || first === undefined, second === null || second === undefined];
    if (none || nothing) return Number(none) - Number(nothing);
    const order = typeof first === "string" ? first.localeCompare(second, "en", { numeric: true }) : first - second;
    return descending ? -order : order;
  };
  return [...rows].sort(compare);
}

/** Read the choices from the address; false if it has none (a plain anchor). */
function readAddress() {
  const hash = location.hash.slice(1);
  if (hash && !hash.includes("=")) return false;
  const given = new URLSearchParams(hash);
  for (const key of Object.keys(DEFAULTS)) state[key] = given.get(key) ?? DEFAULTS[key];
  const entry = entryById.get(state.entry);
  if (!entry) state.entry = "";
  else if (!given.has("group") && groupById.has(entry.group)) state.group = entry.group;
  return true;
}

/** Write the choices that differ from the defaults to the address, without adding to the history. */
function writeAddress() {
  const given = new URLSearchParams();
  const usual = { ...DEFAULTS, group: defaultGroup() };
  for (const key of Object.keys(DEFAULTS)) if (state[key] !== usual[key]) given.set(key, state[key]);
  const hash = given.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

function defaultGroup() {
  const groups = matchingGroups();
  return groups.length ? groups[0].id : "";
}
