// Ready-made expressions: grafts filled in from what the catalog says of a product. Pure.
//
// A template gives `{name, graft, style}` or null where the product lacks what it needs. `style` is what a
// layer begins with: `colormap`, `scales` (null: the server's stretch of the whole layer), `classes`, `unit`.

/** Bands of a product by what they show: common names first, then the names people give them. */
const ALIASES = {
  red: ["red", "b04", "b4", "sr_b4", "band_4"],
  green: ["green", "b03", "b3", "sr_b3", "band_3"],
  blue: ["blue", "b02", "b2", "sr_b2", "band_2"],
  nir: ["nir", "nir08", "nir09", "near_infrared", "b08", "b8a", "sr_b5"],
};

/** The band that shows `what`, or null. */
export function bandOf(product, what) {
  const common = product.bands.find((band) => same(band.common_name, what));
  if (common) return common;
  const aliases = ALIASES[what] ?? [what];
  for (const alias of aliases) {
    const found = product.bands.find((band) => same(band.common_name, alias) || same(band.name, alias));
    if (found) return found;
  }
  return null;
}

function same(a, b) {
  return typeof a === "string" && a.toLowerCase() === b;
}

const OBSCURED = /cloud|shadow|cirrus|snow|ice\b|fill|no.?data|saturat|defect|dark|obscur|haze|thin|unclassified|outside/i;
const CLEAR = /\b(no|not|free|clear)\b/i;
// Scene classification of Sentinel-2 L2A: no data, saturated, shadows, clouds, cirrus, snow.
const SCL_OBSCURED = [0, 1, 3, 8, 9, 10, 11];
// Bits of QA_PIXEL, Landsat Collection 2: fill, dilated cloud, cirrus, cloud, cloud shadow, snow.
const QA_PIXEL_BITS = [0, 1, 2, 3, 4, 5];

/**
 * How a product tells clouds: `{band, steps}`, where `steps` are those of a graft that give the truth value
 * `obscured` from the step `quality`; null where it does not.
 */
export function cloudMask(product) {
  for (const band of product.bands) {
    const hidden = (band.classes ?? []).filter((entry) => OBSCURED.test(entry.name ?? "") && !CLEAR.test(entry.name ?? ""));
    if (hidden.length > 0 && hidden.length < band.classes.length && isQuality(band)) {
      return { band, steps: listed(hidden.map((entry) => entry.value)) };
    }
  }
  const named = (pattern) => product.bands.find((band) => pattern.test(band.name));
  const fmask = named(/^(fmask|cfmask|oa_fmask)$/i);
  // Fmask: 0 clear land, 1 water, then shadow, snow, cloud and fill.
  if (fmask) return { band: fmask, steps: { water: 1, obscured: ["gt", "quality", "water"] } };
  const scl = named(/^(scl|.*[_-]scl)$/i);
  if (scl) return { band: scl, steps: listed(SCL_OBSCURED) };
  const pixel = named(/^(qa_pixel|pixel_qa|.*[_-]qa_pixel)$/i);
  if (pixel) return { band: pixel, steps: bits(QA_PIXEL_BITS) };
  return null;
}

// Land cover has classes called snow, too.
function isQuality(band) {
  return /mask|scl|qa|qual|class|cloud|scene/i.test(`${band.name} ${band.common_name ?? ""}`);
}

function listed(values) {
  return { hidden_classes: [values], obscured: ["isin", "quality", "hidden_classes"] };
}

function bits(positions) {
  const steps = {};
  let before = null;
  for (const position of positions) {
    steps[`bit_${position}`] = position;
    steps[`is_${position}`] = ["bit", "quality", `bit_${position}`];
    const name = position === positions.at(-1) ? "obscured" : `any_${position}`;
    if (before !== null) steps[name] = ["or", before, `is_${position}`];
    before = before === null ? `is_${position}` : name;
  }
  return steps;
}

function elevationOf(product) {
  const known = /^(elevation|dem|dtm|dsm|height|altitude|z)$/i;
  const named = product.bands.find((band) => known.test(band.common_name ?? "") || known.test(band.name));
  if (named) return named;
  const isTerrain = /\b(dem|dtm|dsm|elevation|srtm|terrain)\b/i.test(`${product.id} ${product.title ?? ""}`.replaceAll(/[-_]/g, " "));
  return isTerrain && product.bands.length === 1 ? product.bands[0] : null;
}

/** The first members of a graft on a product: what people change. */
function head(product, bands, range) {
  return { product: product.id, bands: names(bands), ...dates(range) };
}

// Names with a blank between them; a name that has one itself makes it a list in JSON.
function names(bands) {
  const all = bands.map((band) => band.name);
  return all.some((name) => /[\s"[\]]/.test(name)) ? JSON.stringify(all) : all.join(" ");
}

function dates(range) {
  return range ? { from: range[0], until: range[1] } : {};
}

function within(range) {
  return range ? [{ start_datetime: "from", end_datetime: "until" }] : [];
}

// A product id, a band or a class may be called as a step is; only keys and arguments are names, so that values
// never collide with steps. What could is a step with the name of an op: none of those below is one.

function trueColour(product, range) {
  const bands = ["red", "green", "blue"].map((what) => bandOf(product, what));
  if (bands.includes(null) || new Set(bands).size < 3) return null;
  return {
    name: "True colour",
    graft: { ...head(product, bands, range), picture: ["mosaic", "product", "bands", ...within(range)], returns: "picture" },
    style: {},
  };
}

const NDVI_STYLE = { colormap: "RdYlGn", scales: [[0, 1]], unit: "" };

function ndvi(product, range) {
  const [red, near] = [bandOf(product, "red"), bandOf(product, "nir")];
  if (!red || !near) return null;
  return {
    name: "NDVI",
    graft: {
      ...head(product, [red, near], range),
      image: ["mosaic", "product", "bands", ...within(range)],
      nir_band: names([near]),
      red_band: names([red]),
      nir: ["pick_bands", "image", "nir_band"],
      red: ["pick_bands", "image", "red_band"],
      ratio: ["normalized_difference", "nir", "red"],
      ndvi_name: "ndvi",
      ndvi: ["rename_bands", "ratio", "ndvi_name"],
      returns: "ndvi",
    },
    style: NDVI_STYLE,
  };
}

function stack(product, bands, range) {
  return {
    ...head(product, bands, range),
    scenes: ["select_scenes", "product", "bands", ...within(range)],
    nearest: "near",
    stack: ["stack_scenes", "scenes", "bands", { resampler: "nearest" }],
  };
}

function ndviMedian(product, range) {
  const [red, near, clouds] = [bandOf(product, "red"), bandOf(product, "nir"), cloudMask(product)];
  if (!red || !near || !clouds || !isSeries(product)) return null;
  return {
    name: "NDVI median, clouds masked",
    graft: {
      ...stack(product, [red, near, clouds.band], range),
      red_band: names([red]),
      nir_band: names([near]),
      quality_band: names([clouds.band]),
      red: ["pick_bands", "stack", "red_band"],
      nir: ["pick_bands", "stack", "nir_band"],
      quality: ["pick_bands", "stack", "quality_band"],
      ...clouds.steps,
      ratio: ["normalized_difference", "nir", "red"],
      clear: ["mask", "ratio", "obscured"],
      axis: "images",
      middle: ["median", "clear", "axis"],
      ndvi_name: "ndvi",
      ndvi: ["rename_bands", "middle", "ndvi_name"],
      returns: "ndvi",
    },
    style: NDVI_STYLE,
  };
}

function cloudFree(product, range) {
  const bands = ["red", "green", "blue"].map((what) => bandOf(product, what));
  const clouds = cloudMask(product);
  if (bands.includes(null) || new Set(bands).size < 3 || !clouds || !isSeries(product)) return null;
  return {
    name: "True colour median, clouds masked",
    graft: {
      ...stack(product, [...bands, clouds.band], range),
      colour_bands: names(bands),
      quality_band: names([clouds.band]),
      colour: ["pick_bands", "stack", "colour_bands"],
      quality: ["pick_bands", "stack", "quality_band"],
      ...clouds.steps,
      clear: ["mask", "colour", "obscured"],
      axis: "images",
      picture: ["median", "clear", "axis"],
      returns: "picture",
    },
    style: {},
  };
}

function clearDates(product, range) {
  const clouds = cloudMask(product);
  if (!clouds || !isSeries(product)) return null;
  return {
    name: "Number of clear dates",
    graft: {
      ...stack(product, [clouds.band], range),
      quality: ["pick_bands", "stack", "bands"],
      ...clouds.steps,
      clear: ["mask", "quality", "obscured"],
      axis: "images",
      counted: ["count", "clear", "axis"],
      dates_name: "clear_dates",
      dates: ["rename_bands", "counted", "dates_name"],
      returns: "dates",
    },
    style: { colormap: "viridis", unit: "dates" },
  };
}

function slope(product, range) {
  const band = elevationOf(product);
  if (!band) return null;
  return {
    name: "Slope",
    graft: {
      ...head(product, [band], range),
      // Neighbours beyond the edge of what is asked for: without them the edge has no slope.
      edge: 1,
      elevation: ["mosaic", "product", "bands", { ...(within(range)[0] ?? {}), pad: "edge" }],
      steepness: ["slope", "elevation"],
      slope_name: "slope",
      slope_in_degrees: ["rename_bands", "steepness", "slope_name"],
      returns: "slope_in_degrees",
    },
    style: { colormap: "magma", unit: "°" },
  };
}

/** One band as it is; in the colours of its classes where it has some. */
export function singleBand(product, band, range) {
  const classes = band.classes ?? [];
  const isClassed = classes.length > 0 && classes.length <= CLASSES_MAX;
  return {
    name: band.name,
    graft: { ...head(product, [band], range), image: ["mosaic", "product", "bands", ...within(range)], returns: "image" },
    style: {
      ...(elevationOf(product) === band ? { colormap: "terrain" } : {}),
      ...(isClassed ? { classes: coloured(classes) } : {}),
      unit: band.unit ?? "",
    },
  };
}

// The server's bound on classes of a style.
const CLASSES_MAX = 256;

// Twelve hues that are told apart, for classes that bring no colour.
const PALETTE = [
  "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#bab0ac", "#86bcb6", "#d37295",
];

// What classes are often called, and the colours that one expects of them.
const EXPECTED = [
  [/shadow|dark/i, "#57534e"],
  [/cirrus|thin/i, "#c9d3de"],
  [/cloud/i, "#f1f3f5"],
  [/snow|ice\b/i, "#9fe3f2"],
  [/water|ocean|lake/i, "#3f78b5"],
  [/fill|no.?data|outside|unclassified/i, "#26292c"],
  [/forest|tree|wood/i, "#2f7d4f"],
  [/vegetation|grass|crop|pasture/i, "#7fb05b"],
  [/urban|developed|built/i, "#c05b4d"],
  [/clear|land|soil|bare/i, "#c8b486"],
];

function expected(name) {
  return EXPECTED.find(([pattern]) => pattern.test(name ?? "") && !/not/i.test(name))?.[1] ?? null;
}

/** Classes as the server draws them: each with a value, a name and a colour. */
export function coloured(classes) {
  // Where some classes bring colours, these are one another's company.
  const hasOwn = classes.some((entry) => colour(entry.color) !== null);
  return classes.map((entry, at) => ({
    value: entry.value,
    name: entry.name ?? String(entry.value),
    color: colour(entry.color) ?? (hasOwn ? null : expected(entry.name)) ?? PALETTE[at % PALETTE.length],
  }));
}

function colour(given) {
  if (Array.isArray(given) && given.length >= 3) {
    return `#${given.slice(0, 3).map((part) => Math.min(255, Math.max(0, Math.round(part))).toString(16).padStart(2, "0")).join("")}`;
  }
  if (typeof given === "string" && /^#?[0-9a-f]{6}$/i.test(given)) return `#${given.replace("#", "").toLowerCase()}`;
  return null;
}

function isSeries(product) {
  return (product.scenes ?? 0) > 1;
}

/** Every template that fits a product, the best first; bands one by one are not among them. */
export function templatesFor(product, range = null) {
  const makers = [trueColour, cloudFree, ndvi, ndviMedian, clearDates, slope];
  return makers.map((make) => make(product, range)).filter((template) => template !== null);
}

/**
 * What to show who comes for the first time: `{product, template}` of the product that has most to show, or
 * null without products. A masked median of a series comes first, then colours, an index, terrain, any band.
 */
export function firstLook(products) {
  const looks = [ndviMedian, cloudFree, trueColour, ndvi, slope, (product) => product.bands.length > 0 && singleBand(product, product.bands[0], null)];
  for (const look of looks) {
    const fitting = products
      .filter((product) => product.footprint && (product.scenes ?? 0) > 0)
      .map((product) => ({ product, template: look(product, null) }))
      .filter((found) => found.template);
    fitting.sort((a, b) => b.product.scenes - a.product.scenes || (a.product.id < b.product.id ? -1 : 1));
    if (fitting.length > 0) return fitting[0];
  }
  return null;
}
