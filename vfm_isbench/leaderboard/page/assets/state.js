"use strict";
// What is shown: the page's data, the choices of the reader (kept in the address), and the rows that follow from them.

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
const DEFAULTS = {
  group: "", protocol: "", backbone: "", data: "", metric: "noc90", trust: "", q: "", sort: "rank", desc: "", entry: "",
};
const state = { ...DEFAULTS };
/** Data set of the charts where the table shows all of them, and entries taken out of the charts. */
const chartChoice = { data: "", shown: new Map() };

const measuredIn = (group) => page.entries.filter((entry) => entry.group === group.id && entry.status !== "quoted");

/** Groups that fit the chosen protocol and backbone, that with the most entries first. */
function matchingGroups() {
  const ranked = (group) => measuredIn(group).filter((entry) => entry.status === "ranked").length;
  return page.groups
    .filter((group) => !state.protocol || group.protocol === state.protocol)
    .filter((group) => !state.backbone || group.backbone === state.backbone)
    .map((group) => [ranked(group), measuredIn(group).length, group])
    .sort((one, other) => other[0] - one[0] || other[1] - one[1])
    .map(([, , group]) => group);
}

/** Bring choices that contradict each other, or that came from the address, to something that exists. */
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
  if (!Object.hasOwn(METRICS, state.metric)) state.metric = DEFAULTS.metric;
  if (!TRUST.includes(state.trust)) state.trust = "";
  const known = currentGroup() && columns().some((column) => column.key === state.sort);
  if (!known) [state.sort, state.desc] = [DEFAULTS.sort, DEFAULTS.desc];
}

const currentGroup = () => groupById.get(state.group) || null;
const datasets = () => (currentGroup() ? currentGroup().datasets : []);
const shownDatasets = () => datasets().filter((dataset) => !state.data || dataset.name === state.data);
const chartDataset = () => state.data || chartChoice.data;

/** The scores of an entry on a data set, or nothing. */
function scoresOn(entry, name) {
  return Object.hasOwn(entry.scores, name) ? entry.scores[name] : null;
}

function estimate(entry, name, metric) {
  const scores = scoresOn(entry, name);
  return scores && scores[metric] && typeof scores[metric].value === "number" ? scores[metric] : null;
}

/** Mean NoC90 over the data sets shown; missing where one of them is. */
function meanNoc90(entry) {
  const values = shownDatasets().map(({ name }) => estimate(entry, name, "noc90")?.value);
  return values.length && values.every((value) => typeof value === "number") ? d3.mean(values) : null;
}

/** Ranks first; within a tie fewer clicks, then the name. */
function byRank(one, other) {
  const place = (rank) => rank ?? Number.MAX_SAFE_INTEGER;
  return (
    place(rankOf(one)) - place(rankOf(other)) ||
    place(meanNoc90(one)) - place(meanNoc90(other)) ||
    one.name.localeCompare(other.name, "en", { numeric: true })
  );
}

/** The rank in what is shown: over all data sets, or on the one chosen. */
function rankOf(entry) {
  if (entry.status !== "ranked") return null;
  if (!state.data) return entry.rank ?? null;
  return scoresOn(entry, state.data)?.rank ?? null;
}

/** Ranked entries of the group, best first: the order that colours follow, whatever the filter. */
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

/** Quoted rows of this group, and those that name none. They carry no trust, so only the name filters them. */
function quotedRows() {
  const wanted = state.q.trim().toLowerCase();
  return page.entries.filter(
    (entry) =>
      entry.status === "quoted" &&
      (entry.group === state.group || !groupById.has(entry.group)) &&
      (!wanted || `${entry.name} ${entry.upsampler}`.toLowerCase().includes(wanted)),
  );
}

/** Of these, the ones of the group's protocol with a figure on a data set of the table: they are exported below its rows. */
function quotedOnShown() {
  const metrics = Object.keys(METRICS);
  const protocol = currentGroup()?.protocol;
  return quotedRows().filter(
    (entry) =>
      entry.protocol === protocol &&
      shownDatasets().some(({ name }) => metrics.some((metric) => estimate(entry, name, metric))),
  );
}

/** Put rows in order; a missing value comes last in either direction, and equals keep their order. */
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

/** Read the choices from the address; false where it holds none (a plain anchor). */
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

/** Write the choices that differ from the defaults into the address, without a step in the history. */
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
