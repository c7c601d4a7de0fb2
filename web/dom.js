// Elements made from data. Text only ever becomes text: nothing here, or anywhere on this page, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `props`: `class`, `text`, `css` (style properties), `data`, `on` (listeners), DOM properties
 * such as `value` and `hidden`; anything else is an attribute. `null`, `undefined` and `false` leave an
 * attribute away. Children are nodes and strings.
 */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element, as `h`. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "textContent", "readOnly", "open", "inert"]);

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name === "text") element.textContent = value;
    else if (name === "css") for (const [key, to] of Object.entries(value)) element.style.setProperty(key, to);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replaces an element's children. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Outlines on a grid of 24 by 24.
const ICONS = {
  layers: "M12 3 2.5 8 12 13l9.5-5zM4 12.2 12 16.5l8-4.3M4 16.2l8 4.3 8-4.3",
  data: "M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zM4 6v6c0 1.7 3.6 3 8 3s8-1.3 8-3V6M4 12v6c0 1.7 3.6 3 8 3s8-1.3 8-3v-6",
  area: "M5 8.5 12 3l8 6-3 11H6zM5 8.5h.01M12 3h.01M20 9h.01M17 20h.01M6 20h.01",
  eye: "M2 12s3.6-6.5 10-6.5S22 12 22 12s-3.6 6.5-10 6.5S2 12 2 12zM12 9.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6z",
  hidden: "M4 4l16 16M9.6 5.8A10 10 0 0 1 12 5.5c6.4 0 10 6.5 10 6.5a17 17 0 0 1-3.3 3.9M6.3 7.7A16 16 0 0 0 2 12s3.6 6.5 10 6.5a10 10 0 0 0 4-.8",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  down: "M6 9.5l6 6 6-6",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  link: "M10 14a4 4 0 0 0 5.7 0l3.5-3.5a4 4 0 0 0-5.7-5.7L12 6.3M14 10a4 4 0 0 0-5.7 0l-3.5 3.5a4 4 0 0 0 5.7 5.7l1.5-1.5",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  auto: "M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17",
  code: "M8.5 7 3.5 12l5 5M15.5 7l5 5-5 5",
  target: "M12 2.5v4M12 17.5v4M2.5 12h4M17.5 12h4M12 7a5 5 0 1 1 0 10 5 5 0 0 1 0-10z",
  rectangle: "M5 6.5h14v11H5z",
  polygon: "M5 9l7-5 7.5 5.5L16 20H7.5z",
  download: "M12 4v11M7 10.5l5 5 5-5M4.5 20h15",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.5 10.5v6M13.5 10.5v6",
  copy: "M9 9h10.5v11H9zM15 9V4.5H4.5V16H9",
  calendar: "M4.5 6h15v14h-15zM4.5 10h15M8.5 3.5V7M15.5 3.5V7",
  warning: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17h.01",
  search: "M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13zM15.5 15.5l5 5",
  key: "M8 10.5a4.5 4.5 0 1 1 0 6.5 4.5 4.5 0 0 1 0-6.5zM14.5 10 21 3.5M17.5 6.5l2.5 2.5",
};

/** A small picture beside or instead of a word; hidden from screen readers, so the button needs a label. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", width: 18, height: 18, "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name] }),
  );
}

/** A button with an icon alone. */
export function iconButton(name, label, onclick, props = {}) {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, on: { click: onclick }, ...props }, icon(name));
}

/** A button with words. */
export function button(label, onclick, props = {}) {
  return h("button", { type: "button", class: "button", on: { click: onclick }, ...props }, label);
}

/** Calls `f` once things have been quiet for so many milliseconds. */
export function debounce(f, milliseconds) {
  let timer = 0;
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), milliseconds);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

let ids = 0;
/** A fresh id, for labels. */
export function freshId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}
