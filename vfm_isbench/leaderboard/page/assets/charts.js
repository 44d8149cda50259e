"use strict";
// The two charts, drawn by Observable Plot as SVG, with colours from the style sheet.

const SERIES = 8;
/** More lines than this are hard to distinguish; the legend can add the others. */
const SHOWN_AT_FIRST = 6;
const DASHES = [null, "6 3", "2 3"];
const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross"];
const HEIGHT = 340;

/** Colour and dash of each entry in the group, by its place in the ranking. */
function looks() {
  return new Map(
    inOrder().map((entry, index) => [
      entry.id,
      { color: `var(--series-${(index % SERIES) + 1})`, dash: DASHES[Math.floor(index / SERIES) % DASHES.length] },
    ]),
  );
}

/** Entries in the charts: they pass the filter and are ticked in the legend. */
function charted() {
  const order = inOrder();
  return order
    .filter(passes)
    .filter((entry) => chartChoice.shown.get(entry.id) ?? order.indexOf(entry) < SHOWN_AT_FIRST);
}

function renderCharts() {
  document.getElementById("charts").hidden = !currentGroup() || !measuredIn(currentGroup()).some(passes);
  renderSegments();
  renderLegend();
  drawCharts();
}

function renderSegments() {
  const set = document.getElementById("chart-data");
  set.hidden = Boolean(state.data) || datasets().length < 2;
  const choices = datasets().map((dataset) => {
    const input = element("input", {
      type: "radio", name: "chart-data", value: dataset.name, checked: dataset.name === chartDataset(),
      change: () => {
        chartChoice.data = dataset.name;
        drawCharts();
      },
    });
    return element("label", {}, input, element("span", {}, foreign(dataset.name)));
  });
  set.replaceChildren(set.querySelector("legend"), ...choices);
}

function renderLegend() {
  const set = document.getElementById("legend");
  const look = looks();
  const shown = new Set(charted());
  const boxes = inOrder().filter(passes).map((entry) => {
    const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.borderTopColor = look.get(entry.id).color;
    swatch.style.borderTopStyle = look.get(entry.id).dash ? "dashed" : "solid";
    const input = element("input", {
      type: "checkbox", checked: shown.has(entry),
      change: (event) => {
        chartChoice.shown.set(entry.id, event.target.checked);
        drawCharts();
      },
    });
    return element("label", {}, input, swatch, foreign(entry.name));
  });
  set.replaceChildren(set.querySelector("legend"), ...boxes);
}

function drawCharts() {
  if (document.getElementById("charts").hidden) return;
  const look = looks();
  drawCurves(charted(), look);
  drawLatency(charted(), look);
}

/** Fill a figure with a chart and its numbers, or with the reason why there is no chart. */
function fill(id, caption, chart, none, table) {
  const figure = document.getElementById(id);
  document.getElementById(`${id}-caption`).replaceChildren(foreign(caption));
  figure.querySelector(".plot").replaceChildren(chart || element("p", { class: "none" }, none));
  figure.querySelector("details").hidden = !chart;
  figure.querySelector("details .scroller").replaceChildren(...(chart ? [table] : []));
}

function plot(id, label, options) {
  const width = Math.max(document.querySelector(`#${id} .plot`).clientWidth, 240);
  const chart = Plot.plot({
    width, height: HEIGHT, marginLeft: 44, marginBottom: 48, style: { background: "transparent", fontSize: "12px" }, ...options,
  });
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", label);
  return chart;
}

/** Why a chart is empty. */
const nothingDrawn = (entries, what) => (entries.length ? `The ticked entries have no recorded ${what}.` : "Tick an entry above to draw it.");

function drawCurves(entries, look) {
  const name = chartDataset();
  const found = entries
    .map((entry) => ({ entry, curve: scoresOn(entry, name)?.curve }))
    .filter(({ curve }) => Array.isArray(curve) && curve.some((iou) => iou !== null));
  const caption = `on ${plain(name)}: mean over objects, in %; higher is better`;
  if (!found.length) return fill("curves", caption, null, nothingDrawn(entries, "curves"));
  // A missing mean is a gap in the line: Plot draws NaN as a gap, but null as 0.
  const points = found.flatMap(({ entry, curve }) =>
    curve.map((iou, index) => ({ entry, click: index + 1, iou: iou === null ? NaN : 100 * iou })),
  );
  const cap = currentGroup().max_clicks;
  const lowest = Math.min(...points.map((point) => point.iou).filter((iou) => !Number.isNaN(iou)));
  const lines = found.map(({ entry }) =>
    Plot.line(points.filter((point) => point.entry === entry), {
      x: "click", y: "iou", stroke: look.get(entry.id).color, strokeDasharray: look.get(entry.id).dash, strokeWidth: 2,
    }),
  );
  const title = ({ entry, click, iou }) => `${plain(entry.name)}\nclick ${click}: ${fixed(iou, 1)} %`;
  const chart = plot("curves", `Lines: mean IoU in percent after each of ${cap} clicks on ${plain(name)}, ${found.length} entries. The table below has the numbers.`, {
    x: { label: "clicks →", labelOffset: 38, domain: [1, cap], ticks: ticksOfClicks(cap), tickFormat: "d" },
    y: { label: "↑ mean IoU, %", grid: true, domain: [10 * Math.floor(Math.min(lowest, 90) / 10), 100] },
    marks: [...lines, Plot.tip(points.filter((point) => !Number.isNaN(point.iou)), Plot.pointer({ x: "click", y: "iou", title }))],
  });
  const clicks = [1, 2, 3, 5, 10, 15, 20].filter((click) => click <= cap);
  const table = simpleTable(
    "Mean IoU in % by number of clicks",
    ["Clicks", ...clicks.map(String)],
    found.map(({ entry, curve }) => [foreign(entry.name), ...clicks.map((click) => fixed(curve[click - 1] === null ? null : 100 * curve[click - 1], 1))]),
  );
  fill("curves", caption, chart, "", table);
}

function ticksOfClicks(cap) {
  const step = Math.max(1, Math.ceil(cap / 20) * 5);
  const between = d3.range(step, cap, step).filter((tick) => cap - tick >= step / 2);
  return [...new Set([1, ...between, cap])];
}

/** Round ends around all scores and intervals, but never beyond what the score can be. */
function scoreDomain(points, metric) {
  const [least, most] = metricLimits(metric);
  const ends = points.flatMap(({ score }) => [score.value, score.low, score.high]).filter((end) => typeof end === "number");
  const [low, high] = d3.nice(...d3.extent(ends), 10);
  return [Math.max(low, least), Math.min(high, most)];
}

/** Lowest and highest value of a score in its unit: from one click to the cap, or from 0 to 100 %. */
const metricLimits = (metric) => (METRICS[metric].fewer ? [1, currentGroup().max_clicks] : [0, 100]);

const scaledEnd = (end, factor) => (typeof end === "number" ? end * factor : null);

function drawLatency(entries, look) {
  const name = chartDataset();
  const metric = headlineOf(currentGroup());
  const { label: metricLabel, unit, factor, digits, fewer } = METRICS[metric];
  document.getElementById("latency-title").textContent = `${metricLabel} against time`;
  const inUnit = (found) => found && { value: found.value * factor, low: scaledEnd(found.low, factor), high: scaledEnd(found.high, factor) };
  const points = entries
    .map((entry) => ({ entry, ms: entry.ms_per_image, score: inUnit(estimate(entry, name, metric)), on: entry.timed_on || "unknown" }))
    .filter(({ ms, score }) => typeof ms === "number" && ms > 0 && score);
  const machines = [...new Set(points.map((point) => point.on))];
  const symbol = (point) => SYMBOLS[machines.indexOf(point.on) % SYMBOLS.length];
  const where =
    machines.length > 1
      ? ` Compare times only between equal symbols: ${machines.map((machine, index) => `${SYMBOLS[index % SYMBOLS.length]}: ${plain(machine)}`).join("; ")}.`
      : machines.length ? ` Timed on ${plain(machines[0])}.` : "";
  const caption = `on ${plain(name)}, with 95 % intervals; ${fewer ? "lower" : "upper"} left is better.${where}`;
  if (!points.length) return fill("latency", caption, null, nothingDrawn(entries, "times"));
  const times = points.map((point) => point.ms);
  const wide = Math.max(...times) / Math.min(...times) > 8;
  const title = ({ entry, ms, score, on }) =>
    `${plain(entry.name)}\n${metricLabel} ${fixed(score.value, digits)}${typeof score.low === "number" ? ` [${fixed(score.low, digits)}, ${fixed(score.high, digits)}]` : ""}\n${milliseconds(ms)} ms, ${plain(on)}`;
  const place = { x: "ms", y: (point) => point.score.value };
  const marks = [
    Plot.ruleX(points.filter((point) => typeof point.score.low === "number"), {
      x: "ms", y1: (point) => point.score.low, y2: (point) => point.score.high, stroke: (point) => look.get(point.entry.id).color, strokeWidth: 1.5,
    }),
    Plot.dot(points, { ...place, symbol, r: 5, fill: (point) => look.get(point.entry.id).color, stroke: "var(--page)", strokeWidth: 1 }),
  ];
  const options = {
    x: wide
      ? { type: "log", label: "milliseconds per image (log scale) →", labelOffset: 38, domain: [Math.min(...times) / 1.6, Math.max(...times) * 1.6], ticks: 4, tickFormat: "~g" }
      : { label: "milliseconds per image →", labelOffset: 38, domain: [0, Math.max(...times) * 1.15] },
    y: { label: `↑ ${metricLabel}, ${unit}`, grid: true, domain: scoreDomain(points, metric), inset: 8 },
    color: { type: "identity" },
    symbol: { type: "identity" },
  };
  const label = `Points: ${metricLabel} on ${plain(name)} against milliseconds per image, ${points.length} entries. The table below has the numbers.`;
  const scales = plot("latency", label, { ...options, marks });
  const names = labels(points, scales).map(({ point, dx, dy, anchor }) =>
    Plot.text([point], { ...place, text: () => plain(point.entry.name), dx, dy, textAnchor: anchor, fill: "currentColor", stroke: "var(--page)", strokeWidth: 3 }),
  );
  const chart = plot("latency", label, { ...options, marks: [...marks, ...names, Plot.tip(points, Plot.pointer({ ...place, title }))] });
  const table = simpleTable(
    `${metricLabel} and time`,
    ["Entry", "ms per image", metricLabel, "Timed on"],
    points.map(({ entry, ms, score, on }) => [foreign(entry.name), milliseconds(ms), fixed(score.value, digits), foreign(on)]),
  );
  fill("latency", caption, chart, "", table);
}

/** Places names beside their points without covering other names or points; leaves out names that fit nowhere. */
function labels(points, chart) {
  const [x, y] = [chart.scale("x"), chart.scale("y")];
  const width = chart.width.baseVal.value;
  const dots = points.map((point) => ({ left: x.apply(point.ms) - 6, top: y.apply(point.score.value) - 6, right: x.apply(point.ms) + 6, bottom: y.apply(point.score.value) + 6 }));
  const taken = [...dots];
  const placed = [];
  points.forEach((point, index) => {
    const length = 7 * Math.min(plain(point.entry.name).length, 40);
    const [cx, cy] = [dots[index].left + 6, dots[index].top + 6];
    const tries = [
      { anchor: "start", dx: 9, dy: 0, left: cx + 9 },
      { anchor: "end", dx: -9, dy: 0, left: cx - 9 - length },
      { anchor: "start", dx: 9, dy: -12, left: cx + 9 },
      { anchor: "start", dx: 9, dy: 12, left: cx + 9 },
      { anchor: "end", dx: -9, dy: -12, left: cx - 9 - length },
      { anchor: "end", dx: -9, dy: 12, left: cx - 9 - length },
    ];
    for (const spot of tries) {
      const box = { left: spot.left, right: spot.left + length, top: cy + spot.dy - 7, bottom: cy + spot.dy + 7 };
      const meets = (other) => box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom;
      const inside = box.left > 44 && box.right < width - 4 && box.top > 14 && box.bottom < HEIGHT - 48;
      if (inside && !taken.some((other, which) => which !== index && meets(other))) {
        taken.push(box);
        placed.push({ point, ...spot });
        break;
      }
    }
  });
  return placed;
}
