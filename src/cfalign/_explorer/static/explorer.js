(function () {
  "use strict";
  // Every part works without this script; with it, what is slow or long-winded becomes quick.
  function each(root, selector, act) { Array.prototype.forEach.call(root.querySelectorAll(selector), act); }

  function theme() {
    var button = document.querySelector(".theme");
    var kept = null;
    try { kept = localStorage.getItem("cfalign-theme"); } catch (error) { /* private windows keep nothing */ }
    if (kept) document.documentElement.dataset.theme = kept;
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", function () {
      var dark = document.documentElement.dataset.theme
        ? document.documentElement.dataset.theme === "dark"
        : window.matchMedia("(prefers-color-scheme: dark)").matches;
      var now = dark ? "light" : "dark";
      document.documentElement.dataset.theme = now;
      try { localStorage.setItem("cfalign-theme", now); } catch (error) { /* as above */ }
    });
  }

  function copies(root) {
    each(root, ".copy", function (button) {
      if (!navigator.clipboard) return;
      button.hidden = false;
      button.addEventListener("click", function () {
        navigator.clipboard.writeText(button.parentNode.querySelector("code").textContent).then(function () {
          button.textContent = "Copied";
        });
      });
    });
  }

  function grids(root) {
    each(root, ".grid", function (grid) {
      var readout = document.querySelector(".readout");
      function tell(link) { if (link && readout) readout.textContent = link.dataset.words; }
      grid.addEventListener("pointerover", function (event) { tell(event.target.closest("a[data-words]")); });
      grid.addEventListener("focusin", function (event) { tell(event.target.closest("a[data-words]")); });
      grid.addEventListener("keydown", function (event) {
        var step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
        var cell = event.target.closest("td");
        if (!step || !cell) return;
        event.preventDefault();
        var row = cell.parentNode, at = cell.cellIndex;
        for (;;) {
          row = step[0] > 0 ? row.nextElementSibling : step[0] < 0 ? row.previousElementSibling : row;
          at += step[1];
          var next = row && row.cells[at];
          if (!next) return;
          var link = next.querySelector("a");
          if (link) {
            event.target.tabIndex = -1;
            link.tabIndex = 0;
            link.focus();
            return;
          }
        }
      });
    });
  }

  function sliders(root) {
    each(root, ".slider", function (slider) {
      var range = slider.querySelector("input"), told = slider.querySelector("output"), bars = slider.querySelector(".bars");
      var images = slider.querySelectorAll("img"), track = JSON.parse(slider.dataset.track || "null");
      slider.classList.add("moving");
      range.hidden = told.hidden = bars.hidden = false;
      var rows = track ? track.heads.map(function (head) {
        var row = document.createElement("div"), name = document.createElement("span");
        var bar = document.createElement("i"), value = document.createElement("b");
        name.textContent = head; name.title = head;
        row.append(name, bar, value); bars.append(row);
        return [bar, value];
      }) : [];
      function show() {
        var at = Number(range.value);
        images.forEach(function (image, i) { image.classList.toggle("now", i === at); });
        if (!track) return;
        var lambda = track.lambdas[at];
        told.textContent = "step " + at + " of " + (images.length - 1) + (lambda === null ? "" : ", λ = " + lambda.toPrecision(3));
        rows.forEach(function (row, i) {
          var score = track.scores[at][i];
          row[0].style.width = Math.max(0, Math.min(1, score)) * 100 + "%";
          row[1].textContent = score.toFixed(2);
        });
        range.setAttribute("aria-valuetext", told.textContent);
      }
      range.addEventListener("input", show);
      show();
    });
  }

  function wake(root) { copies(root); grids(root); sliders(root); }
  theme();
  wake(document);
  document.addEventListener("htmx:afterSwap", function (event) { wake(event.detail.target.isConnected ? event.detail.target : document); });
})();
