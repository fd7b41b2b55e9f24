"use strict";
/* A grid of links is one stop of the Tab key; arrows move inside it. Without a script every link is a stop of its own. */
(() => {
  const cells = (grid) => [...grid.querySelectorAll("a")];
  const place = (link) => { const box = link.querySelector("rect"); return [+box.getAttribute("x"), +box.getAttribute("y")]; };

  function enter(grid, link) {
    for (const one of cells(grid)) one.setAttribute("tabindex", one === link ? "0" : "-1");
  }
  function prepare() {
    for (const grid of document.querySelectorAll("svg.grid")) {
      if (!grid.querySelector("a[tabindex='0']")) enter(grid, cells(grid).find((one) => one === document.activeElement) ?? cells(grid).at(-1));
    }
  }
  document.addEventListener("keydown", (event) => {
    const link = event.target.closest?.("svg.grid a");
    const [right, down] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key] ?? [0, 0];
    if (!link || (!right && !down)) return;
    event.preventDefault();
    const grid = link.closest("svg"), [x, y] = place(link);
    const ahead = cells(grid).map((one) => [one, ...place(one)]).filter(([, left, top]) =>
      right ? Math.abs(top - y) < 2 && (left - x) * right > 2 : Math.abs(left - x) < 2 && (top - y) * down > 2);
    ahead.sort(([, a, b], [, c, d]) => Math.abs(a - x) + Math.abs(b - y) - Math.abs(c - x) - Math.abs(d - y));
    if (!ahead.length) return;
    enter(grid, ahead[0][0]);
    ahead[0][0].focus();
  });
  document.addEventListener("htmx:after:swap", prepare);
  prepare();
})();
