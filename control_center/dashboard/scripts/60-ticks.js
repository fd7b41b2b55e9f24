"use strict";
/* How many rows are ticked, and what can be done with so many. */
(() => {
  function count() {
    const form = document.getElementById("many");
    if (!form) return;
    const all = form.querySelector("[name=all]").checked, ticked = form.querySelectorAll("tbody :checked").length;
    const boxes = form.querySelectorAll("tbody input[type=checkbox]");
    form.querySelector("#ticked").textContent = all ? "all that match" : ticked ? `${ticked} ticked` : "";
    form.querySelector("[value=compare]").disabled = all || ticked !== 2;
    const whole = document.getElementById("tick-page");
    whole.hidden = false;
    whole.checked = ticked === boxes.length;
    whole.indeterminate = ticked > 0 && ticked < boxes.length;
  }
  document.addEventListener("change", (event) => {
    if (event.target.id === "tick-page") {
      for (const box of document.querySelectorAll("#many tbody input[type=checkbox]")) box.checked = event.target.checked;
    }
    if (event.target.closest("#many")) count();
  });
  document.addEventListener("htmx:after:swap", count);
  window.addEventListener("pageshow", count);
  count();
})();
