// Light, dark, or as on the device. theme-early.js applies it before the first paint.

import { h, icon, setAttribute } from "./dom.js";

const ORDER = ["auto", "light", "dark"];
const ICONS = { auto: "auto", light: "sun", dark: "moon" };
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

export function themeButton(onchange) {
  const button = h("button", {
    type: "button",
    class: "bare",
    onclick: () => {
      keep(ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length]);
      apply();
    },
  });
  const apply = () => {
    const theme = chosen();
    const isDark = theme === "dark" || (theme === "auto" && prefersDark.matches);
    setAttribute(document.documentElement, "data-theme", isDark ? "dark" : "light");
    button.replaceChildren(icon(ICONS[theme]));
    const said = `Colours: ${theme === "auto" ? "as this device" : theme}`;
    setAttribute(button, "aria-label", `${said}. Change`);
    setAttribute(button, "title", said);
    onchange();
  };
  prefersDark.addEventListener("change", apply);
  apply();
  return button;
}

function chosen() {
  try {
    const kept = localStorage.getItem("theme");
    return ORDER.includes(kept) ? kept : "auto";
  } catch {
    return "auto"; // storage is off: as on the device
  }
}

function keep(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Storage is off; the choice could not outlive the page anyway.
  }
}
