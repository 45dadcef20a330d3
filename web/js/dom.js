// Creates and changes elements. Text stays text: what miners and pools send is never parsed as HTML,
// and no style attribute is written, so that the page works under the strictest CSP.

// h("p", { class: "hint", onclick: f }, "text", child): an element, its attributes, its children.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

// The most common ones: p("hint", "text").
export const p = (name, ...children) => h("p", { class: name }, ...children);
export const span = (name, ...children) => h("span", { class: name }, ...children);
export const div = (name, ...children) => h("div", { class: name }, ...children);

// A button: button("Save", f), button("Save", f, "primary").
export function button(text, onclick, kind = "") {
  return h("button", { type: "button", class: `button ${kind}`.trim(), onclick }, text);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else setAttribute(element, name, value);
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

// Writes only what has changed: untouched elements keep their focus, selection and layout.
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value))
    element.setAttribute(name, value === true ? "" : value);
}

export function setText(element, text) {
  const string = String(text);
  if (element.firstChild?.nodeType === Node.TEXT_NODE && !element.firstChild.nextSibling) {
    if (element.firstChild.data !== string) element.firstChild.data = string;
  } else if (element.firstChild || string) {
    element.textContent = string;
  }
}

export function show(element, isShown) {
  if (element.hidden === isShown) element.hidden = !isShown;
}

// Makes the children of `parent` match `items`, in order, reusing each key's element.
export function keyed(parent, items, keyOf, make, update) {
  const old = new Map();
  for (const child of parent.children) old.set(child.dataset.key, child);
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = old.get(key);
    if (element) {
      old.delete(key);
    } else {
      element = make(item);
      element.dataset.key = key;
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    update?.(element, item);
  }
  for (const rest of old.values()) rest.remove();
}

// The icons: 20 by 20, one stroke.
const PATHS = {
  overview: "M3 11.5 6.5 8l3 3L17 4M3 16.5h14",
  miners: "M3 4.5h14v4H3zM3 11.5h14v4H3zM6 6.5h.01M6 13.5h.01M9 6.5h5M9 13.5h5",
  work: "M10 2.5 16.5 6v8L10 17.5 3.5 14V6zM3.5 6 10 9.7 16.5 6M10 9.7v7.8",
  network:
    "M10 7.5v5M10 2.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5zM10 12.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5z",
  blocks: "M3 3h6v6H3zM11 3h6v6h-6zM3 11h6v6H3zM11 11h6v6h-6z",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  sun: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M15.7 4.3l-1.1 1.1M5.4 14.6l-1.1 1.1",
  moon: "M16.5 11.8A7 7 0 0 1 8.2 3.5a7 7 0 1 0 8.3 8.3z",
  auto: "M10 3a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM10 3v14M10 6.5l5-1M10 10h7M10 13.5l5 1",
  copy: "M7.5 7.5h9v9h-9zM12.5 4.5v-1h-9v9h1",
  check: "M4 10.5l4 4 8-9",
  alert: "M10 3 18 16.5H2zM10 8v4M10 14.2v.1",
  close: "M5 5l10 10M15 5L5 15",
  up: "M5 12l5-5 5 5",
  chevron: "M7.5 5l5 5-5 5",
};

export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name] }),
  );
}

// A small button that copies a text and says so. Where there is no clipboard (plain HTTP from another
// machine), it selects the text next to it instead.
export function copyButton(textOf, what) {
  const button = h(
    "button",
    { type: "button", class: "copy", "aria-label": `Copy ${what}`, title: `Copy ${what}` },
    icon("copy"),
  );
  button.addEventListener("click", async () => {
    if (!(await copied(textOf()))) return;
    button.replaceChildren(icon("check"));
    announce(`Copied ${what}`);
    setTimeout(() => button.replaceChildren(icon("copy")), COPIED_SHOWN_MS);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h("textarea", { class: "offscreen", readonly: true, tabindex: "-1" });
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

// Announces something to users of screen readers.
export function announce(text) {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
}

const COPIED_SHOWN_MS = 1500;
