"use strict";
/* Rows that someone reads do not move. While the reader has scrolled, ticked, typed or points at a row, rows that are there
   are brought up to date where they stand, and new ones are counted; a click shows them. */
(() => {
  const fresh = (region) => document.getElementById(`${region.id}-new`);
  const typing = () => document.activeElement?.closest("#filters") && document.activeElement.matches("input");

  function holds(region) {
    return region.querySelector("tbody")
      && (window.scrollY > 80 || region.querySelector("tbody :checked, [name=all]:checked") || typing()
        || region.querySelector("tbody").matches(":hover, :focus-within"));
  }

  async function patch(region) {
    const address = region.getAttribute("hx-get");
    const answer = await fetch(address, { headers: { "HX-Request": "true" } }).catch(() => null);
    if (answer?.headers.get("HX-Redirect")) { location.assign(answer.headers.get("HX-Redirect")); return; }
    if (answer?.status !== 200) return;
    const read = new DOMParser().parseFromString(await answer.text(), "text/html");
    const strip = read.querySelector(".strip");
    if (strip) region.querySelector(".strip").replaceChildren(...strip.childNodes);
    let news = 0, known = false;
    for (const row of read.querySelectorAll("[data-row]")) {
      const old = document.getElementById(row.id);
      known ||= old !== null;
      if (!known) news += 1;
      if (!old) continue;
      const cells = [...row.cells];
      [...old.cells].forEach((cell, index) => {
        if (index && !cell.contains(document.activeElement)) cell.replaceChildren(...cells[index].childNodes);
      });
    }
    document.dispatchEvent(new CustomEvent("htmx:after:swap"));
    tell(region, news);
  }

  function tell(region, news) {
    let pill = fresh(region);
    if (!news) { pill?.remove(); return; }
    if (!pill) {
      pill = Object.assign(document.createElement("button"), { type: "button", id: `${region.id}-new`, className: "pill" });
      pill.onclick = () => {
        for (const box of region.querySelectorAll(":checked")) box.checked = false;
        window.scrollTo({ top: 0 });
        show(region);
        document.getElementById("main").focus();
      };
      region.before(pill);
    }
    pill.textContent = `${news} new`;
  }

  function show(region) {
    fresh(region)?.remove();
    htmx.trigger(region, "refresh");
  }
  function release() {
    for (const region of document.querySelectorAll("[data-hold]")) if (fresh(region) && !holds(region)) show(region);
  }
  /* Where the pointer's cell was just renewed, it comes to what is outside without having gone out. */
  for (const name of ["scrollend", "change", "focusout", "pointerover", "pointerout"]) {
    document.addEventListener(name, () => setTimeout(release, 50), { passive: true });
  }

  window.afu9.renew = (region) => {
    if (region.hasAttribute("data-hold") && holds(region)) patch(region); else show(region);
  };
})();
