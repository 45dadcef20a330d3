// The hashrate chart: all workers together as a filled line, the busiest ones as thin lines.
// uPlot draws it; we describe it in words, in a legend of our own.

import { div, h, keyed, p, setAttribute, setText, show, span } from "./dom.js";
import * as format from "./format.js";
import { workerParts } from "./parts.js";

// As many colours as can be told apart.
export const LINES_MAX = 6;

// Colours come from the style sheet, so a change of theme needs a new chart.
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

export class HashrateChart {
  constructor() {
    this.canvas = h("div", { class: "chart-canvas", role: "img" });
    this.empty = p(
      "empty chart-empty",
      "Nothing recorded yet for this time. The line starts after the first minute of shares.",
    );
    this.legend = h("ul", { class: "legend" });
    this.time = span("legend-time");
    this.legendLine = div("legend-line", this.legend, this.time);
    this.element = div("chart", this.canvas, this.empty, this.legendLine);
    this.hidden = new Set(); // names of workers whose line is hidden
    this.model = null;
    this.plot = null;
    this.drawn = "";
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.canvas);
    this.onTheme = () => {
      this.drawn = "";
      this.draw();
    };
    document.addEventListener("themechange", this.onTheme);
  }

  update(history) {
    const next = modelOf(history);
    if (this.model?.key === next.key) return;
    this.model = next;
    this.draw();
  }

  leave() {
    this.observer.disconnect();
    document.removeEventListener("themechange", this.onTheme);
    this.plot?.destroy();
  }

  fit() {
    if (this.plot && this.canvas.clientWidth) this.plot.setSize(sizeOf(this.canvas));
    else this.draw();
  }

  draw() {
    const { model, canvas } = this;
    if (!model) return;
    const hasData = model.total.some((value) => value !== null);
    show(canvas, hasData);
    show(this.legendLine, hasData);
    show(this.empty, !hasData);
    this.drawLegend(null);
    if (!hasData || !canvas.clientWidth) return;
    const shape = [model.window, ...model.lines.map((line) => line.worker)].join("\n");
    const data = [model.times, model.total, ...model.lines.map((line) => line.values)];
    if (this.plot && this.drawn === shape) {
      this.plot.setData(data);
    } else {
      this.plot?.destroy();
      this.plot = new window.uPlot(optionsOf(this), data, canvas);
      this.drawn = shape;
    }
    setAttribute(canvas, "aria-label", describe(model));
  }

  // Names the lines, with their values at the cursor or, without one, their latest.
  drawLegend(at) {
    const { model, hidden } = this;
    const shown = at ?? model.total.findLastIndex((value) => value !== null);
    setText(this.time, at === null ? "" : format.moment(model.times[at]));
    keyed(
      this.legend,
      legendRows(model),
      (row) => row.worker,
      (row) => legendItem(row, () => this.toggle(row.worker)),
      (item, row) => {
        const part = item.firstChild;
        part.children[0].style.backgroundColor = row.colour;
        setText(part.children[1], row.name);
        setText(part.children[2], format.hashrate(row.values[shown] ?? null));
        if (row.worker)
          setAttribute(part, "aria-pressed", hidden.has(row.worker) ? "false" : "true");
      },
    );
  }

  toggle(worker) {
    if (!this.hidden.delete(worker)) this.hidden.add(worker);
    const index = this.model.lines.findIndex((line) => line.worker === worker);
    this.plot?.setSeries(index + 2, { show: !this.hidden.has(worker) });
    this.drawLegend(null);
  }
}

function legendRows(model) {
  const palette = colours();
  const all = { worker: "", name: model.name, values: model.total, colour: palette.total };
  const rows = model.lines.map((line, at) => ({
    ...line,
    name: workerParts(line.worker)[0],
    colour: palette.lines[at],
  }));
  return [all, ...rows];
}

function legendItem(row, toggle) {
  const parts = [span("swatch"), span("legend-name"), span("legend-value")];
  if (!row.worker) return h("li", null, span("legend-entry", parts));
  return h(
    "li",
    null,
    h(
      "button",
      {
        type: "button",
        class: "legend-entry",
        title: row.worker,
        onclick: () => toggle(row.worker),
      },
      parts,
    ),
  );
}

// The first series is all miners, or the one that was asked for. A single worker is the same as all
// miners together, so it gets no line of its own.
function modelOf({ window_s: window, step_s: step, at_unix_s: times, series }) {
  const total = series[0]?.values ?? times.map(() => null);
  const name = series[0]?.worker ? workerParts(series[0].worker)[0] : "All miners";
  const lines = series.length < 3 ? [] : series.slice(1, LINES_MAX + 1);
  const key = JSON.stringify([
    window,
    times.at(-1),
    total.at(-1),
    lines.map((line) => [line.worker, line.values.at(-1)]),
  ]);
  return { key, name, window, step, times, total, lines };
}

function optionsOf(chart) {
  const { model, canvas, hidden } = chart;
  const palette = colours();
  const axis = {
    stroke: palette.text,
    font: palette.font,
    grid: { stroke: palette.rule, width: 1 },
    ticks: { show: false },
    gap: 8,
  };
  return {
    ...sizeOf(canvas),
    legend: { show: false },
    padding: [12, 28, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { time: true, range: () => spanOf(model) },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        size: 30,
        space: 84,
        values: (_, ticks) => ticks.map((at, index) => tickOf(at, ticks[index - 1], model.window)),
      },
      { ...axis, size: 72, space: 48, values: (_, ticks) => ticks.map(tickRate) },
    ],
    series: [
      {},
      {
        stroke: palette.total,
        width: 2,
        fill: palette.fill,
        points: dots(palette.total),
        spanGaps: false,
      },
      ...model.lines.map((line, at) => ({
        stroke: palette.lines[at],
        width: 1.25,
        points: dots(palette.lines[at]),
        show: !hidden.has(line.worker),
      })),
    ],
    hooks: { setCursor: [(plot) => chart.drawLegend(plot.cursor.idx ?? null)] },
  };
}

// A value between two gaps makes no line, so it is drawn as a dot.
function dots(colour) {
  const isAlone = (values, at) =>
    values[at] !== null && (values[at - 1] ?? null) === null && (values[at + 1] ?? null) === null;
  const filter = ({ data }, series) =>
    data[series].map((_, at) => at).filter((at) => isAlone(data[series], at));
  return { show: true, size: 5, width: 0, fill: colour, filter };
}

// The whole window, even if little of it is recorded: otherwise a new gateway's five minutes would
// look like a day.
function spanOf(model) {
  const end = model.times.at(-1) + model.step;
  return [end - model.window, end];
}

function tickOf(at, before, window) {
  const date = new Date(at * 1000);
  const isNewDay =
    before === undefined ? window > DAY_S : new Date(before * 1000).getDate() !== date.getDate();
  if (isNewDay && window >= DAY_S) return dayOf.format(date);
  return window > DAY_S && date.getHours() === 0 ? dayOf.format(date) : timeOf.format(date);
}

// "2.00 PH/s" is a measurement, "2 PH/s" an axis label.
function tickRate(value) {
  const [number, unit] = format.hashrateParts(value);
  return `${Number(number)} ${unit}`;
}

function sizeOf(canvas) {
  return { width: canvas.clientWidth, height: canvas.clientHeight };
}

function describe(model) {
  const known = model.total.filter((value) => value !== null);
  const hours = format.duration(model.window);
  const [last, least, most] = [known.at(-1), Math.min(...known), Math.max(...known)].map(
    format.hashrate,
  );
  return `Hashrate over ${hours}: ${last} now, between ${least} and ${most}.`;
}

const DAY_S = 86_400;
const timeOf = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayOf = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric" });
