// What belongs to the page rather than to the map: tabs, the sheet of narrow screens, colours, messages, the key.

import { keepKey } from "./api.js";
import { icon, iconButton } from "./dom.js";

const $ = (id) => document.getElementById(id);

/** Tabs that arrows walk through; `{select(name)}`. */
export function tabs(...buttons) {
  function select(chosen, isFocused = false) {
    for (const tab of buttons) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      $(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    if (isFocused) chosen.focus();
  }
  buttons.forEach((tab, at) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      select(buttons[(to + buttons.length) % buttons.length], true);
    });
  });
  return { select: (name) => select($(`tab-${name}`)) };
}

const HEIGHTS = ["peek", "half", "full"];

/** The panel as a sheet at the bottom, on narrow screens: dragged or stepped through three heights. */
export function sheet(panel, handle) {
  const narrow = window.matchMedia("(max-width: 700px)");
  const set = (height) => { panel.dataset.sheet = height; };
  const now = () => HEIGHTS.indexOf(panel.dataset.sheet);
  let dragged = false;
  handle.addEventListener("click", () => {
    if (!dragged) set(HEIGHTS[(now() + 1) % HEIGHTS.length]);
    dragged = false;
  });
  handle.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    set(HEIGHTS[Math.min(HEIGHTS.length - 1, Math.max(0, now() + by))]);
  });
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    const from = event.clientY;
    const tall = panel.offsetHeight;
    dragged = false;
    const follow = ({ clientY }) => {
      if (Math.abs(clientY - from) > 4) dragged = true;
      if (dragged) panel.style.height = `${Math.min(window.innerHeight - 8, Math.max(90, tall + from - clientY))}px`;
    };
    const end = () => {
      handle.removeEventListener("pointermove", follow);
      const share = panel.offsetHeight / window.innerHeight;
      panel.style.height = "";
      if (dragged) set(share < 0.3 ? "peek" : share < 0.72 ? "half" : "full");
    };
    handle.addEventListener("pointermove", follow);
    handle.addEventListener("lostpointercapture", end, { once: true });
  });
  return { set, isNarrow: () => narrow.matches };
}

const THEMES = { auto: "System colours", light: "Light colours", dark: "Dark colours" };
const PICTURES = { auto: "auto", light: "sun", dark: "moon" };

/** A button that steps through the colours of the system, light and dark. */
export function themeButton(changed) {
  const now = () => document.documentElement.dataset.theme ?? "auto";
  const toggle = iconButton("auto", "", () => {
    const names = Object.keys(THEMES);
    set(names[(names.indexOf(now()) + 1) % names.length]);
  }, { id: "theme" });
  function set(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    try {
      if (name === "auto") localStorage.removeItem("graticule-theme");
      else localStorage.setItem("graticule-theme", name);
    } catch {
      // The choice lasts as long as the page.
    }
    tell();
  }
  function tell() {
    const label = `${THEMES[now()]}; change`;
    toggle.setAttribute("aria-label", label);
    toggle.title = label;
    toggle.replaceChildren(icon(PICTURES[now()]));
    changed();
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  tell();
  return toggle;
}

let toastTimer = 0;

/** Says something in passing. */
export function say(text) {
  const toast = $("toast");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => toast.classList.remove("shown"), Math.max(3000, text.length * 70));
}

/** Copies a text; `said` is the message. */
export async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without a secure context there is no clipboard, but there is still the old way.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    if (!isCopied) {
      say(text);
      return;
    }
  }
  say(said);
}

/** Asks for a key; `reason` says what was wrong with the last. Promises the key, or null. */
export function askForKey(reason) {
  const dialog = $("key");
  const input = $("key-input");
  const error = $("key-error");
  error.hidden = !reason;
  error.textContent = reason ?? "";
  input.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const stop = new AbortController();
    const end = (key) => {
      stop.abort();
      keepKey(key);
      if (dialog.open) dialog.close();
      resolve(key);
    };
    dialog.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = input.value.trim().replace(/^Bearer\s+/i, "");
      if (key !== "") end(key);
    }, { signal: stop.signal });
    $("key-cancel").addEventListener("click", () => end(null), { signal: stop.signal });
    dialog.addEventListener("close", () => end(null), { signal: stop.signal });
  });
}
