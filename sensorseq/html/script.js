(function () {
  "use strict";
  var root = document.documentElement, toggle = document.getElementById("theme");
  var system = matchMedia("(prefers-color-scheme:dark)"), spoken = document.getElementById("spoken");
  function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }
  function label() { toggle.textContent = dark() ? "light colors" : "dark colors"; }
  label();
  toggle.hidden = false;
  toggle.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  function announce(words, button) {
    spoken.textContent = "";
    setTimeout(function () { spoken.textContent = words; }, 30);
    button.textContent = words;
    setTimeout(function () { button.textContent = "copy"; }, 2500);
  }
  function select(code, button) {
    var range = document.createRange(), chosen = getSelection(), copied = false;
    range.selectNodeContents(code);
    chosen.removeAllRanges();
    chosen.addRange(range);
    try { copied = document.execCommand("copy"); } catch (error) { copied = false; }
    announce(copied ? "copied" : "selected; copy with Ctrl+C", button);
  }
  document.querySelectorAll("button[data-copies]").forEach(function (button) {
    var code = document.getElementById(button.dataset.copies);
    button.hidden = false;
    button.addEventListener("click", function () {
      if (!navigator.clipboard) { select(code, button); return; }
      navigator.clipboard.writeText(code.textContent).then(
        function () { announce("copied", button); }, function () { select(code, button); });
    });
  });
  function second(at) { return at === 0 ? "0" : +at.toPrecision(9) + " s"; }
  function tick(seconds, zoom) {
    var from = +seconds.dataset.from, to = +seconds.dataset.to, rough = (to - from) / zoom / 6;
    var power = Math.pow(10, Math.floor(Math.log10(rough)));
    var step = [1, 2, 5, 10].find(function (m) { return m * power >= rough; }) * power;
    seconds.textContent = "";
    for (var i = Math.ceil(from / step); i * step <= to; i += 1) {
      var mark = document.createElement("span");
      mark.style.left = 100 * (i * step - from) / (to - from) + "%";
      mark.textContent = second(i * step);
      seconds.append(mark);
    }
  }
  document.querySelectorAll(".drive").forEach(function (drive) {
    var slider = drive.querySelector(".zoom input"), wide = drive.querySelector(".stretch");
    var view = wide.parentElement;
    slider.parentElement.hidden = false;
    slider.addEventListener("input", function () {
      var middle = (view.scrollLeft + view.clientWidth / 2) / wide.clientWidth;
      var zoom = Math.pow(2, slider.value);
      wide.style.width = 100 * zoom + "%";
      tick(drive.querySelector(".seconds"), zoom);
      view.scrollLeft = middle * wide.clientWidth - view.clientWidth / 2;
    });
  });
  var closed = [];
  addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (part) { part.open = true; });
  });
  addEventListener("afterprint", function () { closed.forEach(function (part) { part.open = false; }); });
})();
