// Colour maps: swatches to pick from, gradients for legends.

import * as api from "./api.js";
import { h, freshId } from "./dom.js";

// What is asked for most stands first.
const FAVOURITES = ["viridis", "RdYlGn", "magma", "terrain", "Blues", "RdBu", "cividis", "Spectral", "YlGn", "gray", "inferno", "turbo"];

let maps = new Map();

/** Loads names and colours of all maps. */
export async function load() {
  const answer = await api.colormaps();
  maps = new Map(answer.map(({ name, colors }) => [name, colors]));
}

/** The colours of a map from low to high; grey for a map that is not known. */
export function colorsOf(name) {
  const own = maps.get(name ?? "viridis");
  if (own) return own;
  const turned = name?.endsWith("_r") ? maps.get(name.slice(0, -2)) : null;
  return turned ? [...turned].reverse() : ["#222222", "#eeeeee"];
}

/** The CSS of a map's gradient. */
export function gradient(name) {
  return `linear-gradient(to right, ${colorsOf(name).join(", ")})`;
}

/** The colour of a share from 0 to 1. */
export function colorAt(name, share) {
  const colors = colorsOf(name);
  return colors[Math.min(colors.length - 1, Math.max(0, Math.round(share * (colors.length - 1))))];
}

/** A button that shows the map of `current()` and opens the list; `pick(name)` hears of a choice. */
export function picker({ current, pick }) {
  const id = freshId("colormaps");
  const swatch = h("span", { class: "swatch" });
  const name = h("span", { class: "grow" });
  const list = h("div", { class: "swatches", role: "listbox", "aria-label": "Colour maps", tabindex: -1 });
  const search = h("input", { type: "search", placeholder: "Search colour maps", "aria-label": "Search colour maps", on: { input: fill } });
  const turn = h("input", { type: "checkbox", on: { change: () => { pick(spelled(base())); fill(); } } });
  const body = h("div", { id, class: "picker-body", hidden: true },
    h("div", { class: "row" }, search, h("label", { class: "check" }, turn, "Reversed")),
    list);
  const toggle = h("button", { type: "button", class: "picker", "aria-expanded": "false", "aria-controls": id, on: { click: () => open(body.hidden) } }, h("span", { class: "visually-hidden", text: "Colour map: " }), swatch, name);
  const element = h("div", { class: "colormap", on: { keydown: onKey } }, toggle, body);

  const base = () => (current() ?? "viridis").replace(/_r$/, "");
  const spelled = (plain) => (turn.checked ? `${plain}_r` : plain);

  function open(isOpen) {
    body.hidden = !isOpen;
    toggle.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      search.value = "";
      fill();
      (list.querySelector("[aria-selected=true]") ?? list.firstElementChild)?.scrollIntoView({ block: "nearest" });
      search.focus();
    }
  }

  function onKey(event) {
    if (event.key === "Escape" && !body.hidden) {
      event.stopPropagation();
      open(false);
      toggle.focus();
      return;
    }
    const options = [...list.children];
    const at = options.indexOf(document.activeElement);
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by === undefined || body.hidden || event.target === toggle) return;
    event.preventDefault();
    options[Math.min(options.length - 1, Math.max(0, at < 0 ? 0 : at + by))]?.focus();
  }

  function fill() {
    const wanted = search.value.trim().toLowerCase();
    turn.checked = (current() ?? "").endsWith("_r");
    const plain = [...maps.keys()].filter((entry) => !entry.endsWith("_r") && entry.toLowerCase().includes(wanted));
    const rank = (entry) => (FAVOURITES.indexOf(entry) + FAVOURITES.length + 1) % (FAVOURITES.length + 1);
    plain.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    list.replaceChildren(...plain.map((entry) => {
      const strip = h("span", { class: "swatch", css: { "background-image": gradient(spelled(entry)) } });
      const isChosen = entry === base();
      return h("button", {
        type: "button", role: "option", class: "option", "aria-selected": String(isChosen),
        on: { click: () => { pick(spelled(entry)); list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false"); } },
      }, strip, h("span", { text: entry }));
    }));
    if (plain.length === 0) list.replaceChildren(h("p", { class: "hint", text: "No colour map has such a name." }));
  }

  function update() {
    swatch.style.backgroundImage = gradient(current());
    name.textContent = current() ?? "viridis";
    if (!body.hidden) {
      for (const option of list.children) option.setAttribute("aria-selected", String(option.textContent === base()));
    }
  }

  return { element, update };
}

/** What the colours of a layer mean: a gradient with its ends, or classes. */
export function legend(layer, scales, show) {
  const { style } = layer;
  if (style.classes) {
    const shown = style.classes.slice(0, 24);
    const rest = style.classes.length - shown.length;
    return h("ul", { class: "classes" },
      shown.map((entry) => h("li", {}, h("span", { class: "chip", css: { background: entry.color } }), entry.name)),
      rest > 0 && h("li", { text: `and ${rest} more` }));
  }
  const bands = layer.info?.bands ?? [];
  if (bands.length === 3) {
    const names = bands.map((band, at) => h("li", {}, h("span", { class: `chip rgb-${at}` }), band));
    return h("ul", { class: "classes" }, names);
  }
  const [low, high] = scales?.[0] ?? [null, null];
  const unit = style.unit ? ` ${style.unit}` : "";
  return h("div", { class: "legend" },
    h("div", { class: "strip", css: { "background-image": gradient(style.colormap) } }),
    h("div", { class: "ends" },
      h("span", { text: low === null ? "\u00a0" : show(low, high - low) }),
      h("span", { text: low === null ? "" : show((low + high) / 2, high - low) }),
      h("span", { text: high === null ? "" : `${show(high, high - low)}${unit}` })));
}

