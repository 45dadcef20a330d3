// The hashrate chart: all workers together as a filled line, the busiest ones as thin lines.
// uPlot draws; what it shows is said in words and in a legend of our own.

import { h, keyed, setAttribute, setText, show } from "./dom.js";
import * as format from "./format.js";
import { workerParts } from "./parts.js";

// As many as can be told apart.
export const LINES_MAX = 6;

// Colours come from the style sheet, so that a change of theme needs a new chart.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    total: read("--line-1"),
    fill: read("--fill"),
    lines: [2, 3, 4, 5, 6].map((at) => read(`--line-${at}`)).concat(read("--share-none")),
    rule: read("--rule"),
    text: read("--ink-faint"),
    font: `12px ${read("--sans")}`,
  };
}

export function hashrateChart() {
  const hidden = new Set(); // names of workers whose line is switched off
  const canvas = h("div", { class: "chart-canvas", role: "img" });
  const legend = h("ul", { class: "legend" });
  const time = h("span", { class: "legend-time" });
  const empty = h("p", { class: "empty chart-empty" }, "Nothing recorded yet for this time. The line starts with the first shares.");
  const legendLine = h("div", { class: "legend-line" }, legend, time);
  const element = h("div", { class: "chart" }, canvas, empty, legendLine);
  let plot = null;
  let drawn = "";
  let model = null;

  const rebuild = () => {
    plot?.destroy();
    plot = null;
    drawn = "";
    draw();
  };
  const draw = () => {
    if (!model) return;
    const hasData = model.total.some((value) => value !== null);
    show(canvas, hasData);
    show(empty, !hasData);
    show(legendLine, hasData);
    drawLegend(null);
    const shape = [model.window, ...model.lines.map((line) => line.worker)].join("\n");
    const data = [model.times, model.total, ...model.lines.map((line) => line.values)];
    if (!hasData || !canvas.clientWidth) return;
    if (!plot || drawn !== shape) {
      plot?.destroy();
      plot = new window.uPlot(optionsOf(model, canvas, hidden, drawLegend), data, canvas);
      drawn = shape;
    } else {
      plot.setData(data);
    }
    setAttribute(canvas, "aria-label", describe(model));
  };
  const drawLegend = (at) => {
    const last = model.total.findLastIndex((value) => value !== null);
    const shown = at ?? last;
    setText(time, at === null ? "" : format.moment(model.times[at]));
    const palette = colours();
    const rows = [{ worker: "", name: "All miners", values: model.total, colour: palette.total }]
      .concat(model.lines.map((line, index) => ({ ...line, name: workerParts(line.worker)[0], colour: palette.lines[index] })));
    keyed(legend, model.lines.length ? rows : rows.slice(0, 1), (row) => row.worker, (row) => legendItem(row, toggle),
      (item, row) => {
        const part = item.firstChild;
        part.children[0].style.backgroundColor = row.colour;
        setText(part.children[1], row.name);
        setText(part.children[2], format.hashrate(row.values[shown] ?? null));
        if (row.worker) setAttribute(part, "aria-pressed", hidden.has(row.worker) ? "false" : "true");
      });
  };
  const toggle = (worker) => {
    if (!hidden.delete(worker)) hidden.add(worker);
    const index = model.lines.findIndex((line) => line.worker === worker);
    plot?.setSeries(index + 2, { show: !hidden.has(worker) });
    drawLegend(null);
  };

  const observer = new ResizeObserver(() => {
    if (plot && canvas.clientWidth) plot.setSize({ width: canvas.clientWidth, height: heightOf(canvas) });
    else draw();
  });
  observer.observe(canvas);
  document.addEventListener("themechange", rebuild);
  return {
    element,
    update(history) {
      const next = modelOf(history);
      if (model && model.key === next.key) return;
      model = next;
      draw();
    },
    leave() {
      observer.disconnect();
      document.removeEventListener("themechange", rebuild);
      plot?.destroy();
    },
  };
}

function legendItem(row, toggle) {
  const parts = [h("span", { class: "swatch" }), h("span", { class: "legend-name" }), h("span", { class: "legend-value" })];
  if (!row.worker) return h("li", null, h("span", { class: "legend-entry" }, parts));
  return h("li", null, h("button", { type: "button", class: "legend-entry", title: row.worker, onclick: () => toggle(row.worker) }, parts));
}

// One worker alone is all miners together: no line of its own.
function modelOf({ window_s: window, step_s: step, at_unix_s: times, series }) {
  const total = series.find((one) => one.worker === null)?.values ?? times.map(() => null);
  const workers = series.filter((one) => one.worker !== null);
  const lines = workers.length < 2 ? [] : workers.slice(0, LINES_MAX);
  const key = JSON.stringify([window, times.at(-1), total.at(-1), lines.map((line) => [line.worker, line.values.at(-1)])]);
  return { key, window, step, times, total, lines };
}

function optionsOf(model, canvas, hidden, drawLegend) {
  const palette = colours();
  const axis = { stroke: palette.text, font: palette.font, grid: { stroke: palette.rule, width: 1 }, ticks: { show: false }, gap: 8 };
  return {
    width: canvas.clientWidth,
    height: heightOf(canvas),
    legend: { show: false },
    padding: [12, 28, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true, range: () => spanOf(model) }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 30, space: 84, values: (_, ticks) => ticks.map((at, index) => tickOf(at, ticks[index - 1], model.window)) },
      { ...axis, size: 72, space: 48, values: (_, ticks) => ticks.map(tickRate) },
    ],
    series: [
      {},
      { stroke: palette.total, width: 2, fill: palette.fill, points: { show: false }, spanGaps: false },
      ...model.lines.map((line, at) => ({ stroke: palette.lines[at], width: 1.25, points: { show: false }, show: !hidden.has(line.worker) })),
    ],
    hooks: { setCursor: [(plot) => drawLegend(plot.cursor.idx ?? null)] },
  };
}

// The whole window, even when little of it is recorded: else a new gateway's five minutes would
// look like a day.
function spanOf(model) {
  const end = model.times.at(-1) + model.step;
  return [end - model.window, end];
}

function tickOf(at, before, window) {
  const date = new Date(at * 1000);
  const isNewDay = before === undefined ? window > DAY_S : new Date(before * 1000).getDate() !== date.getDate();
  if (isNewDay && window >= DAY_S) return dayOf.format(date);
  return window > DAY_S && date.getHours() === 0 ? dayOf.format(date) : timeOf.format(date);
}

// "2.00 PH/s" is exact, "2 PH/s" is an axis.
function tickRate(value) {
  const [number, unit] = format.hashrateParts(value);
  return `${Number(number)} ${unit}`;
}

function heightOf(canvas) {
  return canvas.clientHeight || 260;
}

function describe(model) {
  const known = model.total.filter((value) => value !== null);
  const hours = format.duration(model.window);
  return `Hashrate over ${hours}: ${format.hashrate(known.at(-1))} now, between ${format.hashrate(Math.min(...known))} and ${format.hashrate(Math.max(...known))}.`;
}

const DAY_S = 86_400;
const timeOf = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayOf = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric" });
