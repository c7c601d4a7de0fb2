// JSON text with its places: tokens to colour, where a JSON pointer points, where a text stops being JSON.
// Pure. Written for texts of some hundred kilobytes that are read again at every key.

const SPACE = /[ \t\n\r]*/y;
const TOKEN = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[[\]{},:]/y;
const JUNK = /"(?:[^"\\\n]|\\.)*"?|[^\s[\]{},:"]+|./suy;

/**
 * The tokens of a text, good or not: `{kind, start, end}` with the kinds `string number word punctuation bad`.
 */
export function tokens(text) {
  const found = [];
  let at = 0;
  for (;;) {
    SPACE.lastIndex = at;
    SPACE.exec(text);
    at = SPACE.lastIndex;
    if (at >= text.length) return found;
    TOKEN.lastIndex = at;
    const start = at;
    if (TOKEN.test(text) && endsWell(text, start, TOKEN.lastIndex)) {
      at = TOKEN.lastIndex;
      found.push({ kind: kindOf(text[start]), start, end: at });
    } else {
      JUNK.lastIndex = start;
      JUNK.test(text);
      at = Math.max(JUNK.lastIndex, start + 1);
      found.push({ kind: "bad", start, end: at });
    }
  }
}

// `12abc`, `nullish` and `"a"b` are not a token and something behind it, but one mistake.
function endsWell(text, start, end) {
  const first = text[start];
  return "[]{},:".includes(first) || end >= text.length || /[\s[\]{},:]/.test(text[end]);
}

function kindOf(first) {
  if (first === '"') return "string";
  if (first === "-" || (first >= "0" && first <= "9")) return "number";
  return "[]{},:".includes(first) ? "punctuation" : "word";
}

/** What is wrong with a text, and from where to where. */
export class JsonError extends Error {
  constructor(message, start, end) {
    super(message);
    Object.assign(this, { start, end });
  }
}

/**
 * Reads a text: `{value, places}`, where `places` maps each JSON pointer (RFC 6901) to
 * `{start, end, key: {start, end} | null}`. Throws a `JsonError` at the first mistake; a key that stands twice
 * in one object is a mistake.
 */
export function read(text) {
  const all = tokens(text);
  const places = new Map();
  let next = 0;
  const end = () => new JsonError("the text ends here, but something is still open", Math.max(text.trimEnd().length - 1, 0), text.length);
  const peek = () => {
    if (next >= all.length) throw end();
    const token = all[next];
    if (token.kind === "bad") throw new JsonError(complaint(text.slice(token.start, token.end)), token.start, token.end);
    return token;
  };
  const is = (token, mark) => token.kind === "punctuation" && text[token.start] === mark;
  const unexpected = (token, wanted) => {
    const what = text.slice(token.start, token.end);
    return new JsonError(`${wanted} should stand here, not ${shorten(what)}`, token.start, token.end);
  };

  // A stack of its own: the depth of a text is the writer's choice.
  const open = [];
  const result = {};
  let put = (value) => { result.value = value; };
  let pointer = "";
  let key = null;
  for (;;) {
    const token = peek();
    next += 1;
    const place = { start: token.start, end: token.end, key };
    places.set(pointer, place);
    key = null;
    if (is(token, "{") || is(token, "[")) {
      const container = is(token, "{") ? {} : [];
      put(container);
      open.push({ container, place, pointer, seen: new Set(), count: 0 });
      const closing = peek();
      if (is(closing, Array.isArray(container) ? "]" : "}")) {
        next += 1;
        place.end = closing.end;
        open.pop();
      } else {
        enter();
        continue;
      }
    } else if (token.kind === "punctuation") {
      throw unexpected(token, "a value");
    } else {
      put(JSON.parse(text.slice(token.start, token.end)));
    }
    // A value is complete: close what ends here, go on with what does not.
    let more = false;
    while (open.length > 0 && !more) {
      const inner = open[open.length - 1];
      const mark = peek();
      const close = Array.isArray(inner.container) ? "]" : "}";
      if (is(mark, ",")) {
        next += 1;
        const after = peek();
        if (is(after, close)) throw new JsonError("nothing follows this comma; take it away", mark.start, mark.end);
        enter();
        more = true;
      } else if (is(mark, close)) {
        next += 1;
        inner.place.end = mark.end;
        open.pop();
      } else {
        throw unexpected(mark, `a comma or ${close}`);
      }
    }
    if (more) continue;
    if (next < all.length) throw unexpected(all[next], "nothing more");
    return { value: result.value, places };
  }

  function enter() {
    const inner = open[open.length - 1];
    const { container } = inner;
    if (Array.isArray(container)) {
      pointer = `${inner.pointer}/${inner.count}`;
      inner.count += 1;
      put = (value) => container.push(value);
      return;
    }
    const name = peek();
    if (name.kind !== "string") throw unexpected(name, "a key in double quotes");
    next += 1;
    const spelled = JSON.parse(text.slice(name.start, name.end));
    if (inner.seen.has(spelled)) throw new JsonError(`the key ${shorten(spelled)} stands here a second time`, name.start, name.end);
    inner.seen.add(spelled);
    const colon = peek();
    if (!is(colon, ":")) throw unexpected(colon, "a colon");
    next += 1;
    key = { start: name.start, end: name.end };
    pointer = `${inner.pointer}/${escape(spelled)}`;
    // `__proto__` is a key like any other.
    put = (value) => Object.defineProperty(container, spelled, { value, enumerable: true, configurable: true, writable: true });
  }
}

function complaint(what) {
  if (what.startsWith('"')) return what.length > 1 && what.endsWith('"') ? `${shorten(what)} holds a character that JSON writes with a backslash` : "this text has no closing quote";
  if (what.startsWith("'")) return "JSON writes texts in double quotes";
  if (what.startsWith("//") || what.startsWith("/*") || what.startsWith("#")) return "JSON has no comments";
  if (/^(NaN|[+-]?Infinity|undefined|None|True|False)$/.test(what)) return `JSON has no ${what}`;
  return `${shorten(what)} is no JSON`;
}

function shorten(text) {
  return text.length > 32 ? `${text.slice(0, 30)}…` : text;
}

function escape(name) {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

/**
 * Where a pointer points, or the nearest place around it that exists: `{start, end}`. A key's value stands for
 * itself; an empty pointer is the whole text's first character.
 */
export function locate(places, pointer) {
  let at = pointer;
  for (;;) {
    const place = places.get(at);
    if (place && at !== "") return { start: place.start, end: place.end, key: place.key };
    const cut = at.lastIndexOf("/");
    if (cut < 0) return { start: 0, end: 1, key: null };
    at = at.slice(0, cut);
  }
}

/** Line and column of an offset, both from 1. */
export function lineOf(text, offset) {
  let line = 1;
  let begin = 0;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) {
    line += 1;
    begin = at + 1;
  }
  return { line, column: offset - begin + 1 };
}

/**
 * A graft as people write it: one step a line, steps with an inner body on several. `value` is an object.
 */
export function format(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value, null, 2);
  const lines = Object.entries(value).map(([key, step]) => `  ${JSON.stringify(key)}: ${inner(step)}`);
  return lines.length === 0 ? "{}" : `{\n${lines.join(",\n")}\n}`;
}

function inner(step) {
  const flat = oneLine(step);
  if (flat.length <= 96) return flat;
  return JSON.stringify(step, null, 2).replaceAll("\n", "\n  ");
}

function oneLine(value) {
  if (Array.isArray(value)) return `[${value.map(oneLine).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([key, entry]) => `${JSON.stringify(key)}: ${oneLine(entry)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}
