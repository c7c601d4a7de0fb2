// The layers of the page, top first, and which of them is open. Parts of the page listen for `change`, whose
// detail is `{type, layer, patch}` with the types `add remove move update active`.

let keys = 0;

/** A layer before the server has seen its graft. `graft` is text, as written. */
export function newLayer({ name, graft, id = null, style = {}, opacity = 1, visible = true }) {
  keys += 1;
  return {
    key: `layer-${keys}`,
    name,
    graft,
    id,
    info: null,
    statistics: null,
    error: null,
    draft: null,
    style: { colormap: null, scales: null, classes: null, unit: "", checkerboard: false, ...style },
    opacity,
    visible,
  };
}

export class Layers extends EventTarget {
  list = [];
  activeKey = null;

  get active() {
    return this.list.find((layer) => layer.key === this.activeKey) ?? null;
  }

  has(layer) {
    return this.list.includes(layer);
  }

  add(layer, at = 0) {
    this.list.splice(at, 0, layer);
    this.#say("add", layer);
    return layer;
  }

  remove(layer) {
    const at = this.list.indexOf(layer);
    if (at < 0) return;
    this.list.splice(at, 1);
    this.#say("remove", layer);
    if (this.activeKey === layer.key) this.activate(this.list[Math.min(at, this.list.length - 1)] ?? null);
  }

  /** Moves a layer to a place, counted in the list without it. */
  move(layer, to) {
    const from = this.list.indexOf(layer);
    const at = Math.min(this.list.length - 1, Math.max(0, to));
    if (from < 0 || from === at) return;
    this.list.splice(from, 1);
    this.list.splice(at, 0, layer);
    this.#say("move", layer);
  }

  update(layer, patch) {
    Object.assign(layer, patch);
    if (this.has(layer)) this.#say("update", layer, patch);
  }

  restyle(layer, patch) {
    this.update(layer, { style: { ...layer.style, ...patch } });
  }

  activate(layer) {
    const key = layer?.key ?? null;
    if (key === this.activeKey) return;
    this.activeKey = key;
    this.#say("active", layer);
  }

  clear() {
    for (const layer of [...this.list]) this.remove(layer);
  }

  #say(type, layer, patch = {}) {
    this.dispatchEvent(new CustomEvent("change", { detail: { type, layer, patch } }));
  }
}
