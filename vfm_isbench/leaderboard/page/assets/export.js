"use strict";
// Exports the visible rows in the order of the table, followed by quoted ones.

const PLACE = ["rank", "rank_low", "rank_high"];
const DETAILS = ["status", "origin", "why_unranked", "trust", "parameters", "ms_per_image", "timed_on", "code", "paper", "citation", "date", "submitter", "version", "signature", "notes"];

function exported() {
  const { ranked, unranked } = shownRows();
  return [...ranked, ...unranked, ...quotedOnShown()];
}

/** A field of a CSV file. An apostrophe precedes text that a spreadsheet would read as a formula. */
function csvField(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = plain(value);
  const harmless = /^\s*[=+\-@|]/.test(text) ? `'${text}` : text;
  return /[",;]|^\s|\s$/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** All scores on the visible data sets, in full precision; IoU in [0, 1]. */
function asCsv() {
  const group = currentGroup();
  const names = shownDatasets().map((dataset) => dataset.name);
  const scores = names.flatMap((name) => Object.keys(METRICS).flatMap((metric) => ["value", "low", "high"].map((part) => [name, metric, part])));
  const head = [
    "id", "name", "upsampler", "rank", "rank_low", "rank_high", `mean_${headlineOf(group)}`, "seeds", "protocol", "injection", "fingerprint", "backbone",
    ...names.flatMap((name) => PLACE.map((part) => `${name}_${part}`)),
    ...scores.map(([name, metric, part]) => (part === "value" ? `${name}_${metric}` : `${name}_${metric}_${part}`)),
    ...names.map((name) => `${name}_not_reached90`),
    ...DETAILS,
  ];
  const rows = exported().map((entry) => {
    const own = entry.group === group.id ? group : null;
    return [
      entry.id, entry.name, entry.upsampler, ...PLACE.map((part) => entry[part]), entry.mean_headline, (entry.seeds || []).join(" "),
      entry.protocol, entry.injection, own && own.fingerprint, own && own.backbone,
      ...names.flatMap((name) => PLACE.map((part) => scoresOn(entry, name)?.[part])),
      ...scores.map(([name, metric, part]) => estimate(entry, name, metric)?.[part]),
      ...names.map((name) => scoresOn(entry, name)?.not_reached90),
      ...DETAILS.map((key) => (Array.isArray(entry[key]) ? entry[key].join("; ") : entry[key])),
    ];
  });
  return [head, ...rows].map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}

/** The entries as stored in the page, with their group and the current filters. */
function asJson() {
  const { protocol, backbone, data, trust, q, sort, desc } = state;
  const view = { protocol, backbone, data, metric: shownMetric(), trust, q, sort, descending: desc === "1" };
  const content = { generated: page.generated, version: page.version, group: currentGroup(), view, entries: exported() };
  return JSON.stringify(content, null, 1) + "\n";
}

const LATEX = {
  "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", _: "\\_",
  "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}", '"': "\\textquotedbl{}",
  "|": "\\textbar{}", "⟨": "\\textless{}", "⟩": "\\textgreater{}", "–": "--",
};

function latexText(value) {
  return plain(value).replace(/[\\{}$&#%_^~<>"|⟨⟩–]/g, (character) => LATEX[character]);
}

/** The visible table; needs the LaTeX packages booktabs and (for quotation marks) T1 fonts. */
function asLatex() {
  const group = currentGroup();
  const { ranked, unranked } = shownRows();
  const scores = columns().filter((column) => column.kind === "score");
  const cell = (found) => {
    if (!found) return "--";
    const { value, low, high, factor, digits } = found;
    const number = (score) => (score * factor).toFixed(digits);
    return typeof low === "number" ? `${number(value)} {\\scriptsize [${number(low)}, ${number(high)}]}` : number(value);
  };
  const row = (entry) => {
    const name = latexText(entry.name) + (entry.status === "quoted" ? "$^{q}$" : "");
    const place = placeOf(entry);
    return `${place ? placeText(place).replace("–", "--") : "--"} & ${name} & ${scores.map((column) => cell(column.text(entry))).join(" & ")} \\\\`;
  };
  const quoted = quotedOnShown().filter((entry) => scores.some((column) => column.text(entry)));
  const source = (entry) => [`${entry.origin || "quoted"}: ${entry.citation || entry.paper || "an unrecorded source"}`, ...(entry.notes || [])].join("; ");
  const sources = [...new Set(quoted.map(source))];
  const remarks = [
    `% vfm_isbench ${plain(page.version)}, ${plain(page.generated)}; needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}`,
    `% ${plain(group.signature || group.fingerprint)}`,
    `% in brackets: 95 % intervals; ranks by ${METRICS[headlineOf(group)].label}, and the ranks that the evidence leaves open, at 95 % for all entries together`,
    ...(/^demo\b/.test(group.protocol) ? ["% demo protocol: not leaderboard numbers"] : []),
    ...sources.map((text) => `% q: not measured, ${plain(text)}`),
  ];
  return [
    ...remarks,
    `\\begin{tabular}{rl${"r".repeat(scores.length)}}`,
    "\\toprule",
    `Rank & Upsampler & ${scores.map((column) => latexText(state.data ? `${column.label}${column.unit === "%" ? " (%)" : ""}` : `${column.label}, ${METRICS[shownMetric()].label}`)).join(" & ")} \\\\`,
    "\\midrule",
    ...ranked.map(row),
    ...(unranked.length ? ["\\midrule", ...unranked.map(row)] : []),
    ...(quoted.length ? ["\\midrule", ...quoted.map(row)] : []),
    "\\bottomrule",
    "\\end{tabular}",
    "",
  ].join("\n");
}

function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
  say(`${name} saved`);
}

document.getElementById("export-csv").addEventListener("click", () => download("leaderboard.csv", "text/csv", asCsv()));
document.getElementById("export-json").addEventListener("click", () => download("leaderboard.json", "application/json", asJson()));
document.getElementById("export-latex").addEventListener("click", () => download("leaderboard.tex", "application/x-tex", asLatex()));
