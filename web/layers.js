// The list of layers: order, visibility, names, and what is set for the one that is open.

import * as api from "./api.js";
import * as colormaps from "./colormaps.js";
import { h, put, icon, iconButton, button, freshId } from "./dom.js";
import { show } from "./numbers.js";
import { scalesOf, stretchPanel } from "./stretch.js";
import { coloured } from "./templates.js";

/** The list, kept in step with `layers`. `actions`: `edit zoomTo download copy duplicate retry products`. */
export class LayerList {
  constructor(layers, mapView, actions) {
    Object.assign(this, { layers, mapView, actions, cards: new Map() });
    this.list = h("ol", { class: "cards", "aria-label": "Layers, the topmost first" });
    this.empty = h("div", { class: "empty", hidden: true },
      h("p", { text: "No layers yet." }),
      h("p", { class: "hint", text: "Begin with an image of a product, or write an expression." }));
    this.said = h("p", { class: "visually-hidden", role: "status" });
    this.element = h("div", {}, this.list, this.empty, this.said);
    layers.addEventListener("change", ({ detail }) => this.#follow(detail));
    layers.addEventListener("tilestate", () => this.cards.forEach((card) => card.tiles()));
    this.#follow({ type: "none" });
  }

  #follow({ type, layer }) {
    const { layers, cards } = this;
    if (type === "remove") {
      cards.get(layer.key)?.element.remove();
      cards.delete(layer.key);
    }
    if (type === "add") cards.set(layer.key, new Card(layer, this));
    if (type === "add" || type === "move") this.#order();
    if (type === "update") cards.get(layer.key)?.update();
    if (type === "active" || type === "add") cards.forEach((card) => card.open());
    this.empty.hidden = layers.list.length > 0;
  }

  // Moves what stands wrong and nothing else: moving an element takes the focus from it.
  #order() {
    const focused = document.activeElement;
    this.layers.list.forEach((layer, at) => {
      const { element } = this.cards.get(layer.key);
      if (this.list.children[at] !== element) this.list.insertBefore(element, this.list.children[at] ?? null);
    });
    if (focused !== document.activeElement && this.list.contains(focused)) focused.focus();
  }

  /** Moves a layer and tells a screen reader where it is. */
  move(layer, to) {
    this.layers.move(layer, to);
    this.said.textContent = `${layer.name} is layer ${this.layers.list.indexOf(layer) + 1} of ${this.layers.list.length}`;
  }
}

class Card {
  constructor(layer, list) {
    Object.assign(this, { layer, list });
    const { layers } = list;
    const bodyId = freshId("layer");
    this.grip = h("button", {
      type: "button", class: "grip", "aria-label": "Move layer; arrow keys up and down", title: "Drag, or arrow keys, to reorder",
      on: { pointerdown: (event) => this.#drag(event), keydown: (event) => this.#gripKey(event) },
    }, icon("grip"));
    this.eye = iconButton("eye", "Show", () => layers.update(layer, { visible: !layer.visible }));
    this.name = h("span", { class: "name" });
    this.busy = h("span", { class: "spinner", hidden: true, "aria-hidden": "true" });
    this.title = h("button", {
      type: "button", class: "title", "aria-expanded": "false", "aria-controls": bodyId,
      on: { click: () => layers.activate(layers.active === layer ? null : layer), dblclick: () => this.rename() },
    }, this.name, this.busy);
    this.menu = menu(() => this.#menuItems());
    this.legend = h("div", { class: "card-legend" });
    this.error = h("div", { class: "notice error", role: "alert", hidden: true });
    this.body = h("div", { class: "card-body", id: bodyId, hidden: true });
    this.head = h("div", { class: "card-head" }, this.grip, this.eye, this.title, this.menu.element);
    this.element = h("li", { class: "card", data: { layer: layer.key } }, this.head, this.error, this.body, this.legend);
    this.update();
  }

  #build() {
    const { layer, list } = this;
    const { layers, actions } = list;
    this.opacity = h("input", {
      type: "range", min: 0, max: 100, step: 1, "aria-label": "Opacity",
      on: { input: (event) => layers.update(layer, { opacity: Number(event.target.value) / 100 }) },
    });
    this.percent = h("output", { class: "hint number-out" });
    this.stretch = stretchPanel(layer, (scales) => layers.restyle(layer, { scales }));
    this.map = colormaps.picker({ current: () => layer.style.colormap, pick: (colormap) => layers.restyle(layer, { colormap }) });
    this.mapField = h("div", { class: "field" }, h("span", { class: "label", text: "Colours" }), this.map.element);
    this.classBox = h("input", { type: "checkbox", on: { change: (event) => layers.restyle(layer, { classes: event.target.checked ? this.#knownClasses() : null }) } });
    this.classField = h("label", { class: "check" }, this.classBox, "Colours of the classes");
    put(this.body,
      h("label", { class: "field slider" }, h("span", { class: "label", text: "Opacity" }), this.opacity, this.percent),
      this.stretch.element,
      this.mapField,
      this.classField,
      h("div", { class: "row actions" },
        h("button", { type: "button", class: "button", on: { click: () => actions.edit(layer) } }, icon("code"), "Expression"),
        h("button", { type: "button", class: "button", on: { click: () => actions.zoomTo(layer) } }, icon("target"), "Zoom to"),
        h("button", { type: "button", class: "button", on: { click: () => actions.download(layer) } }, icon("download"), "Download")));
    this.isBuilt = true;
  }

  // Classes that the catalog knows for the one band of this layer.
  #knownClasses() {
    const { info } = this.layer;
    if (info?.bands?.length !== 1) return null;
    const products = this.list.actions.products().filter((product) => (info.products ?? []).includes(product.id));
    for (const product of products) {
      const band = product.bands.find(({ name }) => name === info.bands[0]);
      if (band?.classes?.length > 0 && band.classes.length <= 256) return coloured(band.classes);
    }
    return null;
  }

  #menuItems() {
    const { layer, list } = this;
    const { layers, actions } = list;
    const addresses = layer.id ? api.shared(layer.id, layer.style) : null;
    return [
      ["Rename", () => this.rename()],
      ["Edit expression", () => actions.edit(layer)],
      ["Duplicate", () => actions.duplicate(layer)],
      addresses && ["Copy XYZ tile URL", () => actions.copy(addresses.xyz, "XYZ tile URL copied: for QGIS, Leaflet and others")],
      addresses && ["Copy WMTS URL", () => actions.copy(addresses.wmts, "WMTS URL copied: for QGIS and GDAL")],
      addresses && ["Copy TileJSON URL", () => actions.copy(addresses.tilejson, "TileJSON URL copied")],
      ["Remove", () => layers.remove(layer), "danger"],
    ].filter(Boolean);
  }

  rename() {
    const { layer, list } = this;
    const input = h("input", { type: "text", class: "rename", value: layer.name, "aria-label": "Name of the layer", maxlength: 200 });
    // Taking the field away is what makes it lose the focus: it ends once.
    let isOver = false;
    const end = (isKept) => {
      if (isOver) return;
      isOver = true;
      const name = input.value.trim();
      input.replaceWith(this.title);
      this.title.focus();
      if (isKept && name !== "") list.layers.update(layer, { name });
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    });
    input.addEventListener("blur", () => end(true));
    this.title.replaceWith(input);
    input.select();
  }

  open() {
    const { layers } = this.list;
    const isOpen = layers.activeKey === this.layer.key;
    if (isOpen && !this.isBuilt) this.#build();
    this.body.hidden = !isOpen;
    this.title.setAttribute("aria-expanded", String(isOpen));
    this.element.classList.toggle("open", isOpen);
    this.update();
  }

  update() {
    const { layer } = this;
    this.name.textContent = layer.name;
    this.element.classList.toggle("off", !layer.visible);
    this.eye.setAttribute("aria-pressed", String(layer.visible));
    this.eye.setAttribute("aria-label", `${layer.visible ? "Hide" : "Show"} ${layer.name}`);
    this.eye.title = layer.visible ? "Hide" : "Show";
    this.eye.replaceChildren(icon(layer.visible ? "eye" : "hidden"));
    this.menu.button.setAttribute("aria-label", `More about ${layer.name}`);
    put(this.legend, colormaps.legend(layer, scalesOf(layer), show));
    this.tiles();
    if (!this.isBuilt) return;
    this.opacity.value = Math.round(layer.opacity * 100);
    this.percent.textContent = `${Math.round(layer.opacity * 100)} %`;
    const isSingle = (layer.info?.bands?.length ?? 1) === 1;
    const known = this.#knownClasses();
    this.classField.hidden = !known && !layer.style.classes;
    this.classBox.checked = layer.style.classes !== null;
    this.mapField.hidden = !isSingle || layer.style.classes !== null;
    this.stretch.element.hidden = layer.style.classes !== null || layer.info?.dtype === "bool";
    this.map.update();
    this.stretch.update();
  }

  /** What its tiles are doing. */
  tiles() {
    const { layer, list } = this;
    const { loading, message } = list.mapView.stateOf(layer);
    this.busy.hidden = loading === 0 && !(layer.id === null && layer.error === null);
    const text = layer.error?.message ?? message;
    const isNew = text !== this.shownError;
    this.shownError = text;
    if (!isNew) return;
    this.error.hidden = !text;
    if (text) put(this.error, icon("warning"), h("span", { text }), layer.error && (layer.error.path === null ? button("Try again", () => list.actions.retry(layer)) : button("Edit", () => list.actions.edit(layer))));
    else put(this.error);
  }

  #gripKey(event) {
    const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.list.move(this.layer, this.list.layers.list.indexOf(this.layer) + by);
    this.grip.focus();
  }

  #drag(event) {
    if (event.button !== 0) return;
    const { list, element } = this;
    event.preventDefault();
    this.grip.focus();
    this.grip.setPointerCapture(event.pointerId);
    element.classList.add("dragged");
    const begin = event.clientY;
    let from = begin;
    const follow = ({ clientY }) => {
      element.style.transform = `translateY(${clientY - from}px)`;
      const at = list.layers.list.indexOf(this.layer);
      const next = element.nextElementSibling;
      const before = element.previousElementSibling;
      const half = (other) => other.getBoundingClientRect().top + other.offsetHeight / 2;
      const box = element.getBoundingClientRect();
      const swap = (to, other, sign) => {
        from += sign * other.offsetHeight;
        list.move(this.layer, to);
        element.style.transform = `translateY(${clientY - from}px)`;
      };
      if (next && box.bottom > half(next)) swap(at + 1, next, 1);
      else if (before && box.top < half(before)) swap(at - 1, before, -1);
    };
    const end = () => {
      element.classList.remove("dragged");
      element.style.transform = "";
      this.grip.removeEventListener("pointermove", follow);
    };
    this.grip.addEventListener("pointermove", follow);
    this.grip.addEventListener("lostpointercapture", end, { once: true });
  }
}

/** A button with a menu below: arrow keys walk, Escape and a click elsewhere close. */
export function menu(items) {
  const list = h("div", { class: "menu", role: "menu", hidden: true });
  const opener = iconButton("more", "More", () => open(list.hidden), { "aria-haspopup": "menu", "aria-expanded": "false" });
  const element = h("div", { class: "menu-holder" }, opener, list);

  function open(isOpen) {
    list.hidden = !isOpen;
    opener.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) {
      document.removeEventListener("pointerdown", outside, true);
      return;
    }
    document.addEventListener("pointerdown", outside, true);
    put(list, items().map(([label, act, kind]) => h("button", {
      type: "button", role: "menuitem", tabindex: -1, class: kind ?? "",
      on: { click: () => { open(false); opener.focus(); act(); } },
    }, label)));
    // Over everything: a list that scrolls would cut it off.
    const box = opener.getBoundingClientRect();
    const isAbove = box.bottom + list.offsetHeight + 12 > window.innerHeight;
    list.style.top = `${Math.max(8, isAbove ? box.top - list.offsetHeight - 4 : box.bottom + 4)}px`;
    list.style.left = `${Math.max(8, box.right - list.offsetWidth)}px`;
    list.firstElementChild.focus();
  }

  function outside(event) {
    if (!element.contains(event.target)) open(false);
  }

  element.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const entries = [...list.children];
    const at = entries.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: entries.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      entries[(to + entries.length) % entries.length].focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      if (event.key === "Escape") event.stopPropagation();
      open(false);
      opener.focus();
    }
  });
  return { element, button: opener };
}
