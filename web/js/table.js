// A table that stays quick with thousands of rows: it sorts and filters them all, and draws one
// page. Rows keep their elements while they are on it, so focus and open details survive updates.

import { h, icon, keyed, setAttribute, setText, show } from "./dom.js";
import { count } from "./format.js";

// columns: { key, label, value(row) to sort by, text(row) or draw(cell, row), end: right-aligned,
//   up: sorts upwards first, hint, place: where on a phone ("b", "c", "d"), wide: not on a phone,
//   spare: only where there is much room }
// options: { caption, columns, keyOf, sort: [key, "up" | "down"], search(row) -> text,
//   filters: [{ label, of(row) }], detail(row) -> element, empty: text, noun: [one, many] }
export function table(options) {
  const state = {
    rows: [],
    page: 0,
    search: "",
    picks: options.filters?.map(() => "") ?? [],
    sort: options.sort[0],
    isUp: options.sort[1] === "up",
    open: new Set(),
  };
  const parts = build(options, state, () => draw(options, state, parts));
  return {
    element: parts.element,
    update(rows) {
      state.rows = rows;
      offerPicks(options, state, parts);
      draw(options, state, parts);
    },
  };
}

function build(options, state, redraw) {
  const again = (change) => (event) => {
    change(event);
    redraw();
  };
  const heads = options.columns.map((column) => head(column, again(() => turn(state, column))));
  // The roles say what a phone's layout would take from the elements.
  const body = h("tbody", { role: "rowgroup" });
  const tableElement = h("table", { class: "rows", role: "table" },
    h("caption", { class: "offscreen" }, options.caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads.map((entry) => entry.cell), options.detail && h("th", { class: "more", role: "columnheader" }, h("span", { class: "offscreen" }, "Details")))),
    body);
  const search = h("input", { type: "search", placeholder: options.searchLabel, "aria-label": options.searchLabel, autocomplete: "off", spellcheck: "false",
    oninput: again((event) => { state.search = event.target.value.trim().toLowerCase(); state.page = 0; }) });
  const picks = (options.filters ?? []).map((filter, at) =>
    h("select", { "aria-label": filter.label, onchange: again((event) => { state.picks[at] = event.target.value; state.page = 0; }) },
      h("option", { value: "" }, filter.all)));
  // A phone shows no column heads: there, this sorts.
  const sorter = h("select", { class: "sorter", "aria-label": "Sort by", onchange: again((event) => turn(state, options.columns.find((column) => column.key === event.target.value))) },
    options.columns.filter((column) => column.value).map((column) => h("option", { value: column.key }, `Sort by ${column.label.toLowerCase()}`)));
  const found = h("p", { class: "found", role: "status" });
  const back = h("button", { type: "button", class: "button", onclick: again(() => { state.page -= 1; }) }, "Previous");
  const next = h("button", { type: "button", class: "button", onclick: again(() => { state.page += 1; }) }, "Next");
  const place = h("span");
  const pager = h("nav", { class: "pager", "aria-label": `Pages of ${options.caption.toLowerCase()}` }, back, place, next);
  const empty = h("p", { class: "empty" });
  const scroll = h("div", { class: "scroll" }, tableElement);
  const tools = h("div", { class: "tools" }, search, picks, sorter, found);
  const element = h("div", { class: "table" }, tools, scroll, empty, pager);
  return { element, tools, heads, body, picks, sorter, found, back, next, place, pager, empty, scroll, redraw };
}

function head(column, onclick) {
  const cell = h("th", { scope: "col", role: "columnheader", class: classOf(column) });
  if (column.value) cell.append(h("button", { type: "button", onclick, title: column.hint }, column.label, icon("up")));
  else cell.append(column.label);
  return { column, cell };
}

function turn(state, column) {
  if (state.sort === column.key) state.isUp = !state.isUp;
  else [state.sort, state.isUp] = [column.key, Boolean(column.up)];
  state.page = 0;
}

// The choices of a filter are what the rows have.
function offerPicks(options, state, parts) {
  options.filters?.forEach((filter, at) => {
    const values = [...new Set(state.rows.map(filter.of))].filter(Boolean).sort();
    const select = parts.picks[at];
    const known = [...select.options].slice(1).map((option) => option.value);
    if (values.join("\n") === known.join("\n")) return;
    if (state.picks[at] && !values.includes(state.picks[at])) values.push(state.picks[at]);
    select.replaceChildren(select.options[0], ...values.map((value) => h("option", { value }, filter.name?.(value) ?? value)));
    select.value = state.picks[at];
  });
}

function chosen(options, state) {
  const column = options.columns.find((one) => one.key === state.sort);
  const rows = state.rows.filter((row) =>
    (!state.search || options.search(row).toLowerCase().includes(state.search)) &&
    state.picks.every((pick, at) => !pick || options.filters[at].of(row) === pick));
  const way = state.isUp ? 1 : -1;
  // Equal ones keep an order of their own, so that rows do not dance at each update.
  return rows
    .map((row) => [column.value(row), options.keyOf(row), row])
    .sort(([a, aKey], [b, bKey]) => way * compare(a, b) || compare(aKey, bKey))
    .map(([, , row]) => row);
}

function compare(a, b) {
  if (typeof a === "string" || typeof b === "string") return collator.compare(String(a ?? ""), String(b ?? ""));
  return (a ?? -Infinity) - (b ?? -Infinity) || 0;
}

function draw(options, state, parts) {
  const rows = chosen(options, state);
  const pages = Math.max(1, Math.ceil(rows.length / ROWS_A_PAGE));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const from = state.page * ROWS_A_PAGE;
  const shown = rows.slice(from, from + ROWS_A_PAGE);
  for (const { column, cell } of parts.heads) {
    const isSorted = column.key === state.sort;
    setAttribute(cell, "aria-sort", isSorted ? (state.isUp ? "ascending" : "descending") : null);
  }
  parts.sorter.value = state.sort;
  keyed(parts.body, lines(options, state, shown), (line) => line.key, (line) => makeLine(options, state, parts, line), (element, line) => updateLine(options, state, element, line));
  const [one, many] = options.noun;
  const all = state.rows.length;
  setText(parts.found, rows.length === all ? `${count(all)} ${all === 1 ? one : many}` : `${count(rows.length)} of ${count(all)} ${many}`);
  show(parts.tools, all > 0);
  show(parts.scroll, rows.length > 0);
  show(parts.empty, rows.length === 0);
  setText(parts.empty, all === 0 ? options.empty : "Nothing matches. Clear the search or the filters.");
  show(parts.pager, pages > 1);
  parts.back.disabled = state.page === 0;
  parts.next.disabled = state.page === pages - 1;
  setText(parts.place, `${count(from + 1)}–${count(from + shown.length)} of ${count(rows.length)}`);
}

// A row, and under it its details if they are open.
function lines(options, state, rows) {
  return rows.flatMap((row) => {
    const key = String(options.keyOf(row));
    const line = { key, row };
    return state.open.has(key) ? [line, { key: `${key} detail`, row, isDetail: true }] : [line];
  });
}

function makeLine(options, state, parts, line) {
  if (line.isDetail) {
    return h("tr", { class: "detail", role: "row" }, h("td", { role: "cell", colspan: options.columns.length + 1 }));
  }
  const cells = options.columns.map((column, at) => h(at === 0 ? "th" : "td", { class: classOf(column), role: at === 0 ? "rowheader" : "cell", scope: at === 0 ? "row" : null }));
  if (options.detail) {
    const toggle = h("button", { type: "button", class: "bare", onclick: () => {
      if (!state.open.delete(line.key)) state.open.add(line.key);
      parts.redraw();
    } }, icon("chevron"));
    cells.push(h("td", { class: "more", role: "cell" }, toggle));
  }
  return h("tr", { role: "row" }, cells);
}

function updateLine(options, state, element, line) {
  if (line.isDetail) {
    options.detail(element.firstChild, line.row);
    return;
  }
  options.columns.forEach((column, at) => {
    const cell = element.children[at];
    if (column.draw) column.draw(cell, line.row);
    else setText(cell, column.text(line.row));
  });
  if (options.detail) {
    const toggle = element.lastChild.firstChild;
    setAttribute(toggle, "aria-expanded", state.open.has(line.key) ? "true" : "false");
    setAttribute(toggle, "aria-label", `Details of ${options.nameOf(line.row)}`);
  }
}

function classOf(column) {
  return [column.end && "end", column.wide && "wide", column.spare && "spare", column.place && `place-${column.place}`].filter(Boolean).join(" ");
}

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
// As many as are looked at in one go; more would cost each update without being seen.
const ROWS_A_PAGE = 50;
