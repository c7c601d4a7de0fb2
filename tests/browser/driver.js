// A browser on the map page, which keeps account of what must not happen: requests to other hosts, errors on
// the console, exceptions.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { chromium } from "playwright-core";

export const run = promisify(execFile);

/** A setting that `main.rs` gives; without it the test fails. */
export function setting(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; run: cargo test -p graticule-tests --test browser -- --ignored`);
  return value;
}

let browser = null;

/** Starts Chromium; once for all pages of a file. */
export async function open() {
  browser ??= await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Its sandbox does not run as root, which tests in containers are.
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  return browser;
}

export async function close() {
  await browser?.close();
  browser = null;
}

/**
 * A page in a context of its own. `faults` holds what must not happen; a test that provokes an error status
 * says so with `expected` (a part of the address).
 */
export async function visit(url, { width = 1280, height = 800, colorScheme = "light", hash = "", expected = [], ready = true, ...more } = {}) {
  const context = await (await open()).newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, ...more });
  const page = await context.newPage();
  const { host } = new URL(url);
  const faults = [];
  const requests = [];
  context.on("request", (request) => {
    const to = new URL(request.url());
    requests.push(request.url());
    if (to.protocol !== "blob:" && to.protocol !== "data:" && to.host !== host) faults.push(`asked ${to.href}`);
  });
  page.on("pageerror", (error) => faults.push(`exception: ${error.stack}`));
  page.on("console", (message) => {
    const at = message.location().url;
    const isExpected = message.text().startsWith("Failed to load resource") && expected.some((part) => at.includes(part));
    if (["error", "warning"].includes(message.type()) && !isExpected) faults.push(`console: ${message.text()} ${at}`);
  });
  await page.goto(`${url}${hash}`);
  if (ready) await page.waitForFunction(() => document.documentElement.dataset.ready === "true");
  return { page, context, faults, requests };
}

// A median of a hundred dates takes its time where a build without optimisation shares a processor.
export const PATIENCE = 90_000;

/** Waits until every tile that is wanted is there, or failed. */
export async function settled(page) {
  await page.waitForFunction(() => {
    const status = document.querySelector("#status");
    const tiles = document.querySelectorAll(".leaflet-tile-pane .tile img[src]");
    const busy = document.querySelector(".card .spinner:not([hidden])");
    return status.dataset.loading === "0" && !busy && tiles.length > 0;
  }, null, { timeout: PATIENCE });
}

/**
 * What the tiles on the map show: how many there are, how many colours, the share of opaque pixels, and a sum
 * that changes with any pixel.
 */
export function painted(page) {
  return page.evaluate(() => {
    const colours = new Set();
    let [opaque, all, sum] = [0, 0, 0];
    const tiles = [...document.querySelectorAll(".leaflet-tile-pane .tile img")].filter((image) => image.naturalWidth > 0);
    tiles.sort((a, b) => (a.parentElement.style.transform < b.parentElement.style.transform ? -1 : 1));
    for (const image of tiles) {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const paint = canvas.getContext("2d");
      paint.drawImage(image, 0, 0);
      const { data } = paint.getImageData(0, 0, canvas.width, canvas.height);
      for (let at = 0; at < data.length; at += 4) {
        all += 1;
        if (data[at + 3] === 0) continue;
        opaque += 1;
        const colour = (data[at] << 16) | (data[at + 1] << 8) | data[at + 2];
        colours.add(colour);
        sum = (Math.imul(sum, 31) + colour + at) | 0;
      }
    }
    return { tiles: tiles.length, colours: colours.size, opaque: opaque / Math.max(1, all), sum };
  });
}

/** Pixel of the map at which a place lies, once the page's address says what is seen. */
export async function pixelAt(page, lon, lat) {
  await address(page);
  return page.evaluate(([x, y]) => {
    const [zoom, centreLat, centreLon] = location.hash.slice(1).split("/").map(Number);
    const scale = 256 * 2 ** zoom;
    const project = (lonDegrees, latDegrees) => {
      const sin = Math.sin((latDegrees * Math.PI) / 180);
      return [((lonDegrees + 180) / 360) * scale, (0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI)) * scale];
    };
    const [px, py] = project(x, y);
    const [cx, cy] = project(centreLon, centreLat);
    return [innerWidth / 2 + px - cx, innerHeight / 2 + py - cy];
  }, [lon, lat]);
}

/** The address's fragment once it has said for a while what is seen. */
export async function address(page) {
  await page.evaluate(() => { globalThis.addressBefore = null; });
  await page.waitForFunction(() => {
    const isSame = globalThis.addressBefore === location.hash && location.hash.includes("/x");
    globalThis.addressBefore = location.hash;
    return isSame;
  }, null, { polling: 700 });
  return page.evaluate(() => location.hash);
}
