(function () {
  "use strict";
  var root = document.documentElement, toggle = document.getElementById("theme");
  var system = matchMedia("(prefers-color-scheme:dark)"), said = document.getElementById("said");
  function dark() { return root.dataset.theme ? root.dataset.theme === "dark" : system.matches; }
  function label() { toggle.textContent = dark() ? "light colours" : "dark colours"; }
  label();
  toggle.hidden = false;
  toggle.addEventListener("click", function () { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  system.addEventListener("change", label);
  function say(words, button) {
    said.textContent = "";
    setTimeout(function () { said.textContent = words; }, 30);
    button.textContent = words;
    setTimeout(function () { button.textContent = "copy"; }, 2500);
  }
  function select(code, button) {
    var range = document.createRange(), chosen = getSelection(), copied = false;
    range.selectNodeContents(code);
    chosen.removeAllRanges();
    chosen.addRange(range);
    try { copied = document.execCommand("copy"); } catch (error) { copied = false; }
    say(copied ? "copied" : "selected; copy with Ctrl+C", button);
  }
  document.querySelectorAll("button[data-copies]").forEach(function (button) {
    var code = document.getElementById(button.dataset.copies);
    button.hidden = false;
    button.addEventListener("click", function () {
      if (!navigator.clipboard) { select(code, button); return; }
      navigator.clipboard.writeText(code.textContent).then(
        function () { say("copied", button); }, function () { select(code, button); });
    });
  });
  var closed = [];
  addEventListener("beforeprint", function () {
    closed = Array.from(document.querySelectorAll("details:not([open])"));
    closed.forEach(function (part) { part.open = true; });
  });
  addEventListener("afterprint", function () { closed.forEach(function (part) { part.open = false; }); });
})();
