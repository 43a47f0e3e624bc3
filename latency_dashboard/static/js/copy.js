// Copy buttons, and pages that show something once.
"use strict";

(() => {
  const announcer = document.getElementById("announcer");

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    let said = "Press Ctrl+C to copy";
    try {
      await navigator.clipboard.writeText(source.textContent);
      said = button.dataset.copied;
    } catch {
      // Without https, or without leave, a browser has no clipboard for us: what is selected can be copied by hand.
      select(source);
    }
    const before = button.innerHTML;
    button.textContent = said;
    announcer.textContent = said;
    setTimeout(() => {
      button.innerHTML = before;
    }, 2500);
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  // The answer to a form: loaded anew, the page is asked for and the form is not sent a second time. The value
  // is the address of what was made, where that is another than the form's.
  const once = document.querySelector("[data-once]");
  if (once) history.replaceState(null, "", once.dataset.once || location.href);
})();
