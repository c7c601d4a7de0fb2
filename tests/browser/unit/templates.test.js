import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { bandOf, cloudMask, coloured, firstLook, singleBand, templatesFor } from "../../../web/templates.js";

const manual = readFileSync(new URL("../../../docs/ops.md", import.meta.url), "utf8");
const OPS = new Set([...manual.matchAll(/^### `(\w+)`$/gm)].map((match) => match[1]));

const band = (name, common = null, classes = []) => ({ name, common_name: common, unit: "", classes });
const product = (id, bands, scenes = 5) => ({ id, title: id, bands, scenes, acquired: null, footprint: [0, 0, 1, 1], resolution: 10 });

const COLORADO = product("landsat57-colorado", [band("red", "red"), band("nir", "nir"), band("swir1", "swir16"), band("fmask")], 105);
const SENTINEL = product("s2", [band("B02", "blue"), band("B03", "green"), band("B04", "red"), band("B08", "nir"), band("SCL")]);
const LANDSAT = product("c2", [band("SR_B2"), band("SR_B3"), band("SR_B4"), band("SR_B5"), band("QA_PIXEL")]);
const CLASSED = product("classed", [
  band("r", "red"), band("n", "nir"),
  band("mask classes", null, [{ value: 0, name: "clear" }, { value: 1, name: "thick cloud" }, { value: 2, name: "cloud shadow" }]),
]);
const TERRAIN = product("dem-swiss", [band("elevation")], 1);
const COVER = product("cover", [band("landcover", null, [{ value: 1, name: "Water", color: [0, 0, 255] }, { value: 2, name: "Snow" }])], 1);
const ALL = [COLORADO, SENTINEL, LANDSAT, CLASSED, TERRAIN, COVER];

test("every argument is a key, every op exists, no key hides an op that is used", () => {
  assert.ok(OPS.size > 80);
  let seen = 0;
  for (const one of ALL) {
    const singles = one.bands.map((entry) => singleBand(one, entry, null));
    for (const { name, graft } of [...templatesFor(one), ...templatesFor(one, ["2020-01-01", "2021-01-01"]), ...singles]) {
      seen += 1;
      const keys = new Set(Object.keys(graft));
      assert.ok(keys.has(graft.returns), name);
      for (const [key, step] of Object.entries(graft)) {
        if (key === "returns" || !Array.isArray(step)) continue;
        // A list of one list is quoted JSON.
        if (step.length === 1 && typeof step[0] === "object") continue;
        const [op, ...args] = step;
        assert.ok(OPS.has(op) && !keys.has(op), `${name}: ${op}`);
        for (const arg of args) {
          const names = typeof arg === "object" ? Object.values(arg) : [arg];
          for (const used of names) assert.ok(keys.has(used), `${name}: ${used}`);
        }
      }
    }
  }
  assert.ok(seen > 30);
});

test("bands are found by their common names, then by what they are called", () => {
  assert.equal(bandOf(SENTINEL, "nir").name, "B08");
  assert.equal(bandOf(LANDSAT, "red").name, "SR_B4");
  assert.equal(bandOf(TERRAIN, "red"), null);
});

test("clouds are told by names of classes, then by bands that are known", () => {
  assert.deepEqual(cloudMask(CLASSED).steps.hidden_classes, [[1, 2]]);
  assert.equal(cloudMask(COLORADO).steps.water, 1);
  assert.deepEqual(cloudMask(SENTINEL).steps.hidden_classes, [[0, 1, 3, 8, 9, 10, 11]]);
  const steps = Object.entries(cloudMask(LANDSAT).steps);
  assert.equal(steps.filter(([, step]) => step[0] === "bit").length, 6);
  assert.deepEqual(steps.at(-1), ["obscured", ["or", "any_4", "is_5"]]);
  // Snow of a land cover hides nothing.
  assert.equal(cloudMask(COVER), null);
});

test("what does not fit is not offered", () => {
  const names = (one) => templatesFor(one).map((template) => template.name);
  assert.deepEqual(names(COLORADO), ["NDVI", "NDVI median, clouds masked", "Number of clear dates"]);
  assert.deepEqual(names(TERRAIN), ["Slope"]);
  assert.deepEqual(names(COVER), []);
  assert.ok(names(SENTINEL).includes("True colour median, clouds masked"));
  assert.ok(!names({ ...SENTINEL, scenes: 1 }).some((name) => name.includes("median")));
});

test("names with blanks are written as a list", () => {
  const { graft } = templatesFor(CLASSED).find(({ name }) => name.startsWith("NDVI median"));
  assert.deepEqual(JSON.parse(graft.bands), ["r", "n", "mask classes"]);
  assert.deepEqual(JSON.parse(graft.quality_band), ["mask classes"]);
});

test("dates that are chosen are in the graft", () => {
  const [{ graft }] = templatesFor(COLORADO, ["2010-01-01", "2011-01-01"]);
  assert.equal(graft.from, "2010-01-01");
  assert.deepEqual(graft.image.at(-1), { start_datetime: "from", end_datetime: "until" });
});

test("the first look is at the masked median of the longest series", () => {
  const look = firstLook([TERRAIN, SENTINEL, COLORADO]);
  assert.equal(look.product.id, "landsat57-colorado");
  assert.equal(look.template.name, "NDVI median, clouds masked");
  assert.deepEqual(look.template.style.scales, [[0, 1]]);
  assert.equal(firstLook([TERRAIN, COVER]).template.name, "Slope");
  assert.equal(firstLook([COVER]).template.style.classes[0].color, "#0000ff");
  assert.equal(firstLook([{ ...COVER, footprint: null }]), null);
  assert.equal(firstLook([]), null);
});

test("classes have a value, a name and a colour each", () => {
  const classes = coloured([{ value: 3, name: "Ice", color: "A0B0C0" }, { value: 4 }]);
  assert.deepEqual(classes[0], { value: 3, name: "Ice", color: "#a0b0c0" });
  assert.equal(classes[1].name, "4");
  assert.match(classes[1].color, /^#[0-9a-f]{6}$/);
  const [cloud, water] = coloured([{ value: 1, name: "cloud" }, { value: 2, name: "water" }]);
  assert.ok(parseInt(cloud.color.slice(1), 16) > 0xe00000 && water.color !== cloud.color);
});
