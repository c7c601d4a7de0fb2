// Drawing an area on the map: a rectangle with one drag, a polygon with clicks. Escape gives up.

import { rectangle } from "./geo.js";

const { L } = globalThis;

const STYLE = { className: "aoi", weight: 2, fillOpacity: 0.05, interactive: false };

/** `done(polygon)` hears of each finished area; `busy(kind | null)` of drawing as it begins and ends. */
export class Drawing {
  constructor(map, { done, busy }) {
    Object.assign(this, { map, done, busy, kind: null, points: [], shape: null, area: null });
    this.shown = L.layerGroup().addTo(map);
    map.on("click", (event) => this.#click(event));
    map.on("dblclick", () => this.kind === "polygon" && this.#finishPolygon());
    map.on("mousemove", ({ latlng }) => this.#follow(latlng));
    // Leaflet hears of mice and emulates touch; a drag is drawn from pointer events, which are both.
    map.getContainer().addEventListener("pointerdown", (event) => this.#press(event), true);
    document.addEventListener("keydown", (event) => {
      if (this.kind === null) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        this.stop();
      } else if (event.key === "Enter" && this.kind === "polygon" && this.points.length >= 3) this.#finishPolygon();
      else if (event.key === "Backspace" && this.kind === "polygon" && !/INPUT|TEXTAREA/.test(event.target.tagName)) {
        this.points.pop();
        this.#sketch();
      }
    }, true);
  }

  /** Begins to draw a `rectangle` or a `polygon`. */
  start(kind) {
    this.stop();
    this.kind = kind;
    this.map.getContainer().classList.add("drawing");
    this.map.doubleClickZoom.disable();
    if (kind === "rectangle") {
      this.map.dragging.disable();
      this.map.touchZoom.disable();
    }
    this.busy(kind);
  }

  /** Ends drawing without a result. */
  stop() {
    if (this.kind === null) return;
    this.kind = null;
    this.points = [];
    this.shape?.remove();
    this.shape = null;
    this.map.getContainer().classList.remove("drawing");
    this.map.dragging.enable();
    this.map.touchZoom?.enable();
    // A double click that closed a polygon is still under way.
    setTimeout(() => this.kind === null && this.map.doubleClickZoom.enable(), 300);
    this.busy(null);
  }

  /** Shows a finished area, or none. */
  show(polygon) {
    this.area = polygon;
    this.shown.clearLayers();
    if (polygon) L.polygon(polygon.coordinates[0].map(([lon, lat]) => [lat, lon]), STYLE).addTo(this.shown);
  }

  #press(event) {
    if (this.kind !== "rectangle" || event.button !== 0 || event.target.closest(".leaflet-control")) return;
    event.preventDefault();
    event.stopPropagation();
    const { map } = this;
    const container = map.getContainer();
    const from = map.mouseEventToLatLng(event);
    const begin = [event.clientX, event.clientY];
    container.setPointerCapture(event.pointerId);
    this.shape = L.rectangle([from, from], STYLE).addTo(map);
    const follow = (moving) => this.shape?.setBounds(L.latLngBounds(from, map.mouseEventToLatLng(moving)));
    const end = (ending) => {
      container.removeEventListener("pointermove", follow);
      container.removeEventListener("pointerup", end);
      container.removeEventListener("pointercancel", end);
      if (this.kind !== "rectangle" || !this.shape) return;
      const bounds = L.latLngBounds(from, map.mouseEventToLatLng(ending));
      const isDrag = Math.hypot(ending.clientX - begin[0], ending.clientY - begin[1]) > 4;
      this.stop();
      if (isDrag && ending.type === "pointerup") {
        this.done(rectangle([bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()]));
      }
    };
    container.addEventListener("pointermove", follow);
    container.addEventListener("pointerup", end);
    container.addEventListener("pointercancel", end);
  }

  #click({ latlng }) {
    if (this.kind !== "polygon") return;
    const first = this.points[0];
    const near = first && this.map.latLngToContainerPoint(first).distanceTo(this.map.latLngToContainerPoint(latlng)) < 12;
    if (near && this.points.length >= 3) {
      this.#finishPolygon();
      return;
    }
    // The second click of a double click lies on the first.
    const last = this.points.at(-1);
    if (last && this.map.latLngToContainerPoint(last).distanceTo(this.map.latLngToContainerPoint(latlng)) < 3) return;
    this.points.push(latlng);
    this.#sketch();
  }

  #follow(latlng) {
    if (this.kind === "polygon" && this.points.length > 0) this.#sketch(latlng);
  }

  #sketch(next = null) {
    const points = next ? [...this.points, next] : this.points;
    this.shape ??= L.polygon(points, STYLE).addTo(this.map);
    this.shape.setLatLngs(points);
  }

  #finishPolygon() {
    if (this.points.length < 3) return;
    const ring = this.points.map(({ lat, lng }) => [lng, lat]);
    this.stop();
    this.done({ type: "Polygon", coordinates: [[...ring, ring[0]]] });
  }
}
