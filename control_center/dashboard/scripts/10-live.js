"use strict";
/* Regions follow what happens. One socket tells of changes; each region that names the topic fetches itself anew, four times a
   second at most. Without a socket the page looks every five seconds; hidden, it does nothing at all. */
(() => {
  const root = document.documentElement.dataset.root;
  const button = document.getElementById("live");
  const SOON = 250, POLL = 5000, HIDDEN = 60000;
  let socket = null, mode = "connecting", paused = localStorage.getItem("afu9-live") === "paused";
  let tries = 0, reopen = 0, sleep = 0, heard = 0, beat = 20000;
  const waiting = new Map(), fetched = new Map(), began = Date.now();

  const regions = () => [...document.querySelectorAll("[data-live]:not([data-live=''])")];
  const topics = () => [...new Set(regions().flatMap((one) => one.dataset.live.split(" ")))];

  function refresh(region) {
    if (waiting.has(region.id) || document.hidden || paused) return;
    waiting.set(region.id, setTimeout(() => {
      waiting.delete(region.id);
      const now = document.getElementById(region.id);
      if (now && !document.hidden && !paused) window.afu9.renew(now);
    }, SOON));
  }
  const refreshAll = () => regions().forEach(refresh);

  function show() {
    if (!regions().length) return;
    const word = paused ? "paused" : mode;
    button.hidden = false;
    button.dataset.mode = word;
    button.textContent = ({ live: "● live", polling: "◌ polling", paused: "‖ paused", connecting: "◌ connecting" })[word];
    button.setAttribute("aria-pressed", String(paused));
    button.title = paused ? "Follow again (p)" : "Stop following (p)";
  }

  function open() {
    clearTimeout(reopen);
    if (socket || paused || document.hidden || !regions().length) return;
    const address = new URL(root + "/api/workflow/ws", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const mine = socket = new WebSocket(address);
    mine.onopen = () => mine.send(JSON.stringify({ op: "subscribe", topics: topics(), after: {} }));
    mine.onmessage = (frame) => {
      heard = Date.now();
      const said = JSON.parse(frame.data);
      for (const message of Array.isArray(said) ? said : [said]) hear(message);
    };
    mine.onclose = (end) => {
      if (socket !== mine) return;
      socket = null;
      mode = "polling";
      show();
      if (end.code === 4401) { refreshAll(); return; }
      reopen = setTimeout(open, Math.min(15000, 250 * 2 ** tries++) * (0.5 + Math.random()));
    };
  }

  function hear(message) {
    if (message.op === "hello") { tries = 0; mode = message.mode; beat = 2 * message.heartbeatMs; show(); }
    if (message.op === "mode") { mode = message.mode; show(); refreshAll(); }
    if (["subscribed", "event", "resync"].includes(message.op)) {
      regions().filter((one) => one.dataset.live.split(" ").includes(message.topic)).forEach(refresh);
    }
  }

  function close() {
    const old = socket;
    socket = null;
    old?.close();
  }

  button.onclick = () => {
    paused = !paused;
    localStorage.setItem("afu9-live", paused ? "paused" : "live");
    if (paused) close(); else { open(); refreshAll(); }
    show();
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(sleep);
    if (document.hidden) { sleep = setTimeout(close, HIDDEN); return; }
    open();
    refreshAll();
  });

  setInterval(() => {
    if (document.hidden || paused) return;
    if (socket?.readyState === WebSocket.OPEN && Date.now() - heard > beat) close();
    if (!socket) { mode = "polling"; show(); open(); }
    if (mode !== "live") refreshAll();
  }, POLL);

  /* Regions with data-every change without being told of: they are fetched after so many seconds. */
  setInterval(() => {
    for (const region of document.querySelectorAll("[data-every]")) {
      if (Date.now() - (fetched.get(region.id) ?? began) < 1000 * region.dataset.every) continue;
      fetched.set(region.id, Date.now());
      refresh(region);
    }
  }, 1000);

  /* What screen readers hear: of the run that is watched, that its status changed; and what a page says itself. */
  let silence = 0, said = document.querySelector("[data-said]")?.dataset.said;
  function say(text) {
    const place = document.getElementById("say");
    place.textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => { place.textContent = ""; }, 6000);
  }
  document.addEventListener("htmx:after:swap", () => {
    const now = document.querySelector("[data-said]")?.dataset.said;
    if (now && now !== said) say(`now ${now}`);
    said = now;
  });

  window.afu9 = { ...window.afu9, refresh, refreshAll, say, renew: (region) => htmx.trigger(region, "refresh") };
  show();
  open();
})();
