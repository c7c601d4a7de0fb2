import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { format, lineOf, locate, read, tokens } from "../../../web/json.js";

// Numbers from 0 to 1 that are the same in each run.
function chance(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function anything(next, depth) {
  const kind = Math.floor(next() * (depth > 4 ? 5 : 7));
  const text = () => Array.from({ length: Math.floor(next() * 6) }, () => 'aé"\\/~\n\u{1F30D} 1'.at(Math.floor(next() * 10))).join("").toWellFormed?.() ?? "a";
  if (kind === 0) return null;
  if (kind === 1) return next() < 0.5;
  if (kind === 2) return Math.floor(next() * 1000) - 500;
  if (kind === 3) return next() * 10 ** Math.floor(next() * 40 - 20);
  if (kind === 4) return text();
  const length = Math.floor(next() * 4);
  if (kind === 5) return Array.from({ length }, () => anything(next, depth + 1));
  return Object.fromEntries(Array.from({ length }, () => [text(), anything(next, depth + 1)]));
}

test("reads what JSON.parse reads, and knows where everything stands", () => {
  const next = chance(1);
  for (let round = 0; round < 500; round += 1) {
    const value = anything(next, 0);
    const text = JSON.stringify(value, null, Math.floor(next() * 3));
    const { value: got, places } = read(text);
    assert.deepEqual(got, JSON.parse(text));
    for (const [pointer, { start, end }] of places) {
      const meant = pointer.split("/").slice(1).reduce((at, part) => at[part.replaceAll("~1", "/").replaceAll("~0", "~")], got);
      assert.deepEqual(JSON.parse(text.slice(start, end)), meant, pointer);
    }
  }
});

test("refuses what JSON.parse refuses", () => {
  const next = chance(2);
  const marks = '{}[],:"x1-. \n';
  let refused = 0;
  for (let round = 0; round < 3000; round += 1) {
    const text = [...JSON.stringify(anything(next, 1))];
    text.splice(Math.floor(next() * text.length), Math.floor(next() * 2), marks[Math.floor(next() * marks.length)]);
    const broken = text.join("");
    let isJson = true;
    try {
      JSON.parse(broken);
    } catch {
      isJson = false;
    }
    if (isJson) continue;
    refused += 1;
    assert.throws(() => read(broken), (error) => error.start >= 0 && error.end <= broken.length && error.start <= error.end, broken);
  }
  assert.ok(refused > 1000);
});

test("tokens cover a text in order, whatever it is", () => {
  const next = chance(3);
  for (let round = 0; round < 500; round += 1) {
    const text = Array.from({ length: 30 }, () => '{}[],:"ab1-.\\ \n\u{1F30D}'.at(Math.floor(next() * 17))).join("");
    let at = 0;
    for (const { start, end } of tokens(text)) {
      assert.ok(start >= at && end > start);
      assert.match(text.slice(at, start), /^[ \t\r\n]*$/);
      at = end;
    }
    assert.match(text.slice(at), /^[ \t\r\n]*$/);
  }
});

const mistakes = [
  ['{"a": 1,}', "nothing follows this comma", 1],
  ['{\n  "a": 1\n  "b": 2\n}', "a comma or } should stand here", 3],
  ['{\n  "a": NaN\n}', "JSON has no NaN", 2],
  ["{'a': 1}", "double quotes", 1],
  ['{"a": 1,\n "a": 2}', "a second time", 2],
  ['{"a": [1, 2}', "a comma or ]", 1],
  ['{"a": "b\n}', "no closing quote", 1],
  ['{"a": 1', "something is still open", 1],
  ['{"a" 1}', "a colon", 1],
  ['{"a": 1} 2', "nothing more", 1],
  ['{\n // why\n "a": 1}', "no comments", 2],
];
for (const [text, says, line] of mistakes) {
  test(`says of ${JSON.stringify(text)}: ${says}`, () => {
    assert.throws(() => read(text), (error) => {
      assert.ok(error.message.includes(says), error.message);
      assert.equal(lineOf(text, error.start).line, line);
      return true;
    });
  });
}

test("a pointer leads to its line, or to the nearest place around it", () => {
  const text = '{\n  "a/b": ["mul", "x"],\n  "n": {"y": [[1, 2]]}\n}';
  const { places } = read(text);
  const at = (pointer) => {
    const { start, end } = locate(places, pointer);
    return [lineOf(text, start).line, text.slice(start, end)];
  };
  assert.deepEqual(at("/a~1b/1"), [2, '"x"']);
  assert.deepEqual(at("/a~1b/7"), [2, '["mul", "x"]']);
  assert.deepEqual(at("/n/y/0/1"), [3, "2"]);
  assert.deepEqual(at("/gone"), [1, "{"]);
  assert.deepEqual(at(""), [1, "{"]);
});

test("a tidied graft is the same graft", () => {
  for (const name of ["ndvi_median", "true_colour"]) {
    const text = readFileSync(new URL(`../../../examples/${name}.graft.json`, import.meta.url), "utf8");
    const { value } = read(text);
    assert.deepEqual(value, JSON.parse(text));
    const tidy = format(value);
    assert.deepEqual(JSON.parse(tidy), value);
    assert.equal(format(JSON.parse(tidy)), tidy);
  }
});

test("keys that objects have by themselves are keys like others", () => {
  const { value } = read('{"__proto__": 1, "constructor": 2}');
  assert.deepEqual(Object.entries(value), [["__proto__", 1], ["constructor", 2]]);
});
