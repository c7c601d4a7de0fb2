// The page over an empty catalog: how to begin, and that it notices.

import assert from "node:assert/strict";
import test, { after } from "node:test";

import { PATIENCE, close, run, settled, setting, visit } from "../driver.js";

const url = setting("GRATICULE_EMPTY_URL");
const root = new URL("../../..", import.meta.url).pathname;

after(close);

test("an empty catalog says what to do, and the page goes on by itself", async () => {
  const { page, faults } = await visit(url);
  await page.getByRole("heading", { name: "The catalog is empty" }).waitFor();
  const commands = await page.locator(".command code").allTextContents();
  assert.equal(commands[0], "graticule catalog add examples/colorado examples/potsdam");
  // The command as the page has it.
  const [, ...words] = commands[0].split(" ");
  await run(setting("GRATICULE_BINARY"), ["--data", setting("GRATICULE_EMPTY_CATALOG"), ...words], { cwd: root });
  await page.locator(".card").waitFor({ timeout: PATIENCE });
  await settled(page);
  assert.match(await page.locator(".card .name").textContent(), /NDVI median/);
  assert.deepEqual(faults, []);
});
