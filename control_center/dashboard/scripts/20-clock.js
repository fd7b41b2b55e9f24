"use strict";
/* Times in the reader's zone instead of UTC, the colours by the reader's wish, and how long has run what still runs. */
(() => {
  const zone = document.getElementById("zone"), theme = document.getElementById("theme");
  const page = document.documentElement;
  let local = localStorage.getItem("afu9-zone") === "local";
  const two = (value) => String(value).padStart(2, "0");

  function write(time) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const shown = local
      ? [at.getFullYear(), at.getMonth() + 1, at.getDate(), at.getHours(), at.getMinutes(), at.getSeconds()]
      : [at.getUTCFullYear(), at.getUTCMonth() + 1, at.getUTCDate(), at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds()];
    const [year, month, day, hour, minute, second] = shown.map(two);
    const text = shown[0] === new Date().getUTCFullYear()
      ? `${month}-${day} ${hour}:${minute}:${second}` : `${year}-${month}-${day} ${hour}:${minute}`;
    if (time.textContent !== text) time.textContent = text;
  }
  function writeAll() {
    document.querySelectorAll("time").forEach(write);
    zone.textContent = local ? Intl.DateTimeFormat().resolvedOptions().timeZone : "UTC";
  }

  function lasted(since) {
    const seconds = Math.max(0, (Date.now() - Date.parse(since)) / 1000), whole = Math.floor(seconds);
    if (seconds < 60) return seconds < 10 ? `${seconds.toFixed(1)} s` : `${whole} s`;
    for (const [unit, name, small, rest] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
      if (whole < unit) continue;
      const left = Math.floor((whole % unit) / small);
      return `${Math.floor(whole / unit)} ${name}${left ? ` ${left} ${rest}` : ""}`;
    }
  }
  setInterval(() => {
    if (document.hidden || document.getElementById("live").dataset.mode === "paused") return;
    for (const one of document.querySelectorAll("[data-since]")) one.textContent = lasted(one.dataset.since);
  }, 1000);

  zone.hidden = theme.hidden = false;
  zone.onclick = () => {
    local = !local;
    localStorage.setItem("afu9-zone", local ? "local" : "utc");
    writeAll();
  };
  theme.onclick = () => {
    const dark = page.dataset.theme ? page.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    page.dataset.theme = dark ? "light" : "dark";
    document.cookie = `afu9_theme=${page.dataset.theme};path=${page.dataset.root || "/"};max-age=31536000;samesite=lax`;
  };
  document.addEventListener("htmx:after:swap", () => { if (local) writeAll(); });
  writeAll();
})();
