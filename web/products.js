// The catalog: products with their places and dates, ready-made expressions for each.

import * as api from "./api.js";
import { h, put, icon, iconButton, button, freshId } from "./dom.js";
import { count, show } from "./numbers.js";
import { singleBand, templatesFor } from "./templates.js";
import { timeline } from "./timeline.js";

const { L } = globalThis;

// Scenes that are fetched for a timeline and for footprints.
const SCENES = 1000;

/** The list. `actions`: `add(product, template)`, `zoomTo(bounds)`, `copy(text, said)`. */
export class Products {
  constructor(mapView, actions) {
    Object.assign(this, { map: mapView.map, actions, list: [], rows: new Map() });
    this.search = h("input", { type: "search", placeholder: "Search products", "aria-label": "Search products", on: { input: () => this.#filter() } });
    this.found = h("p", { class: "visually-hidden", role: "status" });
    this.items = h("ul", { class: "products" });
    this.element = h("div", {}, h("div", { class: "search" }, icon("search"), this.search), this.found, this.items);
    // Below the tiles: an outline is not to hide what it is around.
    this.map.createPane("footprints").style.zIndex = 150;
    this.outlines = L.layerGroup().addTo(this.map);
    this.scenes = L.layerGroup().addTo(this.map);
  }

  /** Shows what the catalog has. */
  show(list) {
    this.list = list;
    this.outlines.clearLayers();
    this.rows.clear();
    if (list.length === 0) {
      put(this.items, emptyCatalog(this.actions));
      this.search.parentElement.hidden = true;
      return;
    }
    this.search.parentElement.hidden = list.length < 4;
    put(this.items, list.map((product) => {
      const row = new Row(product, this);
      this.rows.set(product.id, row);
      if (product.footprint) row.outline = this.#outline(product);
      return row.element;
    }));
    this.#filter();
  }

  #outline(product) {
    const [west, south, east, north] = product.footprint;
    const outline = L.rectangle([[south, west], [north, east]], { pane: "footprints", className: "footprint", weight: 1, fill: false, interactive: false, noClip: true });
    return outline.addTo(this.outlines);
  }

  #filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of this.rows.values()) {
      const isFound = words.every((word) => row.text.includes(word));
      row.element.hidden = !isFound;
      if (isFound) shown += 1;
    }
    this.found.textContent = words.length > 0 ? `${shown} of ${this.rows.size} products` : "";
  }

  /** Opens one product's row and closes the others. */
  open(product) {
    for (const row of this.rows.values()) row.open(row.product === product && row.body.hidden);
  }

  /** Footprints of scenes, `[{id, acquired, bbox}]`; none takes them away. */
  footprints(list) {
    this.scenes.clearLayers();
    // Images of one place lie on one another: a series is one outline that counts them.
    const places = new Map();
    for (const scene of list) {
      if (!scene.bbox) continue;
      const place = scene.bbox.map((edge) => edge.toFixed(5)).join();
      places.set(place, [...(places.get(place) ?? []), scene]);
    }
    for (const scenes of places.values()) {
      const [west, south, east, north] = scenes[0].bbox;
      const shape = L.rectangle([[south, west], [north, east]], { className: "scene", weight: 1, fillOpacity: 0.03 });
      const words = document.createElement("span");
      words.textContent = about(scenes);
      shape.bindTooltip(words, { sticky: true });
      shape.addTo(this.scenes);
    }
  }
}

function about(scenes) {
  if (scenes.length === 1) return `${scenes[0].acquired.slice(0, 10)}  ${scenes[0].id}`;
  const dates = scenes.map(({ acquired }) => acquired).sort();
  return `${count(scenes.length)} images, ${dates[0].slice(0, 10)} to ${dates.at(-1).slice(0, 10)}`;
}

class Row {
  constructor(product, list) {
    Object.assign(this, { product, list });
    this.text = `${product.id} ${product.title ?? ""} ${product.bands.map((band) => `${band.name} ${band.common_name ?? ""}`).join(" ")}`.toLowerCase();
    const id = freshId("product");
    this.body = h("div", { id, class: "product-body", hidden: true });
    this.toggle = h("button", { type: "button", class: "title", "aria-expanded": "false", "aria-controls": id, on: { click: () => this.#clicked() } },
      h("span", { class: "name", text: product.title || product.id }),
      h("span", { class: "hint", text: summary(product) }));
    this.element = h("li", { class: "product", on: { mouseenter: () => this.#light(true), mouseleave: () => this.#light(false), focusin: () => this.#light(true), focusout: () => this.#light(false) } },
      h("div", { class: "product-head" }, this.toggle, product.footprint && iconButton("target", `Zoom to ${product.title || product.id}`, () => list.actions.zoomTo(product.footprint))),
      this.body);
  }

  #light(isOn) {
    this.outline?.getElement()?.classList.toggle("lit", isOn);
  }

  #clicked() {
    const opens = this.body.hidden;
    this.list.open(this.product);
    if (opens && this.product.footprint) this.list.actions.zoomTo(this.product.footprint);
  }

  open(isOpen) {
    if (isOpen && !this.isBuilt) this.#build();
    if (!isOpen && !this.body.hidden) this.list.footprints([]);
    this.body.hidden = !isOpen;
    this.toggle.setAttribute("aria-expanded", String(isOpen));
    this.element.classList.toggle("open", isOpen);
    if (isOpen && this.footprints?.checked) this.#showFootprints();
  }

  #build() {
    this.isBuilt = true;
    const { product } = this;
    this.dates = h("div", { class: "dates waiting" }, h("div", { class: "range" }), h("span", { class: "hint", text: "\u00a0" }));
    this.ready = h("div", { class: "chips" });
    this.bands = h("div", { class: "chips" });
    this.footprints = h("input", { type: "checkbox", on: { change: () => this.#showFootprints() } });
    this.note = h("p", { class: "hint", role: "status" });
    put(this.body,
      h("p", { class: "hint mono", text: product.id }),
      this.dates,
      h("div", { class: "field" }, h("span", { class: "label", text: "Ready-made layers" }), this.ready),
      h("div", { class: "field" }, h("span", { class: "label", text: "Bands" }), this.bands),
      h("label", { class: "check" }, this.footprints, "Footprints of the images on the map"),
      this.note);
    this.#fill();
    this.#load();
  }

  #fill() {
    const { product, list } = this;
    const range = this.timeline?.range() ?? null;
    const chip = (template, title) => h("button", { type: "button", class: "chip-button", title, on: { click: () => list.actions.add(product, template) } }, icon("plus"), template.name);
    const ready = templatesFor(product, range);
    put(this.ready, ready.length > 0 ? ready.map((template) => chip(template, `Add ${template.name} as a layer`)) : h("span", { class: "hint", text: "None fits these bands; begin with a band." }));
    put(this.bands, product.bands.slice(0, 64).map((band) => chip(singleBand(product, band, range), bandTitle(band))));
    if (product.bands.length > 64) this.bands.append(h("span", { class: "hint", text: `and ${product.bands.length - 64} more` }));
  }

  async #load() {
    const { product } = this;
    try {
      const answer = await api.scenes(product.id, { limit: SCENES });
      this.found = answer.scenes;
      this.more = answer.more;
      const instants = answer.scenes.map((scene) => Date.parse(scene.acquired)).filter(Number.isFinite);
      this.dates.classList.remove("waiting");
      if (instants.length > 0) {
        this.timeline = timeline(instants, () => {
          this.#fill();
          if (this.footprints.checked) this.#showFootprints();
        });
        put(this.dates, this.timeline.element);
      } else put(this.dates, h("span", { class: "hint", text: "No dates." }));
      this.note.textContent = answer.more ? `The dates are those of the first ${count(SCENES)} images.` : "";
    } catch (error) {
      this.dates.classList.remove("waiting");
      put(this.dates, h("div", { class: "notice error", text: error.message }));
    }
  }

  #showFootprints() {
    if (!this.footprints.checked) {
      this.list.footprints([]);
      return;
    }
    const range = this.timeline?.range();
    const [from, until] = range ? range.map((text) => Date.parse(text)) : [-Infinity, Infinity];
    const chosen = (this.found ?? []).filter((scene) => {
      const at = Date.parse(scene.acquired);
      return at >= from && at < until;
    });
    this.list.footprints(chosen);
  }
}

function bandTitle(band) {
  const parts = [band.name];
  if (band.common_name && band.common_name !== band.name) parts.push(`shows ${band.common_name}`);
  if (band.unit) parts.push(`in ${band.unit}`);
  if (band.classes?.length > 0) parts.push(`${band.classes.length} classes`);
  return parts.join(", ");
}

function summary(product) {
  const parts = [`${count(product.scenes ?? 0)} ${product.scenes === 1 ? "image" : "images"}`];
  if (product.acquired) {
    const [first, last] = product.acquired.map((text) => text.slice(0, 10));
    parts.push(first === last ? first : `${first} to ${last}`);
  }
  if (product.resolution) parts.push(`${show(product.resolution)}\u00a0m`);
  return parts.join(" · ");
}

function emptyCatalog(actions) {
  const command = (text, why) => h("div", { class: "command" }, h("p", { class: "hint", text: why }),
    h("div", { class: "row" }, h("code", { text }), iconButton("copy", `Copy ${text}`, () => actions.copy(text, "Command copied"))));
  return h("li", { class: "empty-catalog" },
    h("h2", { text: "The catalog is empty" }),
    h("p", { text: "Register imagery in another terminal, with the same GRATICULE_DATA as this server. This page notices by itself." }),
    command("graticule catalog add examples/colorado examples/potsdam", "The samples of the repository: 105 Landsat dates, one Sentinel-2 image"),
    command("graticule catalog add stac/catalog.json", "A STAC catalog, collection, item or item collection"),
    command("graticule catalog add landsat/ --product landsat", "A folder of plain rasters"),
    command("graticule catalog list", "What is there"),
    h("p", { class: "hint", text: "docs/catalog.md says more: dates from file names, ndjson, servers and object stores." }),
    button("Look again", () => actions.refresh()));
}
