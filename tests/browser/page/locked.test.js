// The page of a server that wants a key.

import assert from "node:assert/strict";
import test, { after } from "node:test";

import { close, settled, setting, visit } from "../driver.js";

const url = setting("GRATICULE_LOCKED_URL");

after(close);

test("a key is asked for, kept in the tab, sent as a header, and never with tiles", async () => {
  const { page, faults, context } = await visitLocked();
  const sent = [];
  page.on("request", (request) => sent.push([request.url(), request.headers().authorization ?? null]));
  const input = page.getByLabel("Key", { exact: true });
  await input.waitFor();
  await input.fill("wrong");
  await page.keyboard.press("Enter");
  await page.locator("#key-error:not([hidden])").waitFor();
  await input.fill(setting("GRATICULE_KEY"));
  await page.keyboard.press("Enter");
  await page.locator(".card").waitFor();
  await settled(page);
  const key = `Bearer ${setting("GRATICULE_KEY")}`;
  assert.ok(sent.some(([to, header]) => to.includes("/catalog/products") && header === key));
  assert.ok(sent.some(([to]) => to.includes("/tile/")));
  for (const [to, header] of sent) if (to.includes("/tile/")) assert.equal(header, null);
  const stored = await page.evaluate(() => [JSON.stringify(localStorage), document.cookie, location.href]);
  for (const place of stored) assert.ok(!place.includes(setting("GRATICULE_KEY")));
  assert.deepEqual(faults, []);
  await context.close();
});

function visitLocked() {
  return visit(url, { expected: ["/catalog/", "/layers/"], ready: false });
}
