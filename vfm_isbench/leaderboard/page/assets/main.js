"use strict";
// Controls and rendering order.

const root = document.documentElement;
const themeButton = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
}

function showTheme() {
  themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
}

/** The stored theme; null if the browser stores nothing for files. */
function storedTheme(value) {
  try {
    if (value) localStorage.setItem("theme", value);
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  storedTheme(root.dataset.theme);
  showTheme();
});
systemDark.addEventListener("change", showTheme);

function option(value, label, chosen) {
  return element("option", { value, selected: value === chosen }, plain(label));
}

function groupLabel(group) {
  const count = measuredIn(group).length;
  return `${group.protocol} · ${group.backbone} · ${group.click_encoder}, ${group.injection} · ${group.head} · ${group.image_size} px (${plural(count, "entry", "entries")})`;
}

function renderFilters() {
  const fillIn = (id, options) => document.getElementById(id).replaceChildren(...options);
  const unique = (values) => [...new Set(values)].sort();
  const fitting = page.groups.filter((group) => !state.protocol || group.protocol === state.protocol);
  fillIn("group", matchingGroups().map((group) => option(group.id, groupLabel(group), state.group)));
  fillIn("protocol", [option("", "any", state.protocol), ...unique(page.groups.map((group) => group.protocol)).map((name) => option(name, name, state.protocol))]);
  fillIn("backbone", [option("", "any", state.backbone), ...unique(fitting.map((group) => group.backbone)).map((name) => option(name, name, state.backbone))]);
  fillIn("data", [option("", "all", state.data), ...datasets().map(({ name }) => option(name, name, state.data))]);
  fillIn("metric", Object.entries(METRICS).map(([key, { label }]) => option(key, label, shownMetric())));
  fillIn("trust", [option("", "any", state.trust), ...TRUST.slice(1).map((tier) => option(tier, tier, state.trust))]);
  const metric = document.getElementById("metric");
  metric.disabled = Boolean(state.data);
  metric.title = state.data ? "All scores are visible for a single data set." : "";
  const name = document.getElementById("q");
  if (name.value !== state.q) name.value = state.q;
}

function render() {
  settle();
  renderFilters();
  renderSetting();
  renderMeaning();
  renderVerdict();
  renderTable();
  renderCharts();
  renderQuoted();
  renderLists();
  renderWanted();
  writeAddress();
}

const filters = document.getElementById("filters");
filters.addEventListener("submit", (event) => event.preventDefault());

function choose({ id, value }) {
  state[id] = value;
  // Show the largest group of a new protocol or backbone, not the previously chosen one.
  if (id === "protocol" || id === "backbone") state.group = "";
  if (id === "protocol" && !page.groups.some((group) => group.protocol === value && group.backbone === state.backbone)) state.backbone = "";
  render();
}

filters.addEventListener("change", (event) => choose(event.target));
document.getElementById("q").addEventListener("input", (event) => choose(event.target));
document.getElementById("reset").addEventListener("click", reset);

function reset() {
  Object.assign(state, DEFAULTS);
  render();
}

function fromAddress() {
  const asked = readAddress();
  if (FILTERS.some((key) => state[key])) document.getElementById("choices").open = true;
  const entry = state.entry;
  render();
  if (!asked) return;
  if (entry) openDetail(entry);
  else if (detail.open) detail.close();
}

let drawnAt = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (Math.abs(contentRect.width - drawnAt) < 1) return;
  drawnAt = contentRect.width;
  requestAnimationFrame(drawCharts);
}).observe(document.querySelector("#curves"));
addEventListener("hashchange", fromAddress);

if (["dark", "light"].includes(storedTheme())) root.dataset.theme = storedTheme();
showTheme();
fromAddress();
