// The expression editor: a plain text area over a coloured copy of its text. Mistakes are marked where they are,
// those of JSON while one writes, those of the graft when the server has read it.

import * as api from "./api.js";
import { h, put, iconButton, button } from "./dom.js";
import { format, lineOf, locate, read, tokens } from "./json.js";
import { firstLook, templatesFor } from "./templates.js";

const isMac = /Mac|iPhone|iPad/.test(navigator.platform ?? "");

/** The editor of one layer at a time. `actions`: `products()`, `apply(layer, {graft, id, info})`, `closed()`. */
export class Editor {
  constructor(actions) {
    this.actions = actions;
    this.layer = null;
    this.error = null;
    this.gutter = h("div", { class: "gutter", "aria-hidden": "true" });
    this.paint = h("pre", { class: "paint", "aria-hidden": "true" });
    this.area = h("textarea", {
      class: "code", spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off",
      "aria-label": "Expression, a graft in JSON", "aria-describedby": "editor-message", rows: 1,
      on: { input: () => this.#changed(), scroll: () => this.#scroll(), keydown: (event) => this.#key(event) },
    });
    this.message = h("div", { id: "editor-message", class: "notice", "aria-live": "polite" });
    this.name = h("input", { type: "text", class: "name-input", "aria-label": "Name of the layer", maxlength: 200 });
    this.ready = h("select", { "aria-label": "Ready-made expression", on: { change: () => this.#insert() } });
    this.apply = h("button", { type: "button", class: "button primary", on: { click: () => this.submit() } }, "Apply", h("kbd", { text: isMac ? "⌘ Enter" : "Ctrl Enter" }));
    this.element = h("section", { class: "editor", hidden: true, "aria-label": "Expression editor", on: { keydown: (event) => event.key === "Escape" && this.close() } },
      h("div", { class: "row" }, iconButton("back", "Back to the layers", () => this.close()), this.name),
      h("div", { class: "field" }, this.ready),
      h("div", { class: "code-box" }, this.gutter, h("div", { class: "code-hold" }, this.paint, this.area)),
      this.message,
      h("div", { class: "row spread" },
        h("span", { class: "hint" }, "Every key is a step; the arguments of a step are the names of others."),
        h("span", { class: "row" }, button("Tidy", () => this.#tidy(), { title: "One step a line" }), this.apply)));
  }

  /** Opens the editor on a layer; `error` is the server's, where its graft was refused. */
  open(layer) {
    this.layer = layer;
    this.name.value = layer.name;
    this.#fillReady();
    this.element.hidden = false;
    // What was written and not applied is still there.
    this.set(layer.draft ?? layer.graft);
    if (layer.error && layer.draft === null) this.#fail(layer.error);
    this.area.focus({ preventScroll: true });
    this.area.setSelectionRange(0, 0);
    this.area.scrollTop = this.area.scrollLeft = 0;
    this.#scroll();
  }

  close() {
    if (this.element.hidden) return;
    this.running?.abort();
    this.element.hidden = true;
    const { layer } = this;
    layer.draft = this.area.value === layer.graft ? null : this.area.value;
    this.layer = null;
    this.actions.closed(layer);
  }

  set(text) {
    this.area.value = text;
    this.style = null;
    this.#changed();
  }

  #fillReady() {
    const products = this.actions.products();
    this.choices = [];
    const groups = products.map((product) => {
      const options = templatesFor(product).map((template) => {
        this.choices.push(template);
        return h("option", { value: this.choices.length - 1 }, template.name);
      });
      return options.length > 0 && h("optgroup", { label: product.title || product.id }, options);
    });
    put(this.ready, h("option", { value: "" }, "Ready-made expressions …"), groups);
    this.ready.disabled = this.choices.length === 0;
  }

  #insert() {
    const template = this.choices[Number(this.ready.value)];
    if (this.ready.value === "" || !template) return;
    this.ready.value = "";
    // Through the browser's own editing, so that Undo brings the old text back.
    this.area.focus();
    this.area.select();
    insert(this.area, format(template.graft));
    this.style = template.style;
    this.name.value = template.name;
    this.#changed();
  }

  #tidy() {
    try {
      const text = format(read(this.area.value).value);
      this.area.focus();
      this.area.select();
      insert(this.area, text);
      this.#changed();
    } catch {
      this.area.focus();
    }
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "Enter" && !event.shiftKey && !event.altKey && !event.isComposing) {
      // A new line begins below the one before.
      const { value, selectionStart } = this.area;
      const line = value.slice(value.lastIndexOf("\n", selectionStart - 1) + 1, selectionStart);
      event.preventDefault();
      insert(this.area, `\n${/^[ \t]*/.exec(line)[0]}`);
    }
  }

  // Reads the text at every key: colours, line numbers, the first mistake of JSON.
  #changed() {
    const text = this.area.value;
    this.parsed = null;
    this.error = null;
    try {
      this.parsed = read(text);
    } catch (error) {
      this.error = text.trim() === "" ? { message: "write a graft, or choose a ready-made expression", start: 0, end: 0 } : error;
    }
    this.#draw();
  }

  #draw() {
    const text = this.area.value;
    const { error } = this;
    const lines = text.split("\n").length;
    const wrong = error && error.end > error.start ? lineOf(text, error.start).line : 0;
    if (this.gutter.dataset.state !== `${lines} ${wrong}`) {
      this.gutter.dataset.state = `${lines} ${wrong}`;
      put(this.gutter, Array.from({ length: lines }, (_, at) => h("span", { class: at + 1 === wrong ? "wrong" : null, text: String(at + 1) })));
      this.gutter.style.setProperty("--digits", String(lines).length);
    }
    put(this.paint, colour(text, error), "\n");
    this.area.setAttribute("aria-invalid", String(Boolean(error)));
    this.apply.disabled = this.parsed === null || Boolean(this.running);
    this.message.className = error ? "notice error" : "notice";
    if (!error) put(this.message, this.running ? "Asking the server …" : "\u00a0");
    else if (wrong > 0) {
      const { line, column } = lineOf(text, error.start);
      put(this.message, h("button", { type: "button", class: "link", data: { line }, on: { click: () => this.#go(error) } }, `Line ${line}, column ${column}`), `: ${error.message}`);
    } else put(this.message, error.message);
    this.#scroll();
  }

  #go(error) {
    this.area.focus();
    this.area.setSelectionRange(error.start, error.end);
    const { line } = lineOf(this.area.value, error.start);
    this.area.scrollTop = Math.max(0, (line - 3) * 20);
  }

  #scroll() {
    this.paint.scrollTop = this.gutter.scrollTop = this.area.scrollTop;
    this.paint.scrollLeft = this.area.scrollLeft;
  }

  // The server's error, at the place of the text that its JSON pointer means.
  #fail(error) {
    const place = error.path !== null && this.parsed ? locate(this.parsed.places, error.path) : { start: 0, end: 0 };
    this.error = { message: error.message, start: place.start, end: place.end };
    this.#draw();
    // Brings the place into view without taking the caret away from where one writes.
    if (place.end > place.start) {
      const top = (lineOf(this.area.value, place.start).line - 1) * 20;
      if (top < this.area.scrollTop || top > this.area.scrollTop + this.area.clientHeight - 40) this.area.scrollTop = Math.max(0, top - 60);
      this.#scroll();
    }
  }

  /** Sends the graft to the server; what it takes is shown on the map. */
  async submit() {
    if (!this.parsed || !this.layer) return;
    const { layer, style } = this;
    const text = this.area.value;
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    this.#draw();
    try {
      const id = await api.postLayer(this.parsed.value, running.signal);
      const info = await api.layerInfo(id, running.signal);
      if (this.layer !== layer) return;
      this.running = null;
      this.#draw();
      this.actions.apply(layer, { name: this.name.value.trim() || layer.name, graft: text, id, info, style });
      put(this.message, h("span", { class: "good", text: "Applied." }));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.running = null;
      if (this.layer === layer) this.#fail(error);
    } finally {
      if (this.running === running) this.running = null;
    }
  }
}

// What a text area inserts itself can be undone; `execCommand` is old, and alone in that.
function insert(area, text) {
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input"));
  }
}

// The text as spans: kinds of tokens, keys apart from values, and the mistake underlined.
function colour(text, error) {
  const spans = [];
  let at = 0;
  const all = tokens(text);
  const isWrong = ({ start, end }) => error && error.end > error.start && start < error.end && end > error.start;
  all.forEach((token, index) => {
    if (token.start > at) spans.push(text.slice(at, token.start));
    const next = all[index + 1];
    const isKey = token.kind === "string" && next && text[next.start] === ":";
    const kind = isKey ? "key" : token.kind;
    spans.push(h("span", { class: `t-${kind}${isWrong(token) ? " wrong" : ""}` }, text.slice(token.start, token.end)));
    at = token.end;
  });
  spans.push(text.slice(at));
  return spans;
}

/** A graft to begin with, where nothing is chosen yet. */
export function beginning(products) {
  const look = firstLook(products);
  return look ? format(look.template.graft) : '{\n  "product": "",\n  "bands": "",\n  "image": ["mosaic", "product", "bands"],\n  "returns": "image"\n}';
}

