"use strict";
/* The keyboard, and the dialogs that it opens. Off inside fields; no key changes anything but the page. */
(() => {
  const GO = { e: "executions", w: "workflows", a: "analytics", q: "queues" };
  const root = document.documentElement.dataset.root;
  const palette = document.getElementById("palette"), help = document.getElementById("help");
  const text = document.getElementById("palette-text"), found = document.getElementById("palette-found");
  let waits = false, chosen = 0, asked = 0, recent = [];

  const click = (selector) => document.querySelector(selector)?.click();
  const rows = () => [...document.querySelectorAll("[data-row]")];

  function move(by) {
    const all = rows(), at = all.findIndex((row) => row.contains(document.activeElement));
    const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + by))];
    next?.querySelector("a")?.focus();
  }

  function tick() {
    document.activeElement.closest("[data-row]")?.querySelector("input[type=checkbox]")?.click();
  }

  const KEYS = {
    "/": () => { const field = document.querySelector("[data-search]"); field ? field.focus() : openPalette(); },
    j: () => move(1),
    k: () => move(-1),
    x: tick,
    c: () => click("[data-key=c]:not([disabled])"),
    ".": () => document.querySelector(".actions a, .actions button:not([disabled]), .bulk button:not([disabled])")?.focus(),
    p: () => click("#live:not([hidden])"),
    t: () => click("#zone"),
    "?": () => help.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      openPalette();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    if (waits) {
      waits = false;
      if (GO[event.key]) click(`nav a[href="${root}/ui/${GO[event.key]}"]`);
      return;
    }
    if (event.key === "g") { waits = true; setTimeout(() => { waits = false; }, 1500); return; }
    if (!Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  function openPalette() {
    if (palette.open) return;
    help.close();
    text.value = "";
    palette.showModal();
    show();
    ask();
  }

  /* Recent executions, or those that the text finds; the newest question's answer counts. */
  async function ask() {
    const mine = ++asked, typed = text.value.trim();
    const query = typed.length > 1 ? `?limit=8&q=${encodeURIComponent(typed)}` : "?limit=8";
    const answer = await fetch(found.dataset.recent + query).catch(() => null);
    if (mine !== asked || !answer?.ok) return;
    recent = (await answer.json()).executions;
    show();
  }

  function show() {
    const typed = text.value.trim(), lower = typed.toLowerCase();
    const pages = [...document.querySelectorAll("nav[aria-label=Main] a")].map((link) => [link.textContent, link.href]);
    const items = pages.filter(([name]) => name.toLowerCase().includes(lower));
    if (/^[0-9a-f-]{4,36}$/i.test(typed)) items.unshift([`the execution ${typed}`, `${root}/ui/executions?q=${typed}`]);
    items.push(...recent.map((one) => [`${one.status} · ${one.title ?? one.workflow ?? one.id}`, `${root}/ui/executions/${one.id}`]));
    if (typed.length > 1) items.push([`search for ${typed}`, `${root}/ui/executions?q=${encodeURIComponent(typed)}`]);
    chosen = 0;
    found.replaceChildren(...items.map(([words, address], index) => {
      const link = Object.assign(document.createElement("a"), { textContent: words, href: address, tabIndex: -1 });
      const item = document.createElement("li");
      link.id = `palette-${index}`;
      link.setAttribute("role", "option");
      item.setAttribute("role", "presentation");
      item.append(link);
      return item;
    }));
    mark();
  }

  function mark() {
    const links = found.querySelectorAll("a");
    links.forEach((link, index) => link.setAttribute("aria-selected", String(index === chosen)));
    if (links[chosen]) text.setAttribute("aria-activedescendant", links[chosen].id);
    links[chosen]?.scrollIntoView({ block: "nearest" });
  }

  text.addEventListener("input", () => { show(); const mine = ++asked; setTimeout(() => { if (mine === asked) ask(); }, 200); });
  text.addEventListener("keydown", (event) => {
    const links = found.querySelectorAll("a"), by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by && links.length) { event.preventDefault(); chosen = (chosen + by + links.length) % links.length; mark(); }
    if (event.key === "Enter" && links[chosen]) { event.preventDefault(); links[chosen].click(); }
  });
  for (const dialog of [palette, help]) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const [id, open] of [["find", openPalette], ["keys", () => help.showModal()]]) {
    const button = document.getElementById(id);
    button.hidden = false;
    button.onclick = open;
  }
})();
