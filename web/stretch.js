// Stretch sliders: for each band a histogram of the whole layer under two handles.

import { colorsOf } from "./colormaps.js";
import { h, svg, button, debounce, freshId } from "./dom.js";
import { bars, domain, parse, show, step } from "./numbers.js";
import { rangeSlider } from "./range.js";

const BAND_COLORS = ["var(--red)", "var(--green)", "var(--blue)"];

/** The stretch a layer is drawn with: the chosen one, else the server's for the whole layer; null unknown yet. */
export function scalesOf(layer) {
  const { style, statistics } = layer;
  const count = statistics?.bands?.length ?? layer.info?.bands?.length ?? 1;
  if (style.scales) return style.scales.length === count ? style.scales : new Array(count).fill(style.scales[0]);
  if (!statistics) return null;
  return statistics.bands.map(usual);
}

function usual(band) {
  const [low, high] = [band.percentiles?.["2"], band.percentiles?.["98"]];
  if (Number.isFinite(low) && Number.isFinite(high) && low < high) return [low, high];
  if (Number.isFinite(band.min) && Number.isFinite(band.max) && band.min < band.max) return [band.min, band.max];
  return [0, 1];
}

/** The sliders of a layer; `change(scales | null)` hears of a new stretch, null is the server's. */
export function stretchPanel(layer, change) {
  const rows = h("div", { class: "stretches" });
  const auto = button("2 to 98 %", () => change(null), { title: "As the server stretches the whole layer" });
  const whole = button("Whole range", () => {
    const bands = layer.statistics?.bands ?? [];
    const full = bands.map((band) => (band.min < band.max ? [band.min, band.max] : usual(band)));
    if (full.length > 0) change(full);
  });
  const element = h("div", { class: "field" }, h("div", { class: "row spread" }, h("span", { class: "label", text: "Stretch" }), h("span", { class: "row" }, auto, whole)), rows);
  let built = 0;
  let bands = [];

  function build(count) {
    built = count;
    bands = Array.from({ length: count }, (_, at) => bandRow(layer, at, count, (values) => {
      const next = (scalesOf(layer) ?? []).map((pair) => [...pair]);
      if (!next[at]) return;
      next[at] = values;
      change(next);
    }));
    rows.replaceChildren(...bands.map((band) => band.element));
  }

  function update() {
    const count = layer.statistics?.bands?.length ?? Math.min(3, layer.info?.bands?.length ?? 1);
    if (count !== built) build(count);
    auto.disabled = layer.style.scales === null;
    whole.disabled = !layer.statistics;
    bands.forEach((band) => band.update());
  }

  return { element, update };
}

const WIDTH = 256;
const HEIGHT = 56;

function bandRow(layer, at, count, change) {
  const gradientId = freshId("stretch");
  const stops = svg("linearGradient", { id: gradientId, gradientUnits: "userSpaceOnUse", y1: 0, y2: 0 });
  const path = svg("path", { fill: count === 1 ? `url(#${gradientId})` : BAND_COLORS[at], class: "bars" });
  const picture = svg("svg", { class: "histogram", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("defs", {}, stops), path);
  let limits = [0, 1];
  let drawn = "";
  const band = () => layer.statistics?.bands?.[at] ?? null;
  const name = () => layer.info?.bands?.[at] ?? band()?.name ?? "value";
  // A drag gives a tile request for each position that it rests at, not for each that it passes.
  let pending = null;
  const later = debounce((values) => {
    pending = null;
    change(values);
  }, 140);
  const steps = () => {
    const small = step(...limits);
    return { small, gap: small / 10 };
  };
  const slider = rangeSlider({
    names: [() => `Lowest ${name()} shown`, () => `Highest ${name()} shown`],
    text: (value) => show(value, limits[1] - limits[0]),
    steps,
    picture,
    change: (values) => {
      pending = values;
      write(values);
      colour(values);
      later(values);
    },
  });
  const inputs = ["Lowest", "Highest"].map((end, which) => h("input", {
    type: "text", inputmode: "decimal", class: "number", "aria-label": `${end} value shown`,
    on: { change: (event) => typed(event.target, which), keydown: (event) => event.key === "Enter" && typed(event.target, which) },
  }));
  const label = h("span", { class: count === 1 ? "hint" : `hint band-${at}` });
  const element = h("div", { class: "stretch" }, slider.element, h("div", { class: "row spread" }, inputs[0], label, inputs[1]));

  function typed(input, which) {
    const value = parse(input.value);
    const now = scalesOf(layer)?.[at] ?? [0, 1];
    const next = which === 0 ? [value, now[1]] : [now[0], value];
    const isGood = value !== null && next[0] < next[1];
    input.setAttribute("aria-invalid", String(!isGood));
    if (isGood && (next[0] !== now[0] || next[1] !== now[1])) change(next);
  }

  function write(values) {
    inputs.forEach((input, which) => {
      input.value = show(values[which], limits[1] - limits[0]);
      input.setAttribute("aria-invalid", "false");
    });
  }

  function colour(values) {
    if (count !== 1) return;
    const place = (value) => ((value - limits[0]) / (limits[1] - limits[0])) * WIDTH;
    stops.setAttribute("x1", place(values[0]));
    stops.setAttribute("x2", place(values[1]));
    const colors = colorsOf(layer.style.colormap);
    stops.replaceChildren(...colors.map((color, which) => svg("stop", { offset: which / (colors.length - 1), "stop-color": color })));
  }

  function update() {
    // A handle that is on its way is not set back by what else changes meanwhile.
    const values = pending ?? scalesOf(layer)?.[at] ?? null;
    const known = band();
    element.classList.toggle("waiting", !known || !values);
    element.inert = !values;
    label.textContent = layer.style.unit ? `${name()}, ${layer.style.unit}` : name();
    if (!values) return;
    const edges = histogramOf(known)?.edges ?? values;
    limits = domain(edges, values);
    const histogram = histogramOf(known);
    const key = JSON.stringify([histogram, limits]);
    if (key !== drawn) {
      drawn = key;
      path.setAttribute("d", outline(histogram, limits));
    }
    slider.set(values, limits);
    write(values);
    colour(values);
  }

  return { element, update };
}

// A band without a value has no edges.
function histogramOf(band) {
  const histogram = band?.histogram;
  return histogram?.edges?.every(Number.isFinite) ? histogram : null;
}

function outline(histogram, [low, high]) {
  if (!histogram) return "";
  const place = (value) => ((value - low) / (high - low)) * WIDTH;
  const [from, to] = histogram.edges;
  const width = (to - from) / histogram.counts.length;
  // One value alone has no width.
  if (!(width > 0)) return `M${place(from).toFixed(2)} ${HEIGHT}v${4 - HEIGHT}h2v${HEIGHT - 4}z`;
  return bars(histogram.counts).map((share, at) => {
    const x = place(from + at * width);
    const wide = Math.max(0.8, place(from + (at + 1) * width) - x);
    const tall = share > 0 ? Math.max(1, share * (HEIGHT - 4)) : 0;
    return `M${x.toFixed(2)} ${HEIGHT}v${(-tall).toFixed(2)}h${wide.toFixed(2)}v${tall.toFixed(2)}z`;
  }).join("");
}
