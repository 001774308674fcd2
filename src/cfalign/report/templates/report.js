(function () {
  // The browser's own hover text comes late and small: the same words, at once. Without scripts it remains.
  var tip = document.createElement("div");
  tip.id = "tip"; tip.hidden = true; document.body.appendChild(tip);
  document.querySelectorAll("svg title").forEach(function (title) {
    title.parentNode.setAttribute("data-tip", title.textContent);
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  });
  document.querySelectorAll("[title]").forEach(function (node) {
    node.setAttribute("data-tip", node.getAttribute("title"));
    node.setAttribute("aria-label", node.getAttribute("title"));
    node.removeAttribute("title");
  });
  document.addEventListener("pointermove", function (event) {
    var node = event.target.closest && event.target.closest("[data-tip]");
    tip.hidden = !node;
    if (!node) return;
    tip.textContent = node.getAttribute("data-tip");
    var x = event.clientX + 14, y = event.clientY + 16;
    if (x + tip.offsetWidth > window.innerWidth - 8) x = event.clientX - tip.offsetWidth - 10;
    if (y + tip.offsetHeight > window.innerHeight - 8) y = event.clientY - tip.offsetHeight - 10;
    tip.style.left = Math.max(4, x) + "px"; tip.style.top = Math.max(4, y) + "px";
  });
  var find = document.querySelector(".find");
  if (find) {
    find.hidden = false;
    find.addEventListener("input", function () {
      document.querySelectorAll(".cards > details").forEach(function (card) {
        card.hidden = card.dataset.head.indexOf(find.value.trim().toLowerCase()) < 0;
      });
    });
  }
  function openTarget() {
    var node = location.hash && document.getElementById(location.hash.slice(1));
    if (node && node.tagName === "DETAILS") node.open = true;
  }
  window.addEventListener("hashchange", openTarget); openTarget();
  var closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (node) { node.open = true; });
  });
  window.addEventListener("afterprint", function () { closed.forEach(function (node) { node.open = false; }); });
})();
