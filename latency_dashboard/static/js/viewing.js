// How a page is looked at: by which clock, at which moment, and with which keys.
"use strict";

(() => {
  const announcer = document.getElementById("announcer");
  const say = (text) => { announcer.textContent = text; };

  // -- time zone: a cookie, so that the server writes every text of the page by it -----------------

  const zoneMenu = document.getElementById("zone-menu");
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;

  function setZone(zone) {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `zone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    location.reload();
  }

  if (zoneMenu) {
    const offered = zoneMenu.querySelector('[data-set-zone=""]');
    if (own && own !== "UTC" && own !== zoneMenu.dataset.zone) {
      offered.dataset.setZone = own;
      offered.textContent = `${own}, as this device`;
      offered.hidden = false;
    }
    zoneMenu.hidden = false;
    document.getElementById("zone-plain").hidden = true;
    zoneMenu.addEventListener("click", (event) => {
      const choice = event.target.closest("[data-set-zone]");
      if (choice && choice.dataset.setZone !== zoneMenu.dataset.zone) setZone(choice.dataset.setZone);
    });
  }

  // -- a link that shows the same tomorrow --------------------------------------------------------

  async function copyMoment(link) {
    // The page may have been refreshed since the link was written.
    const refreshed = document.querySelector("[data-as-of]");
    if (refreshed) {
      const address = new URL(location.href);
      address.searchParams.set("at", `${new Date(refreshed.dataset.asOf).toISOString().slice(0, 19)}Z`);
      link.href = address.href;
    }
    try {
      await navigator.clipboard.writeText(link.href);
    } catch {
      location.assign(link.href); // without a clipboard the address bar has it
      return;
    }
    const before = link.textContent;
    link.textContent = "Copied";
    say("Link to this moment copied");
    setTimeout(() => { link.textContent = before; }, 2500);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-copy-moment]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    copyMoment(link);
  });

  // -- zooming into a chart shows its range, at the same place of the page ------------------------

  const PLACE = "scroll-after-zoom";
  document.addEventListener("chart:zoomed", (event) => {
    const address = new URL(location.href);
    for (const name of ["window", "at"]) address.searchParams.delete(name);
    address.searchParams.set("from", event.detail.from);
    address.searchParams.set("to", event.detail.to);
    sessionStorage.setItem(PLACE, String(scrollY));
    location.assign(address);
  });
  const place = sessionStorage.getItem(PLACE);
  if (place !== null) {
    sessionStorage.removeItem(PLACE);
    scrollTo(0, Number(place));
  }

  // -- keys ----------------------------------------------------------------------------------------

  const dialog = document.getElementById("shortcuts");
  if (!dialog) return;
  document.getElementById("shortcuts-close").addEventListener("click", () => dialog.close());
  const OFF = "shortcuts-off";
  const isOn = document.getElementById("shortcuts-on");
  isOn.checked = localStorage.getItem(OFF) === null;
  isOn.addEventListener("change", () => {
    if (isOn.checked) localStorage.removeItem(OFF);
    else localStorage.setItem(OFF, "1");
  });
  for (const button of document.querySelectorAll("[data-shortcuts]")) {
    button.hidden = false;
    button.addEventListener("click", () => dialog.showModal());
  }

  const rowLinks = () => [...document.querySelectorAll("main tbody tr th a[href], main .row-link")]
    .filter((link) => link.offsetParent !== null);

  function step(by) {
    const links = rowLinks();
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    const next = links[Math.min(links.length - 1, Math.max(0, at + by))];
    (at < 0 ? links[0] : next).focus();
  }

  function press(selector) {
    const element = document.querySelector(selector);
    if (element) element.click();
  }

  const ACTS = {
    "?": () => dialog.showModal(),
    j: () => step(1),
    k: () => step(-1),
    p: () => press("[data-pause]"),
    c: () => press("[data-copy-moment]"),
    u: () => {
      const zone = zoneMenu && zoneMenu.dataset.zone === "UTC" ? own : "UTC";
      if (zoneMenu && zone && zone !== zoneMenu.dataset.zone) setZone(zone);
    },
  };
  let isGoing = 0;

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || dialog.open) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (!isOn.checked && event.key !== "?") return;
    const goal = performance.now() - isGoing < 1500 && document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (goal) {
      isGoing = 0;
      goal.click();
      return;
    }
    isGoing = event.key === "g" ? performance.now() : 0;
    const act = ACTS[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });
})();
