// Numbers for people, and the arithmetic of sliders. Pure.

/** A number with as many digits as a range of such an extent makes sense of. */
export function show(value, extent = Math.abs(value)) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "no value";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-5) return value.toExponential(2);
  const digits = Math.min(8, Math.max(0, 3 - Math.ceil(Math.log10(extent > 0 ? extent : size))));
  const text = value.toFixed(digits);
  return Number(text) === 0 ? "0" : minus(group(text.includes(".") ? text.replace(/\.?0+$/, "") : text));
}

/** A value under the mouse: six significant digits, no exponent where that is readable. */
export function exact(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "no data";
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e9 || size < 1e-4)) return minus(value.toExponential(4));
  return minus(String(Number(value.toPrecision(6))));
}

/** A whole number with thin spaces between thousands. */
export function count(value) {
  return group(String(Math.round(value)));
}

// Four digits stay together: years and most counts.
function group(text) {
  const [whole, part] = text.split(".");
  const grouped = whole.replace("-", "").length > 4 ? whole.replaceAll(/\B(?=(\d{3})+$)/g, "\u2009") : whole;
  return part === undefined ? grouped : `${grouped}.${part}`;
}

function minus(text) {
  return text.replace("-", "\u2212");
}

/** What somebody typed as a number, or null. */
export function parse(text) {
  const plain = text.trim().replaceAll(/[\u2009\u00a0 ]/g, "").replace("\u2212", "-").replace(",", ".");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain)) return null;
  const value = Number(plain);
  return Number.isFinite(value) ? value : null;
}

/** A round step of about a hundredth of a range, for arrow keys. */
export function step(low, high) {
  const raw = (high - low) / 100;
  if (!(raw > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const lead = raw / power;
  return (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10) * power;
}

/** A value on the lattice of a step, without the noise of binary fractions. */
export function snap(value, by) {
  const digits = Math.max(0, Math.min(15, 1 - Math.floor(Math.log10(by))));
  return Number((Math.round(value / by) * by).toFixed(digits));
}

/**
 * Moves one of two handles (0 the lower, 1 the upper) to a value: both stay within `[low, high]`, and the lower
 * stays below the upper by at least `gap`.
 */
export function moved([from, to], handle, value, [low, high], gap) {
  if (handle === 0) return [Math.min(Math.max(value, low), to - gap), to];
  return [from, Math.max(Math.min(value, high), from + gap)];
}

/** What a slider covers: the data, and what is chosen where that lies beyond. */
export function domain(edges, chosen) {
  let [low, high] = [Math.min(edges[0], chosen[0]), Math.max(edges[1], chosen[1])];
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  return [low, high];
}

/** Bars of a histogram from 0 to 1: square roots, so that rare values are seen beside common ones. */
export function bars(counts) {
  const most = Math.max(1, ...counts);
  return counts.map((entry) => Math.sqrt(entry / most));
}

/** How many instants fall into each of `bins` equal parts of `[first, last]`. */
export function binned(instants, [first, last], bins) {
  const counts = new Array(bins).fill(0);
  const width = Math.max(1, last - first);
  for (const instant of instants) {
    const at = Math.floor(((instant - first) / width) * bins);
    if (at >= 0 && at <= bins) counts[Math.min(at, bins - 1)] += 1;
  }
  return counts;
}

/** A day as `2008-04-19`. */
export function day(instant) {
  return new Date(instant).toISOString().slice(0, 10);
}
