// Before the first paint: the colours somebody chose here before. No module, so that nothing flashes.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("graticule-theme");
  } catch {
    // Without storage the system decides.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
