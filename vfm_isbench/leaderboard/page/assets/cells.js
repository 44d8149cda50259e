"use strict";
// The columns of the table: sort values and cell contents.

/** Range of a column's bars: over all entries of the group, so that filters do not move them. */
function barRange(name, metric) {
  const found = measuredIn(currentGroup()).map((entry) => estimate(entry, name, metric)).filter(Boolean);
  const ends = found.flatMap(({ value, low, high }) => [value, low, high]).filter((end) => typeof end === "number");
  return ends.length ? [Math.min(...ends), Math.max(...ends)] : [0, 1];
}

/** A score: value, interval in small numbers, and a bar with a dot at the value. */
function scoreCell(found, metric, range) {
  if (!found) return [element("span", { class: "missing", title: "not measured" }, MISSING)];
  const { factor, digits } = METRICS[metric];
  const value = element("span", { class: "value" }, fixed(found.value * factor, digits));
  if (typeof found.low !== "number" || typeof found.high !== "number") return [value];
  const interval = element(
    "span",
    { class: "interval" },
    `${fixed(found.low * factor, digits)} – ${fixed(found.high * factor, digits)}`,
  );
  return [value, interval, bar(found, range)];
}

/** A score in the unit and with the digits of its metric. */
const scaled = (score, { factor, digits }) => fixed(typeof score === "number" ? score * factor : null, digits);

function bar(found, [least, most]) {
  const width = most - least || 1;
  const place = (value) => `${(100 * (value - least)) / width}%`;
  const line = element("span", { class: "range" });
  line.style.insetInlineStart = place(found.low);
  line.style.width = `${(100 * (found.high - found.low)) / width}%`;
  const dot = element("span", { class: "dot" });
  dot.style.insetInlineStart = place(found.value);
  return element("span", { class: "bar", "aria-hidden": "true" }, line, dot);
}

function trustBadge(trust) {
  return TRUST.includes(trust) ? element("span", { class: `badge ${trust}` }, trust) : element("span", {}, MISSING);
}

function nameCell(entry) {
  const name = element(
    "button",
    { type: "button", class: "name", "data-entry": entry.id, "aria-haspopup": "dialog", click: () => openDetail(entry.id) },
    foreign(entry.name),
  );
  const parts = [];
  if (entry.upsampler && entry.upsampler !== entry.name) parts.push(foreign(entry.upsampler));
  if (entry.seeds && entry.seeds.length) parts.push(plural(entry.seeds.length, "seed", "seeds"));
  if (entry.status === "unranked") parts.push(element("span", { class: "why" }, foreign(entry.why_unranked || "not ranked")));
  const line = parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
  return [name, line.length ? element("span", { class: "below" }, ...line) : null];
}

function rankCell(entry) {
  const place = placeOf(entry);
  if (place === null) return [element("span", { class: "missing" }, MISSING, element("span", { class: "hidden" }, " not ranked"))];
  const { rank, rank_low: low, rank_high: high } = place;
  const scale = [1, rankedIn(currentGroup()).length];
  return [
    element("span", { class: "place" }, String(rank)),
    rangeText(place) ? element("span", { class: "places" }, ` ${rangeText(place)}`) : null,
    bar({ value: rank, low, high }, scale),
  ];
}

function scoreColumn(dataset, metric, label, unit) {
  const range = barRange(dataset.name, metric);
  return {
    key: `score:${dataset.name}:${metric}`,
    label,
    unit,
    kind: "score",
    bestFirst: !METRICS[metric].fewer,
    value: (entry) => estimate(entry, dataset.name, metric)?.value ?? null,
    cell: (entry) => scoreCell(estimate(entry, dataset.name, metric), metric, range),
    text: (entry) => {
      const found = estimate(entry, dataset.name, metric);
      return found ? { ...found, ...METRICS[metric] } : null;
    },
  };
}

/** The visible columns; ``bestFirst``: the first click on the header sorts from large to small. */
function columns() {
  const group = currentGroup();
  const headline = METRICS[headlineOf(group)];
  const rank = {
    key: "rank", label: "Rank", unit: `${state.data ? "here, " : ""}by ${headline.label}`, kind: "rank", value: rankOf, cell: rankCell,
  };
  const name = { key: "name", label: "Upsampler", kind: "name", value: (entry) => entry.name, cell: nameCell };
  const mean = {
    key: "mean_headline", label: `Mean ${headline.label}`, unit: "over data sets", kind: "number",
    bestFirst: !headline.fewer,
    value: (entry) => entry.mean_headline ?? null,
    cell: (entry) => [scaled(entry.mean_headline, headline)],
  };
  const size = {
    key: "parameters", label: "Parameters", unit: "of the upsampler", kind: "number",
    value: (entry) => entry.parameters ?? null,
    cell: (entry) => [parameters(entry.parameters)],
  };
  const time = {
    key: "ms_per_image", label: "Time", unit: "ms per image", kind: "number",
    value: (entry) => entry.ms_per_image ?? null,
    cell: (entry) => [milliseconds(entry.ms_per_image)],
  };
  const trust = {
    key: "trust", label: "Trust", kind: "trust", bestFirst: true,
    value: (entry) => (TRUST.includes(entry.trust) ? TRUST.indexOf(entry.trust) : null),
    cell: (entry) => [trustBadge(entry.trust)],
  };
  if (!state.data) {
    const { label, unit } = METRICS[shownMetric()];
    const scores = group.datasets.map((dataset) =>
      scoreColumn(dataset, shownMetric(), plain(dataset.name), `${label}, ${unit}`),
    );
    return [rank, name, ...(scores.length > 1 ? [mean] : []), ...scores, size, time, trust];
  }
  const [dataset] = shownDatasets();
  const scores = Object.entries(METRICS).map(([key, metric]) => scoreColumn(dataset, key, metric.label, metric.unit));
  const atCap = {
    key: "at_cap", label: "At cap, 90 %", unit: `of ${dataset.objects} objects`, kind: "number",
    value: (entry) => scoresOn(entry, dataset.name)?.not_reached90 ?? null,
    cell: (entry) => {
      const count = scoresOn(entry, dataset.name)?.not_reached90;
      return [fixed(count, Number.isInteger(count) ? 0 : 1)];
    },
  };
  return [rank, name, ...scores, atCap, size, time, trust];
}
