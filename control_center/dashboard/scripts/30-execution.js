"use strict";
/* Bars of what runs grow by the second until the page hears more; [ and ] go to the run before and after; ids are copied. */
(() => {
  let drawn = Date.now();
  const first = new WeakMap();

  setInterval(() => {
    if (document.hidden || document.getElementById("live").dataset.mode === "paused") return;
    const seconds = (Date.now() - drawn) / 1000;
    for (const bar of document.querySelectorAll("[data-grows]")) {
      const name = bar.tagName === "line" ? "x2" : "width";
      if (!first.has(bar)) first.set(bar, parseFloat(bar.getAttribute(name)));
      const left = name === "width" ? parseFloat(bar.getAttribute("x")) : 0;
      bar.setAttribute(name, `${Math.min(first.get(bar) + seconds * parseFloat(bar.dataset.grows), 100 - left)}%`);
    }
    if (seconds > 60 && document.querySelector("[data-grows]")) { drawn = Date.now(); window.afu9?.refreshAll(); }
  }, 1000);

  function prepare() {
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
  }
  document.addEventListener("htmx:after:swap", () => {
    drawn = Date.now();
    for (const bar of document.querySelectorAll("[data-grows]")) first.delete(bar);
    prepare();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    window.afu9?.say("copied");
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const rel = { "[": "prev", "]": "next" }[event.key];
    if (rel) document.querySelector(`a[rel=${rel}]`)?.click();
  });
  prepare();
})();
