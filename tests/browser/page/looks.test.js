// How the page looks and handles: narrow, dark, by keyboard alone, without motion.

import assert from "node:assert/strict";
import test, { after } from "node:test";

import { PATIENCE, close, settled, setting, visit } from "../driver.js";

const url = setting("GRATICULE_URL");

after(close);

test("at 360 pixels nothing is cut off, and a sheet holds the panel", async () => {
  const { page, faults } = await visit(url, { width: 360, height: 720, hasTouch: true });
  await settled(page);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  for (const name of ["Layers", "Data", "Area"]) {
    await page.getByRole("tab", { name }).click();
    const wide = await page.evaluate(() => [...document.querySelectorAll("#panel button, #panel input, #panel select")].filter((element) => {
      const box = element.getBoundingClientRect();
      return box.width > 0 && (box.left < 0 || box.right > 360.5);
    }).map((element) => element.outerHTML.slice(0, 100)));
    assert.deepEqual(wide, []);
  }
  const heights = [];
  for (let step = 0; step < 3; step += 1) {
    await page.locator("#sheet-handle").click();
    await page.waitForFunction(() => document.querySelector("#panel").getAnimations().length === 0);
    heights.push(await page.locator("#panel").evaluate((panel) => panel.offsetHeight));
  }
  assert.ok(heights[0] > 650 && heights[1] < 130 && heights[2] > 300 && heights[2] < 400, String(heights));
  // A touch shows values above the sheet.
  await page.touchscreen.tap(180, 200);
  await page.waitForFunction(() => document.querySelector("#inspector").dataset.at);
  const box = await page.locator("#inspector").boundingBox();
  assert.ok(box.x >= 0 && box.x + box.width <= 360 && box.y + box.height < 400, JSON.stringify(box));
  assert.deepEqual(faults, []);
});

// Relative luminance of a colour, as WCAG 2 defines it.
const contrast = ([a, b]) => {
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, bl] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * bl;
  };
  const [x, y] = [light(a), light(b)].sort((m, n) => n - m);
  return (x + 0.05) / (y + 0.05);
};

test("light and dark follow the system and the button, and stay readable", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { page, faults } = await visit(url, { colorScheme });
    await settled(page);
    const paper = () => page.locator("#panel").evaluate((panel) => getComputedStyle(panel).backgroundColor);
    const isDark = contrast([await paper(), "rgb(255, 255, 255)"]) > 4;
    assert.equal(isDark, colorScheme === "dark");
    const pairs = await page.evaluate(() => [...document.querySelectorAll(".name, .label, .hint, .tabs button, .ends span, .button")].filter((element) => element.offsetWidth > 0 && !element.disabled).map((element) => {
      let under = element;
      while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
      return [getComputedStyle(element).color, getComputedStyle(under).backgroundColor, element.textContent.slice(0, 30)];
    }));
    assert.ok(pairs.length > 8);
    for (const [ink, under, text] of pairs) assert.ok(contrast([ink, under]) >= 4.5, `${text}: ${ink} on ${under}`);
    await page.locator("#theme").click();
    await page.locator("#theme").click();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    assert.ok(contrast([await paper(), "rgb(255, 255, 255)"]) > 4);
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    assert.deepEqual(faults, []);
  }
});

test("everything is done by keyboard", async () => {
  const { page, faults } = await visit(url);
  await settled(page);
  const focused = () => page.evaluate(() => {
    const at = document.activeElement;
    if (at === document.body) return null;
    return { name: at.getAttribute("aria-label") ?? at.textContent.trim(), outline: getComputedStyle(at).outlineStyle, shown: at.getBoundingClientRect().width > 0 };
  });
  // Every stop of the Tab key is visible and marked, and all parts are among them.
  const stops = [];
  for (let presses = 0; presses < 40; presses += 1) {
    await page.keyboard.press("Tab");
    const stop = await focused();
    // Behind the last stop is the browser's own frame.
    if (stop === null) break;
    assert.ok(stop.shown, stop.name);
    assert.notEqual(stop.outline, "none", stop.name);
    stops.push(stop.name);
  }
  for (const wanted of ["To the layers", "Copy a link to this map", "Layers", "Opacity", "Lowest ndvi shown", "Highest ndvi shown", "Expression", "Zoom in"]) {
    assert.ok(stops.some((stop) => stop.includes(wanted)), `${wanted} is among ${stops.join(" | ")}`);
  }

  // A second layer from the catalog, without a mouse.
  await page.getByRole("tab", { name: "Layers" }).focus();
  await page.keyboard.press("ArrowRight");
  assert.equal((await focused()).name, "Data");
  await page.locator(".product .title").first().focus();
  await page.keyboard.press("Enter");
  await page.locator(".chip-button").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll(".card").length === 2);
  const names = () => page.locator(".card .name").allTextContents();
  const before = await names();
  await page.locator(".grip").first().focus();
  await page.keyboard.press("ArrowDown");
  assert.deepEqual(await names(), [...before].reverse());
  assert.match((await focused()).name, /Move layer/);

  // Menus open, walk and close; the focus comes back.
  const more = page.getByRole("button", { name: /^More about/ }).first();
  await more.focus();
  await page.keyboard.press("Enter");
  assert.equal((await focused()).name, "Rename");
  await page.keyboard.press("ArrowUp");
  assert.equal((await focused()).name, "Remove");
  await page.keyboard.press("Escape");
  assert.match((await focused()).name, /^More about/);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Enter");
  await page.keyboard.type("Renamed");
  await page.keyboard.press("Enter");
  assert.ok((await names()).includes("Renamed"));

  // Enter on the map asks for the values in its middle.
  await page.locator("#map").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#inspector").dataset.at);
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#inspector").isHidden());
  assert.deepEqual(faults, []);
});

test("parts have roles and names", async () => {
  const { page } = await visit(url);
  await settled(page);
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, [role=slider]")].filter((element) => {
    const labels = element.labels ? [...element.labels].map((label) => label.textContent).join("") : "";
    return !(element.getAttribute("aria-label") || element.textContent.trim() || labels.trim() || element.title);
  }).map((element) => element.outerHTML.slice(0, 120)));
  assert.deepEqual(nameless, []);
});

test("without motion nothing moves, and nothing jumps while the page comes", async () => {
  const { page } = await visit(url, { reducedMotion: "reduce" });
  await settled(page);
  assert.equal(await page.evaluate(() => document.getAnimations().filter((animation) => animation.effect.getComputedTiming().duration > 0).length), 0);
  const shift = await page.evaluate(() => new Promise((resolve) => {
    let sum = 0;
    new PerformanceObserver((list) => { for (const entry of list.getEntries()) sum += entry.value; }).observe({ type: "layout-shift", buffered: true });
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(sum)));
  }));
  assert.ok(shift < 0.05, String(shift));
});

test("dense screens get dense tiles", async () => {
  const { page, requests } = await visit(url, { deviceScaleFactor: 2 });
  await page.waitForFunction(() => [...document.querySelectorAll(".tile img")].some((image) => image.naturalWidth === 512), null, { timeout: PATIENCE });
  const tiles = requests.filter((request) => request.includes("/tile/"));
  assert.ok(tiles.length > 0 && tiles.every((request) => request.includes("@2x.png")));
  assert.equal(await page.locator(".tile img").first().evaluate((image) => image.offsetWidth), 256);
});
