"use strict";
/* Regions with data-every are fetched again after so many seconds, whatever is heard; hidden or paused, they wait. */
(() => {
  const fetched = new Map(), began = Date.now();
  setInterval(() => {
    const now = Date.now();
    for (const region of document.querySelectorAll("[data-every]")) {
      if (now - (fetched.get(region.id) ?? began) < 1000 * region.dataset.every) continue;
      fetched.set(region.id, now);
      window.afu9.refresh(region);
    }
  }, 1000);
})();
