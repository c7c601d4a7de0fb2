// The page: makes its parts, joins them, and keeps its address a link to what is seen. Read this first.
//
//   state.js      the layers           map.js, tiles.js, graticule.js   the map
//   layers.js     their list           stretch.js, range.js, colormaps.js   how they look
//   products.js   the catalog          templates.js   ready-made expressions
//   editor.js     expressions          json.js        their text and its places
//   inspect.js    values               draw.js, area.js   areas and downloads
//   permalink.js  the address          api.js   the server      dom.js, geo.js, numbers.js   small things

import * as api from "./api.js";
import { Area } from "./area.js";
import * as colormaps from "./colormaps.js";
import { h, put, icon, button, iconButton, debounce } from "./dom.js";
import { Drawing } from "./draw.js";
import { Editor, beginning } from "./editor.js";
import { Inspector } from "./inspect.js";
import { format, read } from "./json.js";
import { LayerList } from "./layers.js";
import { MapView } from "./map.js";
import { askForKey, copy, say, tabs, sheet, themeButton } from "./page.js";
import { decode, encode } from "./permalink.js";
import { Products } from "./products.js";
import { Layers, newLayer } from "./state.js";
import { firstLook } from "./templates.js";

const $ = (id) => document.getElementById(id);
const WORLD = [-180, -85, 180, 85];
// How often an empty catalog is asked again.
const LOOK_AGAIN = 4000;

const layers = new Layers();
let catalog = [];

api.onLocked(askForKey);

const panel = $("panel");
const mapView = new MapView($("map"), layers, { status: $("status"), coordinates: $("coordinates") });
const tab = tabs($("tab-layers"), $("tab-data"), $("tab-area"));
const theSheet = sheet(panel, $("sheet-handle"));
mapView.covered = () => {
  const box = panel.getBoundingClientRect();
  return theSheet.isNarrow() ? { left: 0, bottom: window.innerHeight - box.top } : { left: box.right, bottom: 0 };
};

const inspector = new Inspector(mapView, layers, $("inspector"));

const drawing = new Drawing(mapView.map, {
  done: (polygon) => area.set(polygon),
  busy: (kind) => {
    // A click that draws does not ask for values; the last one of a drawing is still on its way.
    if (kind) inspector.enabled = false;
    else setTimeout(() => { inspector.enabled = drawing.kind === null; }, 350);
    area.drawingIs(kind);
    if (kind && theSheet.isNarrow()) theSheet.set("peek");
    if (!kind && theSheet.isNarrow()) theSheet.set("half");
  },
});

const area = new Area(layers, drawing, {
  view: () => mapView.seen,
  products: () => catalog,
  changed: () => remember(),
});

const editor = new Editor({
  products: () => catalog,
  apply: applied,
  closed: () => {
    panel.classList.remove("editing");
    layerView.hidden = false;
    layerView.querySelector(".card.open .title, .button")?.focus();
  },
});

const list = new LayerList(layers, mapView, {
  products: () => catalog,
  edit,
  zoomTo: (layer) => mapView.zoomTo(layer.info?.bounds ?? WORLD),
  download: (layer) => {
    layers.activate(layer);
    tab.select("area");
    if (!area.polygon) area.set(boxIn(layer.info?.bounds ?? WORLD));
    area.layer.value = layer.key;
  },
  duplicate: (layer) => {
    const { graft, id, style, opacity } = layer;
    const twin = newLayer({ name: `${layer.name} (copy)`, graft, id, style: { ...style }, opacity });
    add(twin, layers.list.indexOf(layer));
  },
  retry: (layer) => {
    layers.update(layer, { error: null });
    realize(layer);
  },
  copy,
});

const products = new Products(mapView, {
  add: (product, template) => {
    add(newLayer({ name: template.name, graft: format(template.graft), style: template.style }));
    tab.select("layers");
    const shown = mapView.map.getBounds();
    const [west, south, east, north] = product.footprint ?? WORLD;
    const isSeen = shown.intersects([[south, west], [north, east]]) && (east - west) * 12 > shown.getEast() - shown.getWest();
    if (!isSeen && product.footprint) mapView.zoomTo(product.footprint);
  },
  zoomTo: (bounds) => mapView.zoomTo(bounds),
  refresh: () => loadProducts(),
  copy,
});

const layerView = h("div", {}, list.element, h("div", { class: "row actions" },
  h("button", { type: "button", class: "button", on: { click: () => tab.select("data") } }, icon("plus"), "From data"),
  h("button", { type: "button", class: "button", on: { click: () => edit(newLayer({ name: "New layer", graft: beginning(catalog) })) } }, icon("code"), "New expression")));
put($("view-layers"), layerView, editor.element);
put($("view-data"), products.element);
put($("view-area"), area.element);
put($("tools"),
  iconButton("link", "Copy a link to this map", async () => {
    await writeAddress();
    copy(location.href, "Link copied");
  }),
  themeButton(() => mapView.graticule.later()));

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.defaultPrevented && !$("inspector").hidden && editor.element.hidden) inspector.close();
});

// ---- layers: from a graft to something to see

function add(layer, at = 0) {
  layers.add(layer, at);
  layers.activate(layer);
  return realize(layer);
}

function edit(layer) {
  panel.classList.add("editing");
  tab.select("layers");
  layerView.hidden = true;
  if (theSheet.isNarrow()) theSheet.set("full");
  editor.open(layer);
}

function applied(layer, { name, graft, id, info, style }) {
  const isSame = JSON.stringify(info.bands) === JSON.stringify(layer.info?.bands);
  // A stretch of other values would show nothing; a template brings its own.
  const kept = isSame ? layer.style : { ...layer.style, scales: null, classes: null, unit: "" };
  const next = { name, graft, id, info, error: null, draft: null, statistics: layer.id === id ? layer.statistics : null, style: usual(style ? { ...newLayer({ name, graft, style }).style } : kept, info) };
  if (layers.has(layer)) layers.update(layer, next);
  else {
    Object.assign(layer, next);
    layers.add(layer);
  }
  layers.activate(layer);
  measure(layer);
}

function usual(style, info) {
  return info.bands?.length === 1 && !style.colormap ? { ...style, colormap: "viridis" } : style;
}

/** Gives a layer its id and what the server says of it. */
async function realize(layer) {
  try {
    let { id } = layer;
    let info = null;
    if (id) {
      try {
        info = await api.layerInfo(id);
      } catch (error) {
        // A link's id opens tiles to everybody, what the layer is to those with a key. Another server does
        // not know the id at all.
        if (error.status === 401 || error.status === 403) info = { bands: null, bounds: WORLD, products: [], minzoom: 0 };
        else if (error.status !== 404) throw error;
      }
    }
    if (!info) {
      id = await api.postLayer(read(layer.graft).value);
      info = await api.layerInfo(id);
    }
    layers.update(layer, { id, info, error: null, style: usual(layer.style, info) });
    await measure(layer);
  } catch (error) {
    layers.update(layer, { error });
  }
}

/** Fetches the statistics of a layer where its sliders or its legend need them. */
async function measure(layer) {
  const { id } = layer;
  if (!id || layer.statistics || layer.measuring === id || layer.style.classes) return;
  if (layer.info?.kind && layer.info.kind !== "mosaic") return;
  if (layer.style.scales && layers.active !== layer) return;
  layer.measuring = id;
  try {
    const statistics = await api.statistics(id);
    if (layer.id === id) layers.update(layer, { statistics });
  } catch (error) {
    // Without numbers there is no histogram; the tiles say what is wrong with the layer.
    layer.unmeasured = error.message;
  } finally {
    if (layer.measuring === id) layer.measuring = null;
  }
}

layers.addEventListener("change", ({ detail: { type, layer, patch } }) => {
  if (type === "active" && layer) measure(layer);
  if (type === "update" && patch.style && !patch.statistics) measure(layer);
  remember();
});

function boxIn([west, south, east, north]) {
  const shown = mapView.map.getBounds();
  const box = [Math.max(west, shown.getWest()), Math.max(south, shown.getSouth()), Math.min(east, shown.getEast()), Math.min(north, shown.getNorth())];
  const [w, s, e, n] = box[0] < box[2] && box[1] < box[3] ? box : [west, south, east, north];
  return { type: "Polygon", coordinates: [[[w, s], [e, s], [e, n], [w, n], [w, s]]] };
}

// ---- the catalog

async function loadProducts() {
  clearTimeout(loadProducts.timer);
  try {
    const answer = await api.products();
    const wasEmpty = catalog.length === 0;
    if (JSON.stringify(answer) !== JSON.stringify(catalog) || answer.length === 0) {
      catalog = answer;
      products.show(catalog);
    }
    if (catalog.length === 0) loadProducts.timer = setTimeout(loadProducts, LOOK_AGAIN);
    else if (wasEmpty && loadProducts.isLater && layers.list.length === 0) firstSight();
    loadProducts.isLater = true;
  } catch (error) {
    products.show([]);
    put(products.items, h("li", {}, h("div", { class: "notice error" }, icon("warning"), h("span", { text: error.message })), button("Try again", () => { api.askAgain(); loadProducts(); })));
  }
}

function firstSight() {
  const look = firstLook(catalog);
  if (!look) {
    tab.select("data");
    return;
  }
  const { product, template } = look;
  // Who came with a view of their own keeps it.
  if (!hasView) mapView.zoomTo(product.footprint, { animate: false });
  tab.select("layers");
  add(newLayer({ name: template.name, graft: format(template.graft), style: template.style }));
}

// ---- the address of the page

let written = "";

async function writeAddress() {
  const state = { view: mapView.view, layers: layers.list, active: layers.list.indexOf(layers.active), aoi: area.polygon };
  written = `#${await encode(state)}`;
  if (location.hash !== written) history.replaceState(null, "", written);
}

let isRestoring = true;
let hasView = false;
const rememberSoon = debounce(writeAddress, 400);
function remember() {
  if (!isRestoring) rememberSoon();
}
mapView.map.on("moveend", remember);

/** Shows what the address says; promises whether it says any layers. */
async function restore() {
  isRestoring = true;
  rememberSoon.cancel();
  try {
    const state = await decode(location.hash);
    hasView = state.view !== null;
    if (state.view) mapView.view = state.view;
    if (!state.layers) return false;
    layers.clear();
    const restored = state.layers.map((entry) => newLayer(entry));
    restored.forEach((layer, at) => layers.add(layer, at));
    layers.activate(restored[state.active] ?? null);
    area.set(state.aoi);
    restored.forEach(realize);
    return true;
  } catch (error) {
    say(error.message);
    return false;
  } finally {
    isRestoring = false;
  }
}

window.addEventListener("hashchange", () => {
  if (location.hash !== written) restore();
});

// ---- the start

async function start() {
  api.settings().then(({ basemap }) => basemap && mapView.setBasemap(basemap), () => say("The server's settings for this page cannot be read."));
  colormaps.load().then(() => layers.list.forEach((layer) => layers.update(layer, {})), (error) => say(error.message));
  const [hasLayers] = await Promise.all([restore(), loadProducts()]);
  if (!hasLayers && layers.list.length === 0) firstSight();
  document.documentElement.dataset.ready = "true";
}

start();
