// Plots of a device's values: read from the API, drawn by uPlot, with a table for everybody else.
// A silence is a gap; a gauge is a line of means between its least and greatest values.

const box = document.getElementById("plot-boxes");
const words = box?.querySelector("template").dataset;
const POINTS = 600;
const HEIGHT = 230;
const ROWS_MAX = 200;
const COLOURS = ["#0d9488", "#d97706", "#6366f1", "#db2777"];
const SCALES = { "0.1 °C": [0.1, "°C"], bytes: [1 / 1048576, "MiB"] };

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function scaled(values, factor) {
  return values.map((value) => (value === null ? null : value * factor));
}

// Columns for uPlot: the instants in seconds, then for each field its mean, or its increase.
function columns(found, names, labels) {
  const at = found.at.map((ms) => ms / 1000);
  const series = [];
  for (const field of found.fields) {
    const label = labels[names.indexOf(field.field)] ?? field.field;
    const [factor, unit] = SCALES[field.unit] ?? [1, field.unit];
    const values = field.increase ?? field.mean;
    if (!values || values.every((value) => value === null)) continue;
    series.push({
      label: `${label} (${unit})`,
      values: scaled(values, factor),
      low: field.min ? scaled(field.min, factor) : null,
      high: field.max ? scaled(field.max, factor) : null,
      bars: Boolean(field.increase),
    });
  }
  return [at, series];
}

function draw(figure, at, series, span) {
  const data = [at];
  const shown = [{}];
  const bands = [];
  const time = new Intl.DateTimeFormat(box.dataset.language, {
    timeZone: box.dataset.zone,
    dateStyle: "medium",
    timeStyle: "short",
  });
  shown[0].label = words.time;
  shown[0].value = (_plot, seconds) => (seconds === null ? "–" : time.format(seconds * 1000));
  series.forEach((one, index) => {
    const stroke = COLOURS[index % COLOURS.length];
    data.push(one.values);
    shown.push({
      label: one.label,
      stroke,
      width: 1.6,
      spanGaps: false,
      points: { show: at.length < 60 },
      paths: one.bars ? window.uPlot.paths.bars({ size: [0.8, 24] }) : undefined,
      fill: one.bars ? `${stroke}55` : undefined,
      value: (_plot, value) => (value === null ? "–" : String(Math.round(value * 100) / 100)),
    });
    if (one.low && one.high && index === 0) {
      const edge = { stroke: "transparent", width: 0, points: { show: false }, spanGaps: false, class: "edge" };
      data.push(one.high, one.low);
      shown.push({ ...edge, label: "max", value: () => "" }, { ...edge, label: "min", value: () => "" });
      bands.push({ series: [data.length - 2, data.length - 1], fill: `${stroke}22` });
    }
  });
  const axis = {
    stroke: colour("--quiet"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
  };
  // In the reader's way and zone; uPlot's own dates are American.
  const short = new Intl.DateTimeFormat(box.dataset.language, {
    timeZone: box.dataset.zone,
    ...(Number(box.dataset.seconds) > 2 * 86400
      ? { day: "numeric", month: "short" }
      : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
  });
  const instants = (_plot, splits) => splits.map((seconds) => short.format(seconds * 1000));
  const options = {
    width: figure.clientWidth,
    height: HEIGHT,
    series: shown,
    scales: { x: { time: true, min: span[0], max: span[1] } },
    bands,
    axes: [{ ...axis, values: instants }, { ...axis, size: 56 }],
    tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), box.dataset.zone),
    cursor: { drag: { x: true, y: false } },
    legend: { live: true },
  };
  const plot = new window.uPlot(options, data, figure);
  new ResizeObserver(() => {
    if (figure.clientWidth) plot.setSize({ width: figure.clientWidth, height: HEIGHT });
  }).observe(figure);
}

function table(figure, at, series) {
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = words.table;
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (details.querySelector("table")) return;
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    const made = document.createElement("table");
    const head = made.createTHead().insertRow();
    for (const text of [words.time, ...series.map((one) => one.label)]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      head.append(cell);
    }
    const body = made.createTBody();
    for (let index = at.length - 1; index >= Math.max(0, at.length - ROWS_MAX); index -= 1) {
      const row = body.insertRow();
      row.insertCell().textContent = new Date(at[index] * 1000).toLocaleString(box.dataset.language, {
        timeZone: box.dataset.zone,
      });
      for (const one of series) {
        const value = one.values[index];
        row.insertCell().textContent = value === null ? "–" : String(Math.round(value * 100) / 100);
      }
    }
    scroll.append(made);
    scroll.tabIndex = 0;
    details.append(scroll);
  });
  figure.append(details);
}

function note(figure, text) {
  const said = document.createElement("p");
  said.className = "quiet";
  said.textContent = text;
  figure.append(said);
}

async function fill(figure) {
  const end = new Date();
  const begin = new Date(end.getTime() - Number(box.dataset.seconds) * 1000);
  const query = new URLSearchParams({
    from: begin.toISOString().replace(/\.\d+Z/, "Z"),
    to: end.toISOString().replace(/\.\d+Z/, "Z"),
    points: String(POINTS),
    fields: figure.dataset.plot.split(" ").join(","),
  });
  const address = `/api/v1/devices/${encodeURIComponent(box.dataset.serial)}/series?${query}`;
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(String(answer.status));
    const names = figure.dataset.plot.split(" ");
    const [at, series] = columns(await answer.json(), names, figure.dataset.labels.split("|"));
    if (!series.length) {
      note(figure, words.none);
      return;
    }
    if (window.uPlot) draw(figure, at, series, [begin.getTime() / 1000, end.getTime() / 1000]);
    table(figure, at, series);
  } catch {
    note(figure, words.failed);
  }
}

if (box) {
  // A script with `defer` runs before this module does, where it is there at all.
  for (const figure of box.querySelectorAll("figure[data-plot]")) fill(figure);
}
