"use strict";
// What a report does once it is open: plots, sorting, the wipe, and which pictures are shown.
// The numbers come with the page, in the element #data; nothing is fetched.

const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const hidden = new Set(); // names of subjects that the legend has switched off
const escaped = text => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const colour = name => data.subjects[name].colours[dark.matches ? 1 : 0];
const MOST_CHIPS = 8; // names to choose from that stand side by side
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// A chip for each of `names`; `press` is called with the name and the event.
function addChips(box, names, press) {
  for (const name of names) {
    const chip = document.createElement("button");
    chip.textContent = name;
    chip.dataset.name = name;
    chip.addEventListener("click", event => press(name, event));
    box.append(chip);
  }
}

// The same for names too many for chips.
function addSelect(box, names, choose) {
  const list = document.createElement("select");
  list.append(...names.map(name => new Option(name)));
  list.addEventListener("change", () => choose(list.value));
  box.append(list);
}

function pressOnly(box, name) {
  for (const chip of box.children) chip.setAttribute("aria-pressed", chip.dataset.name === name);
}

// ---- plots ----

// 1, 2, 5, 10 … in both directions: what a logarithmic axis says of itself.
const TICKS = [-4, -3, -2, -1, 0, 1, 2].flatMap(power => [1, 2, 5].map(digit => Number(`${digit}e${power}`)));

function layout(x, more) {
  const style = getComputedStyle(document.documentElement);
  const [ink, line, page] = ["--ink", "--line", "--page"].map(name => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true };
  return {
    font: { color: ink, family: "system-ui, sans-serif", size: 13 },
    paper_bgcolor: page, plot_bgcolor: page, showlegend: false, hovermode: "closest",
    margin: { l: 56, r: 12, t: 30, b: 44 },
    hoverlabel: { bgcolor: page, font: { color: ink } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    xaxis: { ...axis, title: { text: x }, ...more }, yaxis: axis,
  };
}

const BUTTONS = ["toImage", "zoom2d", "pan2d", "resetScale2d"]; // none that would send anything anywhere
const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [BUTTONS] };
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];

function drawRates(box, metric) {
  const shown = metric.points.filter(point => !hidden.has(point.subject));
  const families = Map.groupBy(shown, point => data.subjects[point.subject].family || point.subject);
  const traces = [...families.values()].map(points => ({
    x: points.map(point => point.x), y: points.map(point => point.y), type: "scatter",
    mode: points.length > 1 ? "lines+markers" : "markers",
    line: { width: 1.5, color: colour(points[points.length >> 1].subject) },
    marker: {
      color: points.map(point => colour(point.subject)),
      symbol: points.map(point => (data.subjects[point.subject].kind === "model" ? "star" : "circle")),
      opacity: 1,
      size: points.map(point => (data.subjects[point.subject].kind === "model" ? 13 : 8)),
    },
    text: points.map(point => escaped(point.subject)),
    hovertemplate: `<b>%{text}</b><br>%{x:.4~g} bits per pixel<br>${metric.name} %{y:.4~g}<extra></extra>`,
  }));
  Plotly.react(box, traces, layout("bits per pixel", { type: "log", tickvals: TICKS }), CONFIG);
}

function drawFrames(box, clip, metric) {
  const families = {}; // how many lines of a family there are: they differ by their dashes
  const traces = [];
  for (const line of clip.lines) {
    const { family, kind } = data.subjects[line.subject];
    const nth = (families[family] = (families[family] ?? -1) + 1);
    const score = line.scores[metric.name];
    if (!score || hidden.has(line.subject)) continue;
    traces.push({
      x: clip.times.slice(score.first, score.first + score.values.length), y: score.values,
      type: "scatter", mode: score.values.length < 3 ? "markers" : "lines",
      line: { width: kind === "model" ? 2 : 1.3, color: colour(line.subject), dash: DASHES[nth % DASHES.length] },
      hovertemplate: `<b>${escaped(line.subject)}</b><br>%{x:.3f} s<br>${metric.name} %{y:.4~g}<extra></extra>`,
    });
  }
  Plotly.react(box, traces, layout("seconds", {}), CONFIG);
}

const chosen = { clip: data.clips[0]?.name, metric: data.frame_metrics[0]?.name };

function draw() {
  for (const box of all(".rate.plot")) drawRates(box, data.rates[box.dataset.nth]);
  const box = document.querySelector(".frames.plot");
  const find = (list, name) => list.find(item => item.name === name);
  if (!box) return;
  const metric = find(data.frame_metrics, chosen.metric);
  box.previousElementSibling.textContent = metric.label;
  drawFrames(box, find(data.clips, chosen.clip), metric);
}

// A click switches a subject off or on everywhere; a second click at once leaves it alone, or shows all again.
function addLegend(box) {
  const names = Object.keys(data.subjects);
  const show = () => {
    for (const chip of box.children) chip.setAttribute("aria-pressed", !hidden.has(chip.dataset.name));
    draw();
  };
  addChips(box, names, (name, event) => {
    if (event.detail === 2) {
      const alone = hidden.size === names.length; // the first click has just switched it off
      hidden.clear();
      if (!alone) for (const other of names) if (other !== name) hidden.add(other);
    } else if (!hidden.delete(name)) hidden.add(name);
    show();
  });
  for (const chip of box.children) {
    const dot = document.createElement("i");
    dot.className = "dot";
    const [light, dark] = data.subjects[chip.dataset.name].colours;
    dot.style.setProperty("--light", light);
    dot.style.setProperty("--dark", dark);
    chip.prepend(dot);
  }
  show();
}

function addChoice(box, part, names) {
  if (!box || names.length < 2) return;
  const choose = name => {
    chosen[part] = name;
    draw();
  };
  if (names.length > MOST_CHIPS) {
    addSelect(box, names, choose);
    return;
  }
  addChips(box, names, name => {
    choose(name);
    pressOnly(box, name);
  });
  pressOnly(box, chosen[part]);
}

// ---- tables ----

const number = cell => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));

function compareCells(a, b) {
  const [x, y] = [number(a), number(b)];
  if (x === null && y === null) return a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  return x === null ? 1 : y === null ? -1 : x - y; // where nothing was measured is last, or first
}

// Rows are sorted inside their groups. Numbers begin with the largest.
function sortBy(header) {
  const table = header.closest("table");
  const falls = header.classList.contains("number");
  const order = header.ariaSort === (falls ? "descending" : "ascending") ? !falls : falls;
  for (const other of all("th", table)) other.removeAttribute("aria-sort");
  header.ariaSort = order ? "descending" : "ascending";
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !row.classList.contains("group"));
    rows.sort((a, b) => compareCells(a.cells[header.cellIndex], b.cells[header.cellIndex]) * (order ? -1 : 1));
    body.append(...rows);
  }
}

function hintAtMore(box) {
  box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
}

// ---- pictures ----

function showOnly(panels, nth) {
  panels.forEach((panel, n) => (panel.hidden = n !== nth));
  for (const film of panels.flatMap(panel => all("video", panel))) film.pause();
}

function addPicker(box, panels) {
  const labels = panels.map(panel => panel.dataset.label);
  panels.forEach((panel, n) => {
    const chip = document.createElement("button");
    chip.textContent = labels[n];
    chip.addEventListener("click", () => {
      showOnly(panels, n);
      for (const other of box.children) other.setAttribute("aria-pressed", other === chip);
    });
    box.append(chip);
  });
  box.children[0].click();
}

for (const header of all("th")) header.querySelector("button")?.addEventListener("click", () => sortBy(header));
for (const box of all(".scroll")) {
  box.addEventListener("scroll", () => hintAtMore(box), { passive: true });
  new ResizeObserver(() => hintAtMore(box)).observe(box);
}
for (const slider of all(".wipe input")) {
  slider.addEventListener("input", () => slider.parentElement.style.setProperty("--at", `${slider.value}%`));
}
for (const box of all(".picker")) addPicker(box, all(":scope > .panel", box.parentElement));
addChoice(document.querySelector(".choose-clip"), "clip", data.clips.map(clip => clip.name));
addChoice(document.querySelector(".choose-metric"), "metric", data.frame_metrics.map(metric => metric.name));
const legend = document.querySelector(".legend");
if (legend) addLegend(legend);
dark.addEventListener("change", draw);
