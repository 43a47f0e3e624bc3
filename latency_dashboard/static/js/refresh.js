// Keeps a page current: every few seconds while somebody is there, every minute otherwise; never while the page
// is hidden, while somebody types or has paused it. Needs htmx.
"use strict";

(() => {
  const IDLE_EVERY_MS = 60000;
  const IDLE_AFTER_MS = 120000;

  const source = document.querySelector("[data-live]");
  if (!source) return;

  const activeEveryMs = 1000 * Number(source.dataset.live);
  // A page that is looked at while somebody works in a terminal beside it says that it goes on.
  const idleEveryMs = source.dataset.liveIdle ? 1000 * Number(source.dataset.liveIdle) : IDLE_EVERY_MS;
  let lastSeen = performance.now();
  let lastAsked = performance.now();
  let isPaused = false;
  let isAsking = false;

  for (const event of ["pointermove", "pointerdown", "keydown", "scroll", "focus"]) {
    addEventListener(event, () => { lastSeen = performance.now(); }, { passive: true });
  }

  function isTyping() {
    const element = document.activeElement;
    return Boolean(element && element.matches("input, textarea, select"));
  }

  function showPause() {
    for (const button of document.querySelectorAll("[data-pause]")) {
      button.hidden = false;
      button.setAttribute("aria-pressed", String(isPaused));
      button.textContent = isPaused ? "Resume" : "Pause";
    }
  }

  function refresh() {
    lastAsked = performance.now();
    isAsking = true;
    htmx.trigger(source, "refresh");
    document.dispatchEvent(new CustomEvent("charts:refresh"));
  }

  function consider() {
    if (isPaused || isAsking || document.hidden || isTyping()) return;
    const now = performance.now();
    const every = now - lastSeen < IDLE_AFTER_MS ? activeEveryMs : idleEveryMs;
    if (now - lastAsked >= every) refresh();
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-pause]")) return;
    isPaused = !isPaused;
    showPause();
    if (!isPaused) consider();
  });

  document.addEventListener("visibilitychange", () => {
    lastSeen = performance.now();
    consider();
  });

  // What a person opened, and where the keyboard is, outlives the exchange of a region.
  let opened = [];
  let focused = "";
  let verdict = "";

  function verdictText() {
    const element = document.querySelector("[data-announce]");
    return element ? element.textContent.replace(/\s+/g, " ").trim() : "";
  }

  document.body.addEventListener("htmx:beforeSwap", () => {
    opened = [...document.querySelectorAll("details[id][open]")].map((details) => details.id);
    focused = document.activeElement ? document.activeElement.id || hrefOf(document.activeElement) : "";
    verdict = verdictText();
  });

  function hrefOf(element) {
    return element.matches("a[href]") ? element.getAttribute("href") : "";
  }

  document.body.addEventListener("htmx:afterRequest", (event) => {
    isAsking = false;
    if (!event.detail.successful) return;
    for (const id of opened) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    if (focused && document.activeElement === document.body) {
      const element = document.getElementById(focused) || document.querySelector(`a[href="${CSS.escape(focused)}"]`);
      if (element) element.focus({ preventScroll: true });
    }
    showPause();
    document.dispatchEvent(new CustomEvent("page:refreshed"));
    const text = verdictText();
    if (text !== verdict) document.getElementById("announcer").textContent = text;
  });

  // A session that has ended answers with the log-in page: go there, rather than show it inside this one.
  document.body.addEventListener("htmx:beforeOnLoad", (event) => {
    if (!event.detail.xhr.getResponseHeader("X-Page-Part")) {
      event.preventDefault();
      if (event.detail.xhr.status < 400) location.reload();
    }
  });

  showPause();
  setInterval(consider, 1000);
})();
