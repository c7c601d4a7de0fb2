// The dates of a product: bars of images through time under two handles.

import { h, svg } from "./dom.js";
import { bars, binned, count, day } from "./numbers.js";
import { rangeSlider } from "./range.js";

const DAY = 86_400_000;
const BINS = 64;

/** A picture of dates without handles, for the list. */
export function sparkline(instants, span) {
  return picture(binned(instants, span, BINS));
}

function picture(counts) {
  const d = bars(counts).map((share, at) => (share > 0 ? `M${at * 4} 24v${(-Math.max(2, share * 22)).toFixed(1)}h3v${Math.max(2, share * 22).toFixed(1)}z` : "")).join("");
  return svg("svg", { class: "histogram", viewBox: `0 0 ${BINS * 4} 24`, preserveAspectRatio: "none", "aria-hidden": "true" }, svg("path", { class: "bars dates", d }));
}

/**
 * `{element, range()}`: `range()` is `[from, until]` as days, `until` not included, or null for all dates.
 * `change()` hears of another choice.
 */
export function timeline(instants, change) {
  const first = Math.floor(Math.min(...instants) / DAY) * DAY;
  const last = Math.floor(Math.max(...instants) / DAY) * DAY + DAY;
  const span = [first, last];
  let chosen = span;
  const label = h("span", { class: "hint" });
  const slider = rangeSlider({
    names: [() => "First date", () => "Last date"],
    text: (value) => day(value),
    steps: () => ({ small: DAY, gap: DAY }),
    picture: sparkline(instants, span),
    change: (values, isLast) => {
      chosen = values.map((value) => Math.round(value / DAY) * DAY);
      write();
      if (isLast) change();
    },
  });
  function write() {
    const inside = instants.filter((instant) => instant >= chosen[0] && instant < chosen[1]).length;
    label.textContent = `${day(chosen[0])} to ${day(chosen[1] - DAY)}, ${count(inside)} ${inside === 1 ? "image" : "images"}`;
  }
  slider.set(span, span);
  write();
  const range = () => (chosen[0] <= first && chosen[1] >= last ? null : [day(chosen[0]), day(chosen[1])]);
  return { element: h("div", { class: "timeline" }, slider.element, label), range };
}
