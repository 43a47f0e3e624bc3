// The frame of every page: theme, menus, and times that keep counting.
"use strict";

(() => {
  const root = document.documentElement;

  // Theme: kept in a cookie, so that the server writes it into the page and the first paint is right.
  function setTheme(theme) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-set-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
    }
    document.dispatchEvent(new CustomEvent("theme:changed"));
  }

  document.getElementById("theme-menu").hidden = false;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.dispatchEvent(new CustomEvent("theme:changed"));
  });

  // Menus are <details>: they open without this script, which only closes them again.
  function closeMenus(except) {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (menu !== except) menu.open = false;
    }
  }

  document.addEventListener("click", (event) => {
    closeMenus(event.target.closest("details.menu"));
    const choice = event.target.closest("[data-set-theme]");
    if (choice) setTheme(choice.dataset.setTheme);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.activeElement && document.activeElement.closest("details.menu[open]");
    closeMenus();
    if (menu) menu.querySelector("summary").focus();
  });

  // Times: the server says what time it is. Only the time since then is measured here, so a visitor's
  // clock that is wrong makes nothing wrong.
  let asOf = 0;
  let arrived = 0;

  function syncClock() {
    const text = document.querySelector("[data-as-of]");
    if (!text) return;
    asOf = Date.parse(text.dataset.asOf);
    arrived = performance.now();
    tick();
  }

  function ago(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 1) return "just now";
    for (const [unit, size] of [["days", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
      const amount = Math.floor(whole / size);
      if (amount) return `${amount}\u00a0${unit === "days" && amount === 1 ? "day" : unit} ago`;
    }
    return "just now";
  }

  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function tick() {
    if (!arrived) return;
    const elapsed = (performance.now() - arrived) / 1000;
    for (const text of document.querySelectorAll("[data-as-of]")) write(text, `updated ${ago(elapsed)}`);
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const seconds = (asOf - Date.parse(time.dateTime)) / 1000 + elapsed;
      if (seconds >= 0) write(time, ago(seconds));
    }
  }

  syncClock();
  setInterval(tick, 1000);
  document.addEventListener("page:refreshed", syncClock);

  // The tab says that something needs attention when nobody looks at the page.
  function showAttention() {
    const verdict = document.querySelector("[data-page-title]");
    if (!verdict) return;
    document.title = verdict.dataset.pageTitle;
    const icon = document.querySelector("link[rel=icon]");
    const href = "needsAttention" in verdict.dataset ? icon.dataset.attention : icon.dataset.calm;
    if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
  }

  showAttention();
  document.addEventListener("page:refreshed", showAttention);
})();
