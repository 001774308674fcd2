(function () {
  "use strict";
  function all(selector, root) { return Array.from((root || document).querySelectorAll(selector)); }
  function made(tag, words, name) {
    var node = document.createElement(tag);
    if (words) node.textContent = words;
    if (name) node.className = name;
    return node;
  }

  // Light or dark: as the system has it, until the reader chooses. Nothing is stored, so a page behaves alike everywhere.
  var root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  var theme = made("button", "", "theme controls");
  theme.type = "button";
  function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }
  function named() { theme.textContent = dark() ? "Light colours" : "Dark colours"; }
  theme.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; named(); });
  system.addEventListener("change", named);
  named();
  document.querySelector("main").prepend(theme);

  // What a mark means: the browser's own hover text comes late and not by the keyboard, so the same words stand here.
  // Without scripts it remains.
  var tip = made("div");
  tip.id = "tip"; tip.setAttribute("role", "tooltip"); tip.hidden = true;
  document.body.appendChild(tip);
  all("svg title").forEach(function (title) {
    var mark = title.parentNode, link = mark.closest("a");
    mark.setAttribute("data-tip", title.textContent);
    title.remove();
    if (link || mark.closest("summary")) return;
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", mark.getAttribute("data-tip"));
  });
  all("[title]").forEach(function (node) {
    node.setAttribute("data-tip", node.getAttribute("title"));
    node.removeAttribute("title");
    if (!node.closest("summary")) node.tabIndex = 0;
  });
  // Many marks of one figure, row of images or table are one stop of the Tab key; the arrow keys lead from mark to mark.
  // (The listeners are the document's: a figure that had its own would be a stop itself.)
  var together = new WeakMap();
  all(".grid, table.sortable, svg").forEach(function (group) {
    if (group.closest("summary") || group.parentNode.closest("table.sortable")) return;
    var marks = all("[data-tip], svg a", group).filter(function (mark) {
      return !mark.closest("thead") && (mark.tagName === "a" || !mark.closest("a"));
    });
    if (!marks.length) return;
    all("svg", group).concat(group.tagName === "svg" ? [group] : []).forEach(function (svg) {
      if (all("[data-tip]", svg).length) svg.setAttribute("role", "group");
    });
    marks.forEach(function (mark, i) { together.set(mark, marks); mark.setAttribute("tabindex", i ? "-1" : "0"); });
  });
  document.addEventListener("focusin", function (event) {
    (together.get(event.target) || []).forEach(function (mark) {
      mark.setAttribute("tabindex", mark === event.target ? "0" : "-1");
    });
  });
  document.addEventListener("keydown", function (event) {
    var marks = together.get(event.target), next = marks && neighbour(marks, event.target, event.key);
    if (next) { event.preventDefault(); next.focus(); }
  });
  function middle(box) { return { x: box.left + box.width / 2, y: box.top + box.height / 2 }; }
  // The nearest mark that lies straight that way, else the next or the one before.
  function neighbour(marks, here, key) {
    if (key === "Home") return marks[0];
    if (key === "End") return marks[marks.length - 1];
    var ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, way = ways[key];
    if (!way) return null;
    var box = here.getBoundingClientRect(), from = middle(box), best = null, least = Infinity;
    marks.forEach(function (mark) {
      var to = middle(mark.getBoundingClientRect()), along = (to.x - from.x) * way[0] + (to.y - from.y) * way[1];
      var straight = way[0] ? to.y > box.top && to.y < box.bottom : to.x > box.left && to.x < box.right;
      if (mark !== here && straight && along > 0.5 && along < least) { least = along; best = mark; }
    });
    return best || marks[marks.indexOf(here) + (key === "ArrowLeft" || key === "ArrowUp" ? -1 : 1)];
  }
  function show(node, x, y) {
    tip.hidden = !node;
    if (!node) return;
    tip.textContent = node.getAttribute("data-tip");
    if (x + tip.offsetWidth + 14 > innerWidth - 8) x = Math.max(4, x - tip.offsetWidth - 24);
    if (y + tip.offsetHeight + 16 > innerHeight - 8) y = Math.max(4, y - tip.offsetHeight - 26);
    tip.style.left = Math.max(4, x + 14) + "px"; tip.style.top = Math.max(4, y + 16) + "px";
  }
  function tipped(event) {
    var node = event.target.closest && event.target.closest("[data-tip], svg a");
    return node && (node.hasAttribute("data-tip") ? node : node.querySelector("[data-tip]"));
  }
  document.addEventListener("pointermove", function (event) { show(tipped(event), event.clientX, event.clientY); });
  document.addEventListener("focusin", function (event) {
    var node = tipped(event);
    if (!node) { tip.hidden = true; return; }
    if (!node.closest("svg")) event.target.setAttribute("aria-describedby", "tip");
    var box = node.getBoundingClientRect();
    show(node, box.left + box.width / 2, box.bottom - 10);
  });
  document.addEventListener("focusout", function (event) {
    tip.hidden = true;
    if (event.target.getAttribute("aria-describedby") === "tip") event.target.removeAttribute("aria-describedby");
  });
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") tip.hidden = true; });
  document.addEventListener("scroll", function () { tip.hidden = true; }, true);

  // Tables: a column sorts by its head; a long one begins with its first rows; names are found by typing.
  function number(words) {
    var found = words.replace(/−/g, "-").match(/-?\d+(\.\d+)?/);
    return found ? parseFloat(found[0]) - (words.indexOf("<") >= 0 ? 1e-9 : 0) : null;
  }
  function compared(a, b, numeric) {
    if (!numeric) return a.localeCompare(b);
    var x = number(a), y = number(b);
    return x === null ? (y === null ? 0 : 1) : y === null ? -1 : x - y;
  }
  all("table.sortable").forEach(function (table) {
    var body = table.tBodies[0], heads = all("thead th", table), first = +table.dataset.first || 0;
    var whole = !first || body.rows.length <= first, wanted = "";
    function seen() {
      all("tr", body).forEach(function (row, i) {
        var name = row.cells[0].textContent.toLowerCase();
        row.hidden = wanted ? name.indexOf(wanted) < 0 : !whole && i >= first;
      });
    }
    heads.forEach(function (head, column) {
      if ("still" in head.dataset) return;
      var button = made("button", head.textContent, "sort"), numeric = head.classList.contains("num");
      button.type = "button";
      if (head.dataset.tip) { button.dataset.tip = head.dataset.tip; head.removeAttribute("data-tip"); }
      head.removeAttribute("tabindex");
      head.textContent = ""; head.appendChild(button);
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : numeric;
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        all("tr", body).map(function (row) { return [row.cells[column].textContent.trim(), row]; })
          .sort(function (a, b) {
            var none = numeric && (number(a[0]) === null) - (number(b[0]) === null);
            return none || (down ? -1 : 1) * compared(a[0], b[0], numeric);
          })
          .forEach(function (pair) { body.appendChild(pair[1]); });
        seen();
      });
    });
    var bar = made("div", "", "bar controls"), place = table.closest(".scroll") || table;
    if (table.dataset.filter && body.rows.length > 8) {
      var box = made("input", "", "find");
      box.type = "search"; box.placeholder = "find " + table.dataset.filter;
      box.setAttribute("aria-label", "find " + table.dataset.filter + ": " + (table.caption || table).textContent.trim());
      box.addEventListener("input", function () { wanted = box.value.trim().toLowerCase(); seen(); });
      bar.appendChild(box);
    }
    if (!whole) {
      var more = made("button", "Show all " + body.rows.length, "more");
      more.type = "button";
      more.setAttribute("aria-expanded", "false");
      more.addEventListener("click", function () {
        whole = !whole;
        more.textContent = whole ? "Show the first " + first : "Show all " + body.rows.length;
        more.setAttribute("aria-expanded", String(whole));
        seen();
      });
      bar.appendChild(more);
    }
    if (bar.childNodes.length) place.parentNode.insertBefore(bar, place);
    seen();
  });
  var find = document.querySelector("input.cards-find");
  if (find) {
    find.hidden = false;
    find.addEventListener("input", function () {
      all(".cards > details").forEach(function (card) {
        card.hidden = card.dataset.head.indexOf(find.value.trim().toLowerCase()) < 0;
      });
    });
  }

  // Commands: copied by a button; where the browser forbids that, they are selected.
  all("pre.command").forEach(function (block) {
    var button = made("button", "Copy", "copy controls"), text = block.textContent;
    button.type = "button";
    button.setAttribute("aria-label", "Copy the command " + text.split(" ").slice(0, 2).join(" "));
    button.addEventListener("click", function () {
      function select() { getSelection().selectAllChildren(block.querySelector("code")); }
      function told() { button.textContent = "Copied"; setTimeout(function () { button.textContent = "Copy"; }, 2000); }
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(told, select); else select();
    });
    block.tabIndex = 0;
    block.parentNode.insertBefore(button, block);
  });

  function openTarget() {
    var node = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (var up = node; up; up = up.parentNode) if (up.tagName === "DETAILS") up.open = true;
    if (node) { node.tabIndex = -1; node.focus({ preventScroll: true }); node.scrollIntoView(); }
  }
  addEventListener("hashchange", openTarget); openTarget();

  // On paper everything is unfolded.
  var closed = [];
  function unfold() {
    closed = closed.concat(all("details:not([open])"));
    closed.forEach(function (node) { node.open = true; });
  }
  function fold() { closed.forEach(function (node) { node.open = false; }); closed = []; }
  addEventListener("beforeprint", unfold);
  addEventListener("afterprint", fold);
  matchMedia("print").addEventListener("change", function (event) { if (event.matches) unfold(); else fold(); });
})();
