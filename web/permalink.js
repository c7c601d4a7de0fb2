// The page's state in the fragment of its address: the view to be read, the rest packed. Pure but for the
// browser's own compression. A link comes from anybody: what it says is checked, bounded, and never trusted.
//
//   #12.5/40.2884/-106.9142/x<base64url of deflated JSON>

const VERSION = 1;
const TEXT_MAX = 2_000_000;
const LAYERS_MAX = 64;
const CLASSES_MAX = 256;
const VERTICES_MAX = 10_000;

/** The fragment of a state `{view: {zoom, lat, lon}, layers, active, aoi}`, without `#`. */
export async function encode(state) {
  const { zoom, lat, lon } = state.view;
  const digits = Math.min(7, Math.max(2, Math.ceil(zoom / 3)));
  const view = `${round(zoom, 2)}/${round(lat, digits)}/${round(lon, digits)}`;
  const rest = {
    v: VERSION,
    l: state.layers.map((layer) => ({
      n: layer.name,
      g: layer.graft,
      ...(layer.id ? { i: layer.id } : {}),
      s: layer.style,
      ...(layer.opacity === 1 ? {} : { o: round(layer.opacity, 2) }),
      ...(layer.visible ? {} : { h: 1 }),
    })),
    ...(state.active >= 0 ? { a: state.active } : {}),
    ...(state.aoi ? { q: state.aoi } : {}),
  };
  return `${view}/x${await pack(JSON.stringify(rest))}`;
}

/**
 * The state of a fragment: `view` null where it says none, `layers` null where it packs nothing. Throws an
 * `Error` to show where the packed part cannot be read.
 */
export async function decode(fragment) {
  const parts = fragment.replace(/^#/, "").split("/");
  const view = viewOf(parts.slice(0, 3));
  const packed = parts[3] ?? "";
  if (packed === "") return { view, layers: null, active: -1, aoi: null };
  const broken = (why) => new Error(`this link cannot be read: ${why}`);
  if (!/^x[A-Za-z0-9_-]+$/.test(packed)) throw broken("it was cut or changed on its way");
  let rest;
  try {
    rest = JSON.parse(await unpack(packed.slice(1)));
  } catch {
    throw broken("it was cut or changed on its way");
  }
  if (rest?.v !== VERSION) throw broken("it was made by another version of this page");
  const layers = Array.isArray(rest.l) ? rest.l.slice(0, LAYERS_MAX).map(layerOf) : [];
  if (layers.includes(null)) throw broken("one of its layers is damaged");
  const active = Number.isInteger(rest.a) && rest.a >= 0 && rest.a < layers.length ? rest.a : -1;
  return { view, layers, active, aoi: aoiOf(rest.q) };
}

function viewOf(parts) {
  const [zoom, lat, lon] = parts.map((part) => (/^-?\d+(\.\d+)?$/.test(part ?? "") ? Number(part) : NaN));
  const good = zoom >= 0 && zoom <= 26 && Math.abs(lat) <= 90 && Math.abs(lon) <= 540;
  return good ? { zoom, lat, lon } : null;
}

function layerOf(entry) {
  if (entry === null || typeof entry !== "object" || typeof entry.g !== "string") return null;
  return {
    name: typeof entry.n === "string" ? entry.n.slice(0, 200) : "Layer",
    graft: entry.g,
    id: typeof entry.i === "string" && /^[A-Za-z0-9_-]{1,200}$/.test(entry.i) ? entry.i : null,
    style: styleOf(entry.s),
    opacity: isNumber(entry.o) ? Math.min(1, Math.max(0, entry.o)) : 1,
    visible: entry.h !== 1,
  };
}

/** A style of known members and types alone. */
export function styleOf(given) {
  const style = { colormap: null, scales: null, classes: null, unit: "", checkerboard: false };
  if (given === null || typeof given !== "object") return style;
  if (typeof given.colormap === "string" && /^[A-Za-z0-9_]{1,64}$/.test(given.colormap)) style.colormap = given.colormap;
  if (typeof given.unit === "string") style.unit = given.unit.slice(0, 40);
  style.checkerboard = given.checkerboard === true;
  if (Array.isArray(given.scales) && (given.scales.length === 1 || given.scales.length === 3)) {
    const good = given.scales.every((pair) => Array.isArray(pair) && pair.length === 2 && pair.every(isNumber) && pair[0] < pair[1]);
    if (good) style.scales = given.scales.map(([low, high]) => [low, high]);
  }
  if (Array.isArray(given.classes) && given.classes.length > 0) {
    const classes = given.classes.slice(0, CLASSES_MAX).map((entry) => ({
      value: entry?.value,
      name: typeof entry?.name === "string" ? entry.name.slice(0, 200) : String(entry?.value),
      color: entry?.color,
    }));
    if (classes.every(({ value, color }) => isNumber(value) && /^#[0-9a-f]{6}$/i.test(color))) style.classes = classes;
  }
  return style;
}

function aoiOf(given) {
  if (given?.type !== "Polygon" || !Array.isArray(given.coordinates) || given.coordinates.length !== 1) return null;
  const [ring] = given.coordinates;
  if (!Array.isArray(ring) || ring.length < 4 || ring.length > VERTICES_MAX) return null;
  const good = ring.every((point) => Array.isArray(point) && point.length === 2 && point.every(isNumber));
  return good ? { type: "Polygon", coordinates: [ring.map(([lon, lat]) => [lon, lat])] } : null;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}

async function pack(text) {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let binary = "";
  for (let at = 0; at < bytes.length; at += 4096) binary += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

async function unpack(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let unpacked = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return unpacked + decoder.decode();
    unpacked += decoder.decode(value, { stream: true });
    // A few bytes can unpack into gigabytes.
    if (unpacked.length > TEXT_MAX) {
      await reader.cancel();
      throw new Error("too long");
    }
  }
}
