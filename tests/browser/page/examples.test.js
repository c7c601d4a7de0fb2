// The page over the committed examples, as somebody has it after `make quickstart`.

import assert from "node:assert/strict";
import { readFile, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after } from "node:test";

import { address, close, painted, pixelAt, run, settled, setting, visit } from "../driver.js";

const url = setting("GRATICULE_URL");
const root = new URL("../../..", import.meta.url).pathname;

after(close);

// Somewhere inside the Colorado sample.
const PLACE = [-106.9142, 40.2883];

test("the first look is the masked NDVI median, zoomed to", async () => {
  const { page, faults, requests } = await visit(url);
  await settled(page);
  assert.deepEqual(await page.locator(".card .name").allTextContents(), ["NDVI median, clouds masked"]);
  const seen = await painted(page);
  assert.ok(seen.colours > 50 && seen.opaque > 0.1, JSON.stringify(seen));
  assert.equal(await page.locator("#status").getAttribute("data-failed"), "0");
  const [x, y] = await pixelAt(page, ...PLACE);
  const panel = await page.locator("#panel").boundingBox();
  assert.ok(x > panel.x + panel.width && x < 1280 && y > 0 && y < 800, `${x} ${y}`);
  // One stretch for all tiles, said by the page.
  const tiles = requests.filter((request) => request.includes("/tile/"));
  assert.ok(tiles.length > 0);
  for (const tile of tiles) assert.deepEqual(JSON.parse(new URL(tile).searchParams.get("scales")), [[0, 1]]);
  // The legend begins and ends where the stretch does.
  assert.deepEqual(await page.locator(".legend .ends span").allTextContents(), ["0", "0.5", "1"]);
  assert.deepEqual(faults, []);
});

test("a click shows the value that `graticule compute` gives there", async () => {
  const { page, faults } = await visit(url);
  await settled(page);
  const [x, y] = await pixelAt(page, ...PLACE);
  await page.mouse.click(x, y);
  await page.waitForFunction(() => document.querySelector("#inspector").dataset.at);
  const [lon, lat] = (await page.locator("#inspector").getAttribute("data-at")).split(",").map(Number);
  assert.ok(Math.abs(lon - PLACE[0]) < 1e-4 && Math.abs(lat - PLACE[1]) < 1e-4);
  const shown = Number((await page.locator("#inspector td").textContent()).replace("\u2212", "-"));

  const id = await page.evaluate(async () => {
    const tile = performance.getEntriesByType("resource").map((entry) => entry.name).find((name) => name.includes("/tile/"));
    return /layers\/([^/]+)\/tile/.exec(tile)[1];
  });
  const asked = await (await fetch(`${url}layers/${id}/value?lon=${lon}&lat=${lat}`)).json();
  assert.equal(asked.bands[0].name, "ndvi");
  assert.ok(Math.abs(asked.bands[0].value - shown) < 1e-5, `${asked.bands[0].value} ${shown}`);

  const folder = await mkdtemp(join(tmpdir(), "value-"));
  try {
    const out = join(folder, "value.npy");
    const [d, graft] = [5e-8, join(root, "examples/ndvi_median.graft.json")];
    await run(setting("GRATICULE_BINARY"), ["--data", setting("GRATICULE_CATALOG"), "compute", graft, "--bounds", `${lon - d},${lat - d},${lon + d},${lat + d}`, "--bounds-crs", "EPSG:4326", "--crs", "EPSG:4326", "--shape", "1,1", "--out", out]);
    const npy = await readFile(out);
    // One float32 behind the header.
    const computed = npy.readFloatLE(npy.length - 4);
    assert.ok(computed > 0.3 && computed < 0.9, String(computed));
    assert.ok(Math.abs(computed - shown) < 1e-5, `${computed} ${shown}`);
  } finally {
    await rm(folder, { recursive: true });
  }
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#inspector").isHidden());
  assert.deepEqual(faults, []);
});

test("an expression is edited; what is wrong in it is marked at its line", async () => {
  const { page, faults } = await visit(url, { expected: ["/layers/"] });
  await settled(page);
  const before = await painted(page);
  await page.getByRole("button", { name: "Expression", exact: true }).click();
  const code = page.getByRole("textbox", { name: /Expression, a graft/ });
  const text = await code.inputValue();
  const lineOf = (part, of) => of.slice(0, of.indexOf(part)).split("\n").length;

  // JSON that is none, while one writes.
  const cut = text.replace('"nir_band": "nir",', '"nir_band": "nir"');
  await code.fill(cut);
  const line = lineOf('"nir_band"', cut) + 1;
  assert.match(await page.locator("#editor-message").textContent(), new RegExp(`^Line ${line}, column`));
  assert.ok(await page.getByRole("button", { name: /^Apply/ }).isDisabled());

  // A graft that the server refuses.
  const wrong = text.replace('"median"', '"medain"');
  await code.fill(wrong);
  await page.keyboard.press("Control+Enter");
  const message = page.locator("#editor-message.error");
  await message.waitFor();
  assert.match(await message.textContent(), /median/);
  assert.equal(Number(await message.locator("button").getAttribute("data-line")), lineOf('"medain"', wrong));
  assert.equal(await page.locator(".gutter .wrong").textContent(), String(lineOf('"medain"', wrong)));
  assert.match(await page.locator(".paint .wrong").allTextContents().then((all) => all.join()), /medain/);

  // One that it takes.
  const good = text.replace('"median"', '"max"');
  assert.notEqual(good, text);
  await code.fill(good);
  await page.keyboard.press("Control+Enter");
  await page.getByText("Applied.").waitFor();
  await page.keyboard.press("Escape");
  await settled(page);
  const now = await painted(page);
  assert.notEqual(now.sum, before.sum);
  assert.ok(now.colours > 20, JSON.stringify(now));
  assert.deepEqual(faults, []);
});

test("a moved handle changes the stretch and the pixels", async () => {
  const { page, faults, requests } = await visit(url);
  await settled(page);
  const before = await painted(page);
  const low = page.getByRole("slider", { name: "Lowest ndvi shown" });
  await page.locator(".stretch:not(.waiting)").waitFor();
  const from = Number(await low.getAttribute("aria-valuenow"));
  await low.focus();
  for (let presses = 0; presses < 3; presses += 1) await page.keyboard.press("PageUp");
  const to = Number(await low.getAttribute("aria-valuenow"));
  assert.ok(to > from + 0.1, `${from} ${to}`);
  const asksFor = (request) => request.includes("/tile/") && JSON.parse(new URL(request).searchParams.get("scales"))[0][0] === to;
  if (!requests.some(asksFor)) await page.waitForRequest((request) => asksFor(request.url()));
  await settled(page);
  const now = await painted(page);
  assert.notEqual(now.sum, before.sum);
  assert.ok(requests.some((request) => request.includes("/statistics")));

  // By the mouse, to about the middle.
  const box = await page.locator(".stretch .range").boundingBox();
  const handle = await page.getByRole("slider", { name: "Highest ndvi shown" }).boundingBox();
  await page.mouse.move(handle.x + handle.width / 2, handle.y + 10);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, box.y + 10, { steps: 4 });
  await page.mouse.up();
  const high = Number(await page.getByRole("slider", { name: "Highest ndvi shown" }).getAttribute("aria-valuenow"));
  assert.ok(high < 1 && high > to);
  assert.deepEqual(faults, []);
});

test("an area is drawn and downloaded as a GeoTIFF of the size that was said", async () => {
  const { page, faults } = await visit(url);
  await settled(page);
  await page.getByRole("tab", { name: "Area" }).click();
  await page.getByRole("button", { name: "Rectangle" }).click();
  const [x, y] = await pixelAt(page, ...PLACE);
  await page.mouse.move(x - 60, y - 40);
  await page.mouse.down();
  await page.mouse.move(x + 60, y + 40, { steps: 3 });
  await page.mouse.up();
  const said = await page.locator(".size").textContent();
  const [, columns, rows] = /About (\d+) × (\d+) pixels/.exec(said).map(Number);
  assert.ok(columns > 5 && rows > 5, said);
  assert.equal(await page.locator("#area-resolution").inputValue(), "30");

  const folder = await mkdtemp(join(tmpdir(), "area-"));
  try {
    const get = async (name) => {
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name, exact: true }).click()]);
      const path = join(folder, download.suggestedFilename());
      await download.saveAs(path);
      return { path, about: JSON.parse((await run("gdalinfo", ["-json", "-stats", path])).stdout) };
    };
    const tiff = (await get("GeoTIFF")).about;
    assert.equal(tiff.driverShortName, "GTiff");
    assert.ok(Math.abs(tiff.size[0] - columns) <= 1 && Math.abs(tiff.size[1] - rows) <= 1, `${tiff.size} ${said}`);
    assert.deepEqual(tiff.geoTransform.filter((_, at) => at === 1 || at === 5), [30, -30]);
    assert.match(tiff.coordinateSystem.wkt, /UTM zone 13N/);
    const { minimum, maximum } = tiff.bands[0];
    assert.ok(minimum > -1 && maximum < 1 && minimum < maximum, `${minimum} ${maximum}`);
    const png = (await get("PNG")).about;
    assert.equal(png.driverShortName, "PNG");
  } finally {
    await rm(folder, { recursive: true });
  }

  // What is too much is said before it is asked.
  await page.locator("#area-resolution").fill("0.01");
  assert.match(await page.locator(".size").textContent(), /more than the server computes/);
  assert.ok(await page.getByRole("button", { name: "GeoTIFF", exact: true }).isDisabled());
  assert.deepEqual(faults, []);
});

test("a polygon is drawn with clicks, and given up with Escape", async () => {
  const { page, faults } = await visit(url);
  await settled(page);
  await page.getByRole("tab", { name: "Area" }).click();
  const tool = page.getByRole("button", { name: "Polygon" });
  await tool.click();
  await page.keyboard.press("Escape");
  assert.equal(await tool.getAttribute("aria-pressed"), "false");
  await tool.click();
  const [x, y] = await pixelAt(page, ...PLACE);
  for (const [dx, dy] of [[-70, 0], [0, -70], [70, 0]]) await page.mouse.click(x + dx, y + dy);
  await page.keyboard.press("Enter");
  await page.locator(".size").waitFor();
  assert.equal(await page.locator("path.aoi").count(), 1);
  // Drawing is not asking for values.
  assert.ok(await page.locator("#inspector").isHidden());
  const hash = await address(page);
  const { page: other } = await visit(url, { hash });
  await other.locator("path.aoi").waitFor();
  assert.deepEqual(faults, []);
});

test("a link brings everything back", async () => {
  const { page, faults } = await visit(url);
  await settled(page);
  await page.getByRole("slider", { name: "Opacity" }).fill("60");
  await page.getByRole("tab", { name: "Data" }).click();
  await page.locator(".product", { hasText: "Colorado" }).getByRole("button", { name: /Landsat/ }).first().click();
  await page.locator(".chip-button", { hasText: "nir" }).last().click();
  await page.waitForFunction(() => document.querySelectorAll(".card").length === 2);
  await settled(page);
  const names = await page.locator(".card .name").allTextContents();
  const before = await painted(page);
  const hash = await address(page);

  const { page: other, faults: others } = await visit(url, { hash });
  await settled(other);
  assert.deepEqual(await other.locator(".card .name").allTextContents(), names);
  const after = await painted(other);
  assert.equal(after.sum, before.sum);
  await other.locator(".card", { hasText: "NDVI" }).getByRole("button", { name: /^NDVI/ }).click();
  assert.equal(await other.getByRole("slider", { name: "Opacity" }).inputValue(), "60");
  assert.deepEqual([...faults, ...others], []);
});

test("what a link says is text, whatever it looks like", async () => {
  const { page: first } = await visit(url);
  const evil = '<img src=x onerror="document.title=1">';
  const hash = await first.evaluate(async (name) => {
    const { encode } = await import("./web/permalink.js");
    const graft = '{"product": "sentinel2-potsdam", "bands": "red", "x": ["mosaic", "product", "bands"], "returns": "x"}';
    return `#${await encode({ view: { zoom: 10, lat: 52.5, lon: 12.6 }, layers: [{ name, graft, id: null, style: { unit: name }, opacity: 1, visible: true }], active: 0, aoi: null })}`;
  }, evil);
  const { page, faults } = await visit(url, { hash });
  await settled(page);
  assert.equal(await page.locator(".card .name").textContent(), evil);
  assert.equal(await page.locator("#panel img").count(), 0);
  assert.equal(await page.title(), "Graticule");
  assert.deepEqual(faults, []);
});

test("a failing layer says why, on its tiles and on its card", async () => {
  const { page: first } = await visit(url);
  const hash = await first.evaluate(async () => {
    const { encode } = await import("./web/permalink.js");
    const graft = '{"product": "landsat57-colorado", "bands": "red nir", "x": ["mosaic", "product", "bands"], "returns": "x"}';
    return `#${await encode({ view: { zoom: 14, lat: 40.288, lon: -106.914 }, layers: [{ name: "Two bands", graft, id: null, style: {}, opacity: 1, visible: true }], active: 0, aoi: null })}`;
  });
  const { page } = await visit(url, { hash, expected: ["/layers/"] });
  const words = page.locator(".card .notice.error");
  await words.waitFor();
  assert.match(await words.textContent(), /one band or three/);
  await page.locator(".tile.failed").first().waitFor();
  assert.ok((await painted(page)).opaque > 0.01);
  assert.match(await page.locator("#status").textContent(), /failed/);
});
