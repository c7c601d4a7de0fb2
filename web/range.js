// A slider with two handles over a picture: the stretch of a band, the dates of a product. Handles are
// sliders to the keyboard and to screen readers: arrows, Shift for ten steps, Page keys, Home and End.

import { h } from "./dom.js";
import { moved, snap } from "./numbers.js";

/**
 * `{element, set(values, limits)}`. `names`, functions, label the handles, `text(value)` says a value, `steps()` gives
 * `{small, gap}`, `change(values, isLast)` hears of each move, and once more when a drag ends.
 */
export function rangeSlider({ names, text, steps, change, picture }) {
  let values = [0, 1];
  let limits = [0, 1];
  const handles = names.map((_, at) => h("div", {
    class: "handle", role: "slider", tabindex: 0, "aria-orientation": "horizontal",
    on: { keydown: (event) => onKey(event, at) },
  }));
  const chosen = h("div", { class: "chosen" });
  const element = h("div", { class: "range", on: { pointerdown: onPointer } }, picture, chosen, handles);

  const share = (value) => (limits[1] > limits[0] ? Math.min(1, Math.max(0, (value - limits[0]) / (limits[1] - limits[0]))) : 0);

  function draw() {
    handles.forEach((handle, at) => {
      handle.style.setProperty("--at", share(values[at]));
      handle.setAttribute("aria-label", names[at]());
      handle.setAttribute("aria-valuemin", at === 0 ? limits[0] : values[0]);
      handle.setAttribute("aria-valuemax", at === 0 ? values[1] : limits[1]);
      handle.setAttribute("aria-valuenow", values[at]);
      handle.setAttribute("aria-valuetext", text(values[at]));
    });
    chosen.style.setProperty("--from", share(values[0]));
    chosen.style.setProperty("--to", share(values[1]));
  }

  function move(at, value, isLast) {
    const { small, gap } = steps();
    const next = moved(values, at, snap(value, small / 10), limits, gap);
    if (next[0] === values[0] && next[1] === values[1] && !isLast) return;
    values = next;
    draw();
    change(values, isLast);
  }

  function onKey(event, at) {
    const { small } = steps();
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    let to = null;
    if (by !== undefined) to = values[at] + by * small * (event.shiftKey ? 10 : 1);
    else if (event.key === "Home") to = limits[0];
    else if (event.key === "End") to = limits[1];
    if (to === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    move(at, to, true);
  }

  function onPointer(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const box = element.getBoundingClientRect();
    const valueAt = ({ clientX }) => limits[0] + ((clientX - box.left) / box.width) * (limits[1] - limits[0]);
    const from = valueAt(event);
    let at = handles.indexOf(event.target);
    // Beside the handles, the nearer one comes; where both stand together, the one on that side.
    if (at < 0) at = Math.abs(from - values[0]) < Math.abs(from - values[1]) || (values[0] === values[1] && from < values[0]) ? 0 : 1;
    handles[at].focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    const drag = (moving) => move(at, valueAt(moving), false);
    const end = (ending) => {
      element.removeEventListener("pointermove", drag);
      element.removeEventListener("pointerup", end);
      element.removeEventListener("pointercancel", end);
      move(at, valueAt(ending), true);
    };
    element.addEventListener("pointermove", drag);
    element.addEventListener("pointerup", end);
    element.addEventListener("pointercancel", end);
    if (!handles.includes(event.target)) drag(event);
  }

  function set(nextValues, nextLimits) {
    [values, limits] = [[...nextValues], [...nextLimits]];
    draw();
  }

  return { element, set };
}
