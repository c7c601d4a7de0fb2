// The map itself: view, controls, the user's layers in their order, what is loading and what failed.

import { tileAddress, tileQuery } from "./api.js";
import { put, h, button } from "./dom.js";
import { position } from "./geo.js";
import { Graticule } from "./graticule.js";
import { LayerOnMap } from "./tiles.js";

const { L } = globalThis;

const isCalm = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Makes the map in an element and keeps it in step with the layers. */
export class MapView {
  constructor(element, layers, { status, coordinates }) {
    this.layers = layers;
    this.onMap = new Map();
    this.status = status;
    const calm = isCalm();
    this.map = L.map(element, {
      center: [20, 0],
      zoom: 2,
      minZoom: 1,
      maxZoom: 24,
      zoomControl: false,
      attributionControl: false,
      worldCopyJump: true,
      zoomAnimation: !calm,
      fadeAnimation: !calm,
      inertia: !calm,
      // A double click closes a polygon while one is drawn; draw.js turns this off and on.
      doubleClickZoom: true,
    });
    L.control.zoom({ position: "topright", zoomInTitle: "Zoom in", zoomOutTitle: "Zoom out" }).addTo(this.map);
    L.control.scale({ position: "bottomright", imperial: false, maxWidth: 120 }).addTo(this.map);
    this.graticule = new Graticule(this.map);
    const digits = () => Math.min(6, Math.max(2, Math.ceil(this.map.getZoom() / 3)));
    const showAt = (latlng) => {
      const { lat, lng } = latlng.wrap();
      coordinates.textContent = position(lat, lng, digits());
    };
    this.map.on("mousemove", ({ latlng }) => showAt(latlng));
    this.map.on("move", () => showAt(this.map.getCenter()));
    showAt(this.map.getCenter());
    layers.addEventListener("change", ({ detail }) => this.#follow(detail));
  }

  /** A map of somebody else below everything, as the operator configured it. */
  setBasemap({ url, attribution }) {
    L.tileLayer(url, { maxZoom: 24, maxNativeZoom: 19, zIndex: 0, className: "basemap" }).addTo(this.map);
    this.graticule.canvas.hidden = true;
    const note = L.control.attribution({ position: "bottomright", prefix: false }).addTo(this.map);
    // Leaflet takes attributions as HTML; this one is text. It stands lowest in its corner.
    const words = note.getContainer();
    words.textContent = attribution;
    words.parentElement.append(words);
    document.body.classList.add("has-basemap");
  }

  #follow({ type, layer }) {
    if (type === "remove") {
      this.onMap.get(layer.key)?.hide();
      this.onMap.delete(layer.key);
    } else if (type !== "active" && layer) {
      this.#show(layer);
    }
    if (type === "add" || type === "move" || type === "remove") {
      const { list } = this.layers;
      list.forEach((entry, at) => this.onMap.get(entry.key)?.setOrder(10 + list.length - at));
    }
  }

  #show(layer) {
    let shown = this.onMap.get(layer.key);
    if (!shown) {
      shown = new LayerOnMap(this.map, () => this.#tell());
      this.onMap.set(layer.key, shown);
    }
    if (shown.opacity !== layer.opacity) shown.setOpacity(layer.opacity);
    if (!layer.visible || !layer.id || !layer.info) {
      shown.hide();
      return;
    }
    const { id, style, info } = layer;
    const isDense = (window.devicePixelRatio || 1) > 1.3;
    const [west, south, east, north] = info.bounds;
    shown.show(`${id} ${JSON.stringify(tileQuery(style))}`, {
      address: (coords) => tileAddress(id, coords, style, isDense),
      bounds: L.latLngBounds([south, west], [north, east]),
      minZoom: info.minzoom ?? 0,
    });
  }

  /** What a layer's tiles are doing: `{loading, failed, coarse, message}`. */
  stateOf(layer) {
    return this.onMap.get(layer.key)?.state ?? { loading: 0, failed: 0, coarse: 0, message: null };
  }

  retry(layer) {
    this.onMap.get(layer.key)?.retry();
  }

  // Tiles come in bursts: one line for all of them, once a frame.
  #tell() {
    this.telling ??= requestAnimationFrame(() => {
      this.telling = null;
      let [loading, failed, coarse, message] = [0, 0, 0, null];
      for (const layer of this.layers.list) {
        const state = this.stateOf(layer);
        loading += state.loading;
        failed += state.failed;
        coarse += state.coarse;
        message ??= state.message && `${layer.name}: ${state.message}`;
      }
      const parts = [];
      if (loading > 0) parts.push(h("span", { class: "busy", text: `${loading} ${loading === 1 ? "tile" : "tiles"} loading` }));
      if (failed > 0) {
        parts.push(h("span", { class: "failing", title: message, text: `${failed} ${failed === 1 ? "tile" : "tiles"} failed` }));
        parts.push(button("Try again", () => this.layers.list.forEach((layer) => this.stateOf(layer).failed > 0 && this.retry(layer))));
      }
      if (parts.length === 0 && coarse > 0) parts.push(h("span", { title: "Overviews and few images were read. Zoom in for exact pixels.", text: "display quality" }));
      put(this.status, parts);
      this.status.dataset.loading = String(loading);
      this.status.dataset.failed = String(failed);
      this.layers.dispatchEvent(new CustomEvent("tilestate"));
    });
  }

  /** How much of the map the panel covers: `{left, bottom}` in pixels. */
  covered = () => ({ left: 0, bottom: 0 });

  /** Shows `[west, south, east, north]` in the part of the map that is not covered. */
  zoomTo([west, south, east, north], { animate = true } = {}) {
    const { left, bottom } = this.covered();
    this.map.fitBounds([[south, west], [north, east]], {
      paddingTopLeft: [left + 40, 48],
      paddingBottomRight: [64, bottom + 40],
      maxZoom: 18,
      animate: animate && !isCalm(),
    });
  }

  /** `[west, south, east, north]` of the part of the map that is not covered. */
  get seen() {
    const { left, bottom } = this.covered();
    const { x, y } = this.map.getSize();
    const northWest = this.map.containerPointToLatLng([left, 0]);
    const southEast = this.map.containerPointToLatLng([x, y - bottom]);
    return [northWest.lng, Math.max(-85, southEast.lat), southEast.lng, Math.min(85, northWest.lat)];
  }

  get view() {
    const { lat, lng } = this.map.getCenter();
    return { zoom: this.map.getZoom(), lat, lon: lng };
  }

  set view({ zoom, lat, lon }) {
    this.map.setView([lat, lon], zoom, { animate: false });
  }
}
