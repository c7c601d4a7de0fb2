import assert from "node:assert/strict";
import test from "node:test";

import { angle, boundsOf, gridsFor, isRectangle, mercator, multiples, pixelsOf, rectangle, spacing, utm } from "../../../web/geo.js";
import { binned, bars, domain, exact, moved, parse, show, snap, step } from "../../../web/numbers.js";

const near = (got, want, by) => assert.ok(Math.abs(got - want) <= by, `${got} is not ${want}`);

// By PROJ (pyproj.Transformer.from_crs(4326, 32600 + zone)).
const UTM = [
  [-106.914, 40.288, 13, false, 337304.9652, 4461480.7482],
  [12.6, 52.5, 33, false, 337092.9336, 5819359.5546],
  [-43.2, -22.9, 23, true, 684623.6733, 7466421.4007],
  [11.99, 0.0001, 32, false, 832864.2750, 11.0682],
  [24.01, 79.9, 35, false, 441488.0772, 8871927.7573],
];

test("UTM as PROJ has it, to a millimetre", () => {
  for (const [lon, lat, zone, isSouth, x, y] of UTM) {
    const [gotX, gotY] = utm(lon, lat, zone, isSouth);
    near(gotX, x, 0.001);
    near(gotY, y, 0.001);
  }
});

test("Web Mercator as PROJ has it", () => {
  const [x, y] = mercator(-106.914, 40.288);
  near(x, -11901612.0387, 0.001);
  near(y, 4907882.3406, 0.001);
});

test("the quickstart's area has about the pixels of its files", () => {
  const bounds = [-106.9251759, 40.279843, -106.9031935, 40.296677];
  const [grid] = gridsFor(bounds);
  assert.equal(grid.crs, "EPSG:32613");
  const { columns, rows } = pixelsOf(bounds, grid, 30);
  // 61 by 61, and a little more: north of the grid is not quite north.
  assert.ok(columns >= 61 && columns <= 65 && rows >= 61 && rows <= 65, `${columns} ${rows}`);
  assert.equal(gridsFor([-60, -40, -59, -39])[0].crs, "EPSG:32721");
  assert.equal(gridsFor([-180, -80, 180, 80])[0].crs, "EPSG:3857");
});

test("rectangles are known as such", () => {
  const box = rectangle([1, 2, 3, 4]);
  assert.deepEqual(boundsOf(box), [1, 2, 3, 4]);
  assert.ok(isRectangle(box));
  assert.ok(!isRectangle({ type: "Polygon", coordinates: [[[1, 2], [3, 2], [3.1, 4], [1, 4], [1, 2]]] }));
});

test("lines are far enough apart at every zoom, and their labels tell them apart", () => {
  for (let zoom = 1; zoom <= 20; zoom += 1) {
    const perPixel = 360 / (256 * 2 ** zoom);
    const by = spacing(perPixel, 120);
    assert.ok(by / perPixel >= 119.9 || by === 30, `zoom ${zoom}`);
    if (by < 1 / 3600 + 1e-12) continue;
    const labels = multiples(10, 10 + by * 5, by).map((lon) => angle(lon, by, false));
    assert.equal(new Set(labels).size, labels.length, `${labels}`);
  }
});

test("angles as maps write them", () => {
  assert.equal(angle(40 + 17 / 60 + 40 / 3600, 20 / 3600, true), "40°17′40″N");
  assert.equal(angle(-106.5, 0.5, false), "106°30′W");
  assert.equal(angle(190, 10, false), "170°W");
  assert.equal(angle(0, 10, false), "0°");
  assert.equal(angle(180, 10, false), "180°");
});

test("numbers with the digits that a range makes sense of", () => {
  assert.equal(show(0.123456, 1), "0.123");
  assert.equal(show(12345.6, 10000), "12\u2009346");
  assert.equal(show(-0.5, 1), "\u22120.5");
  assert.equal(exact(0.4588123), "0.458812");
  assert.equal(exact(null), "no data");
  assert.equal(parse("\u22120,5"), -0.5);
  assert.equal(parse(show(12345.6, 10000)), 12346);
  for (const text of ["", "x", "1e999", "--1", "0x10"]) assert.equal(parse(text), null, text);
});

test("handles stay in order and within their range", () => {
  assert.deepEqual(moved([0, 1], 0, 5, [0, 1], 0.01), [0.99, 1]);
  assert.deepEqual(moved([0, 1], 1, -5, [0, 1], 0.01), [0, 0.01]);
  assert.deepEqual(moved([0.2, 1], 0, -5, [0, 1], 0.01), [0, 1]);
  assert.equal(step(0, 1), 0.01);
  assert.equal(snap(0.30000000000000004, 0.01), 0.3);
  assert.deepEqual(domain([0, 10], [-1, 5]), [-1, 10]);
  assert.deepEqual(domain([3, 3], [3, 3]), [2.5, 3.5]);
});

test("bars and bins", () => {
  assert.deepEqual(bars([0, 1, 4]), [0, 0.5, 1]);
  assert.deepEqual(bars([0, 0]), [0, 0]);
  assert.deepEqual(binned([0, 1, 9, 10], [0, 10], 2), [2, 2]);
});
