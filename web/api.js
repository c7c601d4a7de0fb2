// The server's answers. Everything the page asks goes through here; tiles alone need no key.

const KEY = "graticule-key";

/** The folder that this page lies in: a proxy may serve it below a path. */
const BASE = new URL(".", document.baseURI);

/** What the server refused, and why. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "", path = null, retryAfter = null, requestId = null } = {}) {
    super(message);
    Object.assign(this, { status, code, path, retryAfter, requestId });
  }
}

/** The full address of a path of the server, with a query of what is not null. */
export function address(path, query = {}) {
  const to = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined) to.searchParams.set(name, value);
  return to.href;
}

let askForKey = null;
let asking = null;
let isRefused = false;

/** Asks for a key again, after somebody went on without one. */
export function askAgain() {
  isRefused = false;
}

/** Who is asked for a key when the server wants one: a function of a reason that promises a key, or null. */
export function onLocked(ask) {
  askForKey = ask;
}

function storedKey() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** Keeps a key until the tab is closed; null forgets it. */
export function keepKey(key) {
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {
    // Without storage the next request asks again.
  }
}

/** Calls the server; promises a `Response` that is good, else throws an `ApiError` (or an abort). */
export async function call(path, { method = "GET", query, body, accept = "application/json", signal } = {}) {
  for (;;) {
    const key = storedKey();
    const headers = { accept };
    if (body !== undefined) headers["content-type"] = "application/json";
    if (key) headers.authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(address(path, query), { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("the server does not answer; is `graticule serve` still running?", { code: "unreachable" });
    }
    if (response.ok) return response;
    const error = await errorOf(response);
    if (response.status !== 401 || !askForKey || isRefused) throw error;
    // Many requests find the door locked at once; one question serves them all.
    if (storedKey() === key) {
      asking ??= askForKey(key ? error.message : null).finally(() => { asking = null; });
      const given = await asking;
      if (given === null) {
        isRefused = true;
        throw error;
      }
    }
  }
}

/** As `call`, and reads JSON. */
export async function json(path, options) {
  const response = await call(path, options);
  return response.json();
}

/** What an answer that is no success says. */
export async function errorOf(response) {
  const requestId = response.headers.get("x-request-id");
  const after = Number(response.headers.get("retry-after"));
  const retryAfter = after > 0 ? after : null;
  let said = {};
  if ((response.headers.get("content-type") ?? "").includes("json")) said = await response.json().catch(() => ({}));
  const message = typeof said.message === "string" ? said.message : `the server answered ${response.status} ${response.statusText}`.trim();
  const path = typeof said.path === "string" ? said.path : null;
  return new ApiError(message, { status: response.status, code: said.code ?? "", path, retryAfter, requestId: said.request_id ?? requestId });
}

const layer = (id) => `layers/${encodeURIComponent(id)}`;

/** What the operator chose for the page: `{basemap: {url, attribution} | null, version}`. */
export const settings = () => json("web/settings.json");
export const products = (signal) => json("catalog/products", { signal });
export const scenes = (id, query, signal) => json(`catalog/products/${encodeURIComponent(id)}/scenes`, { query, signal });
export const colormaps = () => json("colormaps");
/** Keeps a graft; promises its layer id. */
export const postLayer = async (graft, signal) => (await json("layers/", { method: "POST", body: { graft }, signal })).layer_id;
export const layerInfo = (id, signal) => json(layer(id), { signal });
export const statistics = (id, signal) => json(`${layer(id)}/statistics`, { signal });
/** The values of the pixel that a tile of a zoom level shows at a place. */
export const value = (id, { lon, lat, z }, signal) => json(`${layer(id)}/value`, { query: { lon, lat, z }, signal });
/** The pixels of an area, as a `Response` whose body has the form asked for. */
export const area = (id, body, accept, signal) => call(`${layer(id)}/aoi`, { method: "POST", body, accept, signal });

/** How a layer is drawn, as the query of its tiles. */
export function tileQuery(style) {
  if (style.classes) return { scales: "[]", classes: JSON.stringify(style.classes), ...chequered(style) };
  const stretch = style.scales ? { scales: JSON.stringify(style.scales) } : { stretch: "layer" };
  return { ...stretch, ...(style.colormap ? { colormap: style.colormap } : {}), ...chequered(style) };
}

function chequered(style) {
  return style.checkerboard ? { checkerboard: "true" } : {};
}

/** The address of one tile. */
export function tileAddress(id, { x, y, z }, style, isDense) {
  return address(`${layer(id)}/tile/${z}/${x}/${y}${isDense ? "@2x" : ""}.png`, tileQuery(style));
}

/** Addresses for other programs: `xyz` with `{z}/{x}/{y}` left open, `wmts` and `tilejson` as they are. */
export function shared(id, style) {
  const xyz = address(`${layer(id)}/tile/0/0/0.png`, tileQuery(style)).replace("/tile/0/0/0.png", "/tile/{z}/{x}/{y}.png");
  return { xyz, wmts: address(`${layer(id)}/wmts`, tileQuery(style)), tilejson: address(`${layer(id)}/tilejson.json`, tileQuery(style)) };
}
