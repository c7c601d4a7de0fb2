// Tiles of a layer on the map. Each is fetched rather than left to an <img>: what is no longer seen is
// aborted, so that the server stops computing it; what fails is known and shows the server's words.

import { errorOf } from "./api.js";

const { L } = globalThis;

const RETRIES = 3;

/**
 * A Leaflet layer of tiles. Options beyond those of `L.GridLayer`: `address(coords)`. Events: `tilestate`
 * whenever the numbers of tiles change; `loading`, `failed`, `coarse` (of display
 * quality) and `message` hold them.
 */
export const Tiles = L.GridLayer.extend({
  options: { keepBuffer: 1, updateWhenZooming: false, updateInterval: 120, minZoom: 0, maxZoom: 26 },

  initialize(options) {
    L.GridLayer.prototype.initialize.call(this, options);
    this.loading = 0;
    this.failed = 0;
    this.coarse = 0;
    this.message = null;
    this.on("tileunload", ({ tile }) => this._forget(tile));
  },

  createTile(coords, done) {
    const tile = L.DomUtil.create("div", "tile");
    const image = L.DomUtil.create("img", "", tile);
    image.alt = "";
    tile.stop = new AbortController();
    tile.outcome = "loading";
    this.loading += 1;
    this._changed();
    this._load(this.options.address(coords), tile, image).then(
      (message) => this._arrived(tile, message, done),
      (error) => {
        if (error.name !== "AbortError") this._arrived(tile, error.message, done);
      },
    );
    return tile;
  },

  // Promises null, or why the tile is a picture of an error.
  async _load(address, tile, image) {
    const { signal } = tile.stop;
    for (let attempt = 1; ; attempt += 1) {
      let response;
      try {
        response = await fetch(address, { headers: { accept: "image/png,image/*;q=0.9" }, signal });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        this._write(tile, "no answer from the server");
        return "the server does not answer";
      }
      if ((response.status === 429 || response.status === 503) && attempt <= RETRIES) {
        const seconds = Math.min(20, Number(response.headers.get("retry-after")) || attempt);
        await pause(seconds * 1000, signal);
        continue;
      }
      const isPicture = (response.headers.get("content-type") ?? "").startsWith("image/");
      if (isPicture) await show(await response.blob(), image, signal);
      if (response.ok) {
        if (response.headers.get("graticule-quality") === "display") {
          tile.isCoarse = true;
          this.coarse += 1;
        }
        return null;
      }
      tile.classList.add("failed");
      if (!isPicture) {
        const { message } = await errorOf(response);
        this._write(tile, message);
        return message;
      }
      return this._words(address, signal);
    }
  },

  // What the picture of a failed tile says, as text. One tile of a layer is asked again for it.
  _words(address, signal) {
    this._said ??= fetch(address, { headers: { accept: "application/json" } }).then(
      async (response) => (response.ok ? "failed, but not when asked again" : (await errorOf(response)).message),
      () => "the server does not answer",
    );
    signal.throwIfAborted();
    return this._said;
  },

  _write(tile, text) {
    tile.classList.add("failed");
    const words = L.DomUtil.create("p", "", tile);
    words.textContent = text;
  },

  _arrived(tile, message, done) {
    if (tile.outcome !== "loading") return;
    this.loading -= 1;
    tile.outcome = message === null ? "here" : "failed";
    if (message !== null) {
      this.failed += 1;
      this.message = message;
      tile.title = message;
    }
    done(null, tile);
    this._changed();
  },

  _forget(tile) {
    if (tile.outcome === "loading") this.loading -= 1;
    if (tile.outcome === "failed") this.failed -= 1;
    if (tile.isCoarse) this.coarse -= 1;
    tile.isCoarse = false;
    tile.outcome = "gone";
    tile.stop.abort();
    this._changed();
  },

  _changed() {
    this.fire("tilestate");
  },
});

async function show(blob, image, signal) {
  const source = URL.createObjectURL(blob);
  try {
    image.src = source;
    await image.decode();
  } finally {
    URL.revokeObjectURL(source);
  }
  signal.throwIfAborted();
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

/**
 * One of the user's layers on the map: its tiles, changed without a blank moment. New tiles are laid over the
 * old ones, which go when the new ones are there.
 */
export class LayerOnMap {
  constructor(map, onstate) {
    Object.assign(this, { map, onstate, now: null, before: null, zIndex: 1, opacity: 1, address: null });
  }

  /** Shows tiles of an address, a function of coordinates; `key` tells whether that is a new one. */
  show(key, options) {
    if (this.key === key && this.now) return;
    this.key = key;
    this.before?.remove();
    this.before = this.now;
    const now = new Tiles({ ...options, opacity: this.opacity, zIndex: this.zIndex });
    this.now = now;
    now.on("tilestate", () => this.onstate());
    now.on("load", () => {
      if (this.now !== now) return;
      this.before?.remove();
      this.before = null;
      this.onstate();
    });
    now.addTo(this.map);
    this.onstate();
  }

  hide() {
    this.before?.remove();
    this.now?.remove();
    this.before = this.now = this.key = null;
    this.onstate();
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    this.now?.setOpacity(opacity);
    this.before?.setOpacity(opacity);
  }

  setOrder(zIndex) {
    this.zIndex = zIndex;
    this.now?.setZIndex(zIndex);
    this.before?.setZIndex(zIndex);
  }

  /** Tries the failed tiles again. */
  retry() {
    const { key, now } = this;
    if (!now) return;
    this.key = null;
    this.show(key, now.options);
  }

  get state() {
    const { loading = 0, failed = 0, coarse = 0, message = null } = this.now ?? {};
    return { loading, failed, coarse, message: failed > 0 ? message : null };
  }
}
