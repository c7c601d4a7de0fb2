import assert from "node:assert/strict";
import test from "node:test";

import { decode, encode, styleOf } from "../../../web/permalink.js";

const layer = {
  name: "NDVI ≥ 0.5",
  graft: '{\n "returns": "x"\n}',
  id: "AbC-_9",
  style: { colormap: "RdYlGn_r", scales: [[-0.25, 1]], classes: null, unit: "", checkerboard: false },
  opacity: 0.5,
  visible: false,
};
const state = {
  view: { zoom: 15, lat: 40.28839, lon: -106.92191 },
  layers: [layer, { ...layer, opacity: 1, visible: true, id: null }],
  active: 1,
  aoi: { type: "Polygon", coordinates: [[[0, 0], [1, 0], [1, 1], [0, 0]]] },
};

test("what is packed is what is unpacked", async () => {
  const fragment = await encode(state);
  assert.match(fragment, /^15\/40\.28839\/-106\.92191\/x[A-Za-z0-9_-]+$/);
  assert.deepEqual(await decode(`#${fragment}`), state);
});

test("a view alone is a link", async () => {
  assert.deepEqual(await decode("#3/10/-20.5"), { view: { zoom: 3, lat: 10, lon: -20.5 }, layers: null, active: -1, aoi: null });
  assert.equal((await decode("")).view, null);
  assert.equal((await decode("#nonsense")).view, null);
  assert.equal((await decode("#3/95/0")).view, null);
});

test("cut and foreign links say so", async () => {
  const fragment = await encode(state);
  await assert.rejects(decode(fragment.slice(0, -20)), /cut or changed/);
  await assert.rejects(decode("3/1/2/x!!"), /cut or changed/);
  await assert.rejects(decode(await repacked({ v: 2, l: [] })), /another version/);
  await assert.rejects(decode(await repacked({ v: 1, l: [{ n: "no graft" }] })), /damaged/);
});

test("a few bytes cannot unpack into very many", async () => {
  await assert.rejects(decode(await repacked("0".repeat(50_000_000))), /cut or changed/);
});

test("only known members of known types are taken", () => {
  const plain = styleOf(null);
  assert.deepEqual(styleOf({ colormap: "x'); evil", scales: [[1, 0]], classes: [{ value: "a", color: "red" }], onload: 1 }), plain);
  assert.deepEqual(styleOf({ scales: [[0, 1], [0, 1]] }).scales, null);
  const classes = [{ value: 1, name: "a", color: "#ff0000" }];
  assert.deepEqual(styleOf({ classes }).classes, classes);
});

async function repacked(value) {
  const stream = new Blob([JSON.stringify(value)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  const bytes = Buffer.from(await new Response(stream).arrayBuffer());
  return `3/1/2/x${bytes.toString("base64url")}`;
}
