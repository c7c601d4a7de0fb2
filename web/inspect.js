// Values under a click: all visible layers, band by band, with units and names of classes.

import * as api from "./api.js";
import { h, put, iconButton } from "./dom.js";
import { position } from "./geo.js";
import { exact } from "./numbers.js";

const { L } = globalThis;

// Images of a stack that are listed.
const IMAGES = 40;

/** Shows values where the map is clicked, or at its middle on Enter. */
export class Inspector {
  constructor(mapView, layers, element) {
    Object.assign(this, { map: mapView.map, layers, element });
    this.enabled = true;
    this.map.on("click", ({ latlng }) => this.enabled && this.at(latlng.wrap()));
    this.map.getContainer().addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.target === this.map.getContainer() && this.enabled) this.at(this.map.getCenter().wrap());
    });
    layers.addEventListener("change", ({ detail }) => {
      if (this.latlng && detail.type !== "active" && (!("opacity" in detail.patch))) this.#later();
    });
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.latlng && this.at(this.latlng), 250);
  }

  /** Asks every visible layer for its value at a place. */
  async at(latlng) {
    this.stop?.abort();
    const stop = new AbortController();
    this.stop = stop;
    this.latlng = latlng;
    this.marker ??= L.marker(latlng, { icon: L.divIcon({ className: "cross", iconSize: [24, 24] }), interactive: false, keyboard: false });
    this.marker.setLatLng(latlng).addTo(this.map);
    const asked = this.layers.list.filter((layer) => layer.visible && layer.id && layer.info);
    const bodies = asked.map((layer) => {
      const body = h("tbody", {}, names(layer).map((name) => row(layer, name, "…")));
      return { layer, body };
    });
    const head = h("div", { class: "row spread" }, h("span", { class: "place", text: position(latlng.lat, latlng.lng, 5) }), iconButton("close", "Close the values", () => this.close()));
    const none = asked.length === 0 && h("p", { class: "hint", text: "No layer is shown here." });
    put(this.element, head, none, bodies.map(({ layer, body }) => h("table", {}, h("caption", { text: layer.name }), body)));
    this.element.hidden = false;
    await Promise.all(bodies.map(async ({ layer, body }) => {
      try {
        const answer = await api.value(layer.id, { lon: latlng.lng, lat: latlng.lat, z: Math.round(this.map.getZoom()) }, stop.signal);
        put(body, rows(layer, answer));
      } catch (error) {
        if (error.name !== "AbortError") put(body, h("tr", {}, h("td", { colspan: 2, class: "failing", text: error.message })));
      }
    }));
    if (!stop.signal.aborted) this.element.dataset.at = `${latlng.lng},${latlng.lat}`;
  }

  close() {
    this.stop?.abort();
    this.latlng = null;
    this.marker?.remove();
    this.element.hidden = true;
    delete this.element.dataset.at;
  }
}

function names(layer) {
  return layer.info.bands ?? [""];
}

function row(layer, name, text, chip = null) {
  return h("tr", {}, h("th", { scope: "row", text: name }), h("td", {}, chip && h("span", { class: "chip", css: { background: chip } }), text));
}

function rows(layer, answer) {
  if (Array.isArray(answer.images)) {
    const shown = answer.images.slice(0, IMAGES);
    const rest = answer.images.length - shown.length;
    const list = shown.map(({ id, acquired, values }) => row(layer, acquired?.slice(0, 10) ?? id ?? "", (values ?? []).map(text).join("  ")));
    if (rest > 0) list.push(row(layer, "", `and ${rest} more images`));
    return list.length > 0 ? list : [row(layer, "", "no images here")];
  }
  if (answer.kind === "number") return [row(layer, "", text(answer.value))];
  if (answer.kind === "array") return [row(layer, "", (answer.values ?? []).slice(0, IMAGES).map(text).join("  "))];
  const bands = answer.bands ?? [];
  if (bands.length === 0) return [row(layer, "", "no data")];
  return bands.map(({ name, value, unit, classes }) => {
    // The catalog's name of a class, and the colour that it is drawn in.
    const drawn = layer.style.classes?.find((entry) => entry.value === value);
    const known = drawn ?? classes?.find((entry) => entry.value === value);
    if (known) return row(layer, name, `${text(value)}  ${known.name ?? ""}`, drawn?.color);
    const suffix = unit || (bands.length === 1 ? layer.style.unit : "");
    return row(layer, name, suffix && typeof value === "number" ? `${text(value)} ${suffix}` : text(value));
  });
}

// What is not finite comes as a text, truth values as such.
function text(value) {
  return typeof value === "number" || value === null || value === undefined ? exact(value) : String(value);
}
