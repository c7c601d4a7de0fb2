// Lines of longitude and latitude, drawn behind the tiles: one knows where one is without a base map.

import { angle, multiples, spacing } from "./geo.js";

// Pixels from line to line, at least.
const APART = 120;

/** Draws the graticule of a map, and again whenever the map or the colours change. */
export class Graticule {
  constructor(map) {
    this.map = map;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "graticule";
    this.canvas.setAttribute("aria-hidden", "true");
    map.getContainer().prepend(this.canvas);
    map.on("move resize zoomend viewreset", () => this.later());
    // While the map zooms, lines of the old zoom would stand still: they fade.
    map.on("zoomanim", () => this.canvas.classList.add("away"));
    map.on("zoomend", () => this.canvas.classList.remove("away"));
    this.later();
  }

  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const { map, canvas } = this;
    const { x: width, y: height } = map.getSize();
    const dense = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
    }
    const paint = canvas.getContext("2d");
    paint.setTransform(dense, 0, 0, dense, 0, 0);
    paint.clearRect(0, 0, width, height);
    const style = getComputedStyle(canvas);
    const [line, ink] = [style.outlineColor, style.color];

    const bounds = map.getBounds();
    const step = spacing((bounds.getEast() - bounds.getWest()) / width, APART);
    // Latitudes move apart towards the poles: their own spacing, of the middle of the map.
    const middle = map.getCenter().lat;
    const upright = spacing(((bounds.getEast() - bounds.getWest()) / width) * Math.cos((middle * Math.PI) / 180), APART);
    paint.lineWidth = 1;
    paint.font = "11px system-ui, sans-serif";
    const xs = multiples(bounds.getWest(), bounds.getEast(), step).map((lon) => [lon, map.latLngToContainerPoint([middle, lon]).x]);
    const lats = multiples(Math.max(-85, bounds.getSouth()), Math.min(85, bounds.getNorth()), upright);
    const ys = lats.map((lat) => [lat, map.latLngToContainerPoint([lat, bounds.getCenter().lng]).y]);
    paint.strokeStyle = line;
    paint.beginPath();
    for (const [, x] of xs) {
      paint.moveTo(Math.round(x) + 0.5, 0);
      paint.lineTo(Math.round(x) + 0.5, height);
    }
    for (const [, y] of ys) {
      paint.moveTo(0, Math.round(y) + 0.5);
      paint.lineTo(width, Math.round(y) + 0.5);
    }
    paint.stroke();
    paint.fillStyle = ink;
    paint.textBaseline = "top";
    for (const [lon, x] of xs) paint.fillText(angle(lon, step, false), Math.round(x) + 5, 6);
    paint.textAlign = "right";
    paint.textBaseline = "bottom";
    // The zoom buttons and the scale stand in the corners.
    for (const [lat, y] of ys) if (y > 110 && y < height - 40) paint.fillText(angle(lat, upright, true), width - 8, Math.round(y) - 3);
    paint.textAlign = "left";
  }
}
