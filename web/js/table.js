// A table that stays fast with thousands of rows: it sorts and filters all of them, but draws only one
// page. Rows on it keep their elements, so focus and open details survive updates.

import { button, div, h, icon, keyed, p, setAttribute, setText, show, span } from "./dom.js";
import { count } from "./format.js";

// columns: { key, label, value(row) to sort by, text(row) or draw(cell, row), end: right-aligned,
//   up: sorts ascending first, hint, place: where on a phone ("b", "c", "d"), wide: not on a phone,
//   spare: only where there is plenty of room }
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

// A column of figures: `say` formats the value that it is sorted by.
export function figures(key, label, value, say, more) {
  return { key, label, end: true, wide: true, value, text: (row) => say(value(row)), ...more };
}

function build(options, state, redraw) {
  const again = (change) => (event) => {
    change(event.target.value);
    redraw();
  };
  const heads = options.columns.map((column) =>
    head(
      column,
      again(() => turn(state, column)),
    ),
  );
  // The roles keep what a phone's layout would take away from the elements.
  const body = h("tbody", { role: "rowgroup" });
  const scroll = div("scroll", grid(options, heads, body));
  const tools = toolsOf(options, state, again);
  const pager = pagerOf(options, state, again);
  const empty = p("empty");
  const element = div("table", tools.element, scroll, empty, pager.element);
  return { element, heads, body, tools, scroll, empty, pager, redraw };
}

function grid(options, heads, body) {
  const more = h("th", { class: "more", role: "columnheader" }, span("offscreen", "Details"));
  const row = h(
    "tr",
    { role: "row" },
    heads.map((entry) => entry.cell),
    options.detail && more,
  );
  const caption = h("caption", { class: "offscreen" }, options.caption);
  return h(
    "table",
    { class: "rows", role: "table" },
    caption,
    h("thead", { role: "rowgroup" }, row),
    body,
  );
}

function toolsOf(options, state, again) {
  const chosen = (change) =>
    again((value) => {
      change(value);
      state.page = 0;
    });
  const search = h("input", {
    type: "search",
    placeholder: options.searchLabel,
    "aria-label": options.searchLabel,
    autocomplete: "off",
    spellcheck: "false",
    oninput: chosen((value) => {
      state.search = value.trim().toLowerCase();
    }),
  });
  const picks = (options.filters ?? []).map((filter, at) =>
    h(
      "select",
      {
        "aria-label": filter.label,
        onchange: chosen((value) => {
          state.picks[at] = value;
        }),
      },
      h("option", { value: "" }, filter.all),
    ),
  );
  // A phone shows no column headings: there, this sorts.
  const sorted = options.columns.filter((column) => column.value);
  const sorter = h(
    "select",
    {
      class: "sorter",
      "aria-label": "Sort by",
      onchange: again((value) =>
        turn(
          state,
          sorted.find((column) => column.key === value),
        ),
      ),
    },
    sorted.map((column) =>
      h("option", { value: column.key }, `Sort by ${column.label.toLowerCase()}`),
    ),
  );
  const found = h("p", { class: "found", role: "status" });
  return { element: div("tools", search, picks, sorter, found), picks, sorter, found };
}

function pagerOf(options, state, again) {
  const back = button(
    "Previous",
    again(() => {
      state.page -= 1;
    }),
  );
  const next = button(
    "Next",
    again(() => {
      state.page += 1;
    }),
  );
  const place = h("span");
  const label = `Pages of ${options.caption.toLowerCase()}`;
  return {
    element: h("nav", { class: "pager", "aria-label": label }, back, place, next),
    back,
    next,
    place,
  };
}

function head(column, onclick) {
  const cell = h("th", { scope: "col", role: "columnheader", class: classOf(column) });
  if (column.value)
    cell.append(
      h("button", { type: "button", onclick, title: column.hint }, column.label, icon("up")),
    );
  else cell.append(column.label);
  return { column, cell };
}

function turn(state, column) {
  if (state.sort === column.key) state.isUp = !state.isUp;
  else [state.sort, state.isUp] = [column.key, Boolean(column.up)];
  state.page = 0;
}

// A filter offers the values that occur in the rows.
function offerPicks(options, state, parts) {
  options.filters?.forEach((filter, at) => {
    const values = [...new Set(state.rows.map(filter.of))].filter(Boolean).sort();
    const select = parts.tools.picks[at];
    const known = [...select.options].slice(1).map((option) => option.value);
    if (values.join("\n") === known.join("\n")) return;
    if (state.picks[at] && !values.includes(state.picks[at])) values.push(state.picks[at]);
    select.replaceChildren(
      select.options[0],
      ...values.map((value) => h("option", { value }, filter.name?.(value) ?? value)),
    );
    select.value = state.picks[at];
  });
}

function chosen(options, state) {
  const column = options.columns.find((one) => one.key === state.sort);
  const rows = state.rows.filter(
    (row) =>
      (!state.search || options.search(row).toLowerCase().includes(state.search)) &&
      state.picks.every((pick, at) => !pick || options.filters[at].of(row) === pick),
  );
  const way = state.isUp ? 1 : -1;
  // Equal rows keep a fixed order, so that they do not jump about at each update.
  return rows
    .map((row) => [column.value(row) ?? null, options.keyOf(row), row])
    .sort(([a, aKey], [b, bKey]) => unknownLast(a, b) || way * compare(a, b) || compare(aKey, bKey))
    .map(([, , row]) => row);
}

const unknownLast = (a, b) => (a === null) - (b === null);

function compare(a, b) {
  return typeof a === "string" ? collator.compare(a, b) : a - b || 0;
}

function draw(options, state, parts) {
  const rows = chosen(options, state);
  const pages = Math.max(1, Math.ceil(rows.length / ROWS_A_PAGE));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const from = state.page * ROWS_A_PAGE;
  const shown = rows.slice(from, from + ROWS_A_PAGE);
  for (const { column, cell } of parts.heads) {
    const order = state.isUp ? "ascending" : "descending";
    setAttribute(cell, "aria-sort", column.key === state.sort ? order : null);
  }
  keyed(
    parts.body,
    lines(options, state, shown),
    (line) => line.key,
    (line) => makeLine(options, state, parts, line),
    (element, line) => updateLine(options, state, element, line),
  );
  drawTools(options, state, parts, rows);
  const { pager } = parts;
  show(pager.element, pages > 1);
  pager.back.disabled = state.page === 0;
  pager.next.disabled = state.page === pages - 1;
  const to = count(from + shown.length);
  setText(pager.place, `${count(from + 1)}–${to} of ${count(rows.length)}`);
}

function drawTools(options, state, { tools, scroll, empty }, rows) {
  const [one, many] = options.noun;
  const all = state.rows.length;
  const isAll = rows.length === all;
  setText(
    tools.found,
    isAll
      ? `${count(all)} ${all === 1 ? one : many}`
      : `${count(rows.length)} of ${count(all)} ${many}`,
  );
  tools.sorter.value = state.sort;
  show(tools.element, all > 0);
  show(scroll, rows.length > 0);
  show(empty, rows.length === 0);
  setText(empty, all === 0 ? options.empty : "Nothing matches. Clear the search or the filters.");
}

// A row, and its details below it if they are open.
function lines(options, state, rows) {
  return rows.flatMap((row) => {
    const key = String(options.keyOf(row));
    const line = { key, row };
    return state.open.has(key) ? [line, { key: `${key} detail`, row, isDetail: true }] : [line];
  });
}

function makeLine(options, state, parts, line) {
  if (line.isDetail) {
    return h(
      "tr",
      { class: "detail", role: "row" },
      h("td", { role: "cell", colspan: options.columns.length + 1 }),
    );
  }
  const cells = options.columns.map((column, at) =>
    h(at === 0 ? "th" : "td", {
      class: classOf(column),
      role: at === 0 ? "rowheader" : "cell",
      scope: at === 0 ? "row" : null,
    }),
  );
  if (options.detail) {
    const toggle = h(
      "button",
      {
        type: "button",
        class: "bare",
        onclick: () => {
          if (!state.open.delete(line.key)) state.open.add(line.key);
          parts.redraw();
        },
      },
      icon("chevron"),
    );
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
  return [
    column.end && "end",
    column.wide && "wide",
    column.spare && "spare",
    column.place && `place-${column.place}`,
  ]
    .filter(Boolean)
    .join(" ");
}

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
// As many as people look at in one go; more would make each update slower for nothing.
const ROWS_A_PAGE = 50;
