// An area and its pixels: what to download, on which grid, how many pixels that is.

import * as api from "./api.js";
import { h, put, icon, button } from "./dom.js";
import { boundsOf, gridsFor, isRectangle, pixelsOf, rectangle, resolutionOn } from "./geo.js";
import { count, parse, show } from "./numbers.js";
import { scalesOf } from "./stretch.js";

// Values of one result; the server's bound (`output_samples` of docs/graft.md).
const SAMPLES_MAX = 67_108_864;

/** The panel. `actions`: `view()` as bounds, `zoomTo(bounds)`, `products()`, `say(text)`. */
export class Area {
  constructor(layers, drawing, actions) {
    Object.assign(this, { layers, drawing, actions, polygon: null });
    this.tools = {
      rectangle: h("button", { type: "button", class: "button", "aria-pressed": "false", on: { click: () => this.#draw("rectangle") } }, icon("rectangle"), "Rectangle"),
      polygon: h("button", { type: "button", class: "button", "aria-pressed": "false", on: { click: () => this.#draw("polygon") } }, icon("polygon"), "Polygon"),
    };
    const view = h("button", { type: "button", class: "button", on: { click: () => this.set(rectangle(actions.view())) } }, icon("target"), "This view");
    this.help = h("p", { class: "hint", role: "status" });
    this.edges = ["West", "South", "East", "North"].map((name) => h("input", { type: "text", inputmode: "decimal", class: "number", "aria-label": `${name}, degrees`, on: { change: () => this.#typed() } }));
    const edge = (at, name) => h("label", { class: "edge" }, h("span", { class: "label", text: name }), this.edges[at]);
    this.layer = h("select", { id: "area-layer", on: { change: () => this.#update() } });
    this.grid = h("select", { id: "area-grid", on: { change: () => { this.resolution.value = ""; this.#update(); } } });
    this.resolution = h("input", { id: "area-resolution", type: "text", inputmode: "decimal", class: "number", on: { input: () => this.#update() } });
    this.unit = h("span", { class: "hint" });
    this.size = h("p", { class: "size", role: "status" });
    this.error = h("div", { class: "notice error", role: "alert", hidden: true });
    this.tiff = h("button", { type: "button", class: "button primary", on: { click: () => this.#download("image/tiff", "tif") } }, icon("download"), "GeoTIFF");
    this.png = h("button", { type: "button", class: "button", on: { click: () => this.#download("image/png", "png") } }, icon("download"), "PNG");
    this.stopButton = button("Cancel", () => this.running?.abort(), { hidden: true });
    this.form = h("div", { hidden: true },
      h("div", { class: "edges" }, edge(0, "West"), edge(1, "South"), edge(2, "East"), edge(3, "North")),
      h("div", { class: "field" }, h("label", { class: "label", for: "area-layer", text: "Layer" }), this.layer),
      h("div", { class: "field" }, h("label", { class: "label", for: "area-grid", text: "Grid" }), this.grid),
      h("div", { class: "field" }, h("label", { class: "label", for: "area-resolution", text: "Pixel size" }), h("span", { class: "row" }, this.resolution, this.unit)),
      this.size,
      this.error,
      h("div", { class: "row actions" }, this.tiff, this.png, this.stopButton,
        button("Clear", () => this.set(null), { class: "button quiet" })));
    this.element = h("div", { class: "area" },
      h("div", { class: "row actions" }, this.tools.rectangle, this.tools.polygon, view),
      this.help, this.form);
    layers.addEventListener("change", () => this.#update());
    this.#say(null);
  }

  #draw(kind) {
    if (this.drawing.kind === kind) this.drawing.stop();
    else this.drawing.start(kind);
  }

  /** Hears of drawing as it begins and ends. */
  drawingIs(kind) {
    for (const [name, tool] of Object.entries(this.tools)) tool.setAttribute("aria-pressed", String(name === kind));
    this.#say(kind);
  }

  #say(kind) {
    this.help.textContent = {
      rectangle: "Drag on the map from corner to corner. Escape gives up.",
      polygon: "Click corner after corner; a double click or Enter closes, Backspace takes one back, Escape gives up.",
    }[kind] ?? (this.polygon ? "" : "Draw an area to download its pixels.");
  }

  /** Takes an area, or none. */
  set(polygon) {
    this.polygon = polygon;
    this.drawing.show(polygon);
    this.form.hidden = polygon === null;
    this.error.hidden = true;
    this.resolution.value = "";
    if (polygon) {
      this.bounds = boundsOf(polygon);
      this.edges.forEach((input, at) => {
        input.value = this.bounds[at].toFixed(6);
        input.setAttribute("aria-invalid", "false");
      });
      this.grids = gridsFor(this.bounds);
      put(this.grid, this.grids.map((grid) => h("option", { value: grid.crs }, `${grid.name} (${grid.crs})`)));
    }
    this.#say(this.drawing.kind);
    this.#update();
    this.actions.changed();
  }

  #typed() {
    const [west, south, east, north] = this.edges.map((input) => parse(input.value));
    const isGood = ![west, south, east, north].includes(null) && west < east && south < north && south >= -90 && north <= 90;
    this.edges.forEach((input) => input.setAttribute("aria-invalid", String(!isGood)));
    if (isGood) this.set(rectangle([west, south, east, north]));
  }

  get chosen() {
    return this.layers.list.find((layer) => layer.key === this.layer.value) ?? null;
  }

  get #grid() {
    return this.grids.find((grid) => grid.crs === this.grid.value) ?? this.grids[0];
  }

  // The finest resolution among the products of a layer, in metres.
  #native(layer) {
    const used = this.actions.products().filter((product) => (layer?.info?.products ?? []).includes(product.id));
    const known = used.map((product) => product.resolution).filter((metres) => metres > 0);
    return known.length > 0 ? Math.min(...known) : null;
  }

  #update() {
    if (!this.polygon) return;
    const before = this.layer.value || this.layers.activeKey;
    const usable = this.layers.list.filter((layer) => layer.id);
    put(this.layer, usable.map((layer) => h("option", { value: layer.key }, layer.name)));
    if (usable.some((layer) => layer.key === before)) this.layer.value = before;
    const layer = this.chosen;
    const grid = this.#grid;
    this.unit.textContent = grid.unit === "°" ? "degrees" : "metres";
    if (this.resolution.value.trim() === "") {
      const [west, south, east, north] = this.bounds;
      const wide = Math.max((east - west) * 111320 * Math.cos((((south + north) / 2) * Math.PI) / 180), (north - south) * 111320);
      const metres = this.#native(layer) ?? wide / 1000;
      this.resolution.value = String(Number(resolutionOn(grid, metres, this.bounds).toPrecision(grid.unit === "°" ? 4 : 6)));
    }
    const resolution = parse(this.resolution.value);
    const isGood = resolution !== null && resolution > 0;
    this.resolution.setAttribute("aria-invalid", String(!isGood));
    const bands = layer?.info?.bands?.length ?? 1;
    let fits = isGood && layer !== null;
    if (isGood) {
      const { columns, rows } = pixelsOf(this.bounds, grid, resolution);
      const samples = columns * rows * bands;
      const isTooMuch = samples > SAMPLES_MAX;
      fits = fits && !isTooMuch;
      const what = bands > 1 ? `, ${bands} bands` : "";
      this.size.textContent = `About ${count(columns)} × ${count(rows)} pixels${what}, ${bytes(samples * 4)}${isTooMuch ? `: more than the server computes at once (${count(SAMPLES_MAX)} values); choose larger pixels` : ""}`;
      this.size.classList.toggle("failing", isTooMuch);
    } else this.size.textContent = "The pixel size is a number above 0.";
    const isBusy = Boolean(this.running);
    this.tiff.disabled = !fits || isBusy;
    this.png.disabled = !fits || isBusy || !(bands === 1 || bands === 3);
    this.stopButton.hidden = !isBusy;
  }

  async #download(accept, ending) {
    const layer = this.chosen;
    const resolution = parse(this.resolution.value);
    if (!layer || !resolution) return;
    const [west, south, east, north] = this.bounds;
    const body = {
      geometry: isRectangle(this.polygon) ? null : this.polygon,
      bounds: [west, south, east, north],
      bounds_crs: "EPSG:4326",
      crs: this.#grid.crs,
      resolution,
      shape: null,
      align_pixels: false,
      all_touched: false,
      parameters: {},
      ...(accept === "image/png" ? { style: pictureStyle(layer) } : {}),
    };
    this.running = new AbortController();
    this.error.hidden = true;
    this.#update();
    this.size.textContent = "Computing …";
    try {
      const response = await api.area(layer.id, body, accept, this.running.signal);
      save(await response.blob(), `${fileName(layer.name)}.${ending}`);
      this.running = null;
      this.#update();
    } catch (error) {
      this.running = null;
      this.#update();
      if (error.name === "AbortError") return;
      this.error.hidden = false;
      this.error.textContent = error.message;
    }
  }
}

/** A style as a picture of an area takes it: drawn as the tiles are, whatever values the area has. */
export function pictureStyle(layer) {
  const { classes, colormap } = layer.style;
  if (classes) return { classes };
  const scales = scalesOf(layer);
  return { ...(scales ? { scales } : { stretch: "layer" }), ...(colormap ? { colormap } : {}) };
}

function fileName(name) {
  return name.toLowerCase().replaceAll(/[^\p{L}\p{N}]+/gu, "_").replaceAll(/^_+|_+$/g, "") || "layer";
}

function save(blob, name) {
  const source = URL.createObjectURL(blob);
  const link = h("a", { href: source, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(source), 10_000);
}

function bytes(size) {
  if (size < 1e6) return `${show(size / 1e3)} kB uncompressed`;
  return `${show(size / 1e6)} MB uncompressed`;
}
