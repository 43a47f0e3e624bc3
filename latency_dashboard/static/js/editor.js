// The budget editor: adds up while somebody types, moves rows without a reload, and asks the server for the
// preview when typing pauses. Without this script the same buttons go to the server.
"use strict";

(() => {
  const form = document.getElementById("editor");
  if (!form) return;

  const PREVIEW_AFTER_MS = 400;
  const PARTS = 6; // colours, before the first comes again
  const MAX_ROWS = 50;
  const SVG = "http://www.w3.org/2000/svg";
  const rows = form.querySelector("[data-rows]");
  const preview = document.getElementById("preview");
  const previewState = form.querySelector("[data-preview-state]");
  const announcer = document.getElementById("announcer");

  // Milliseconds as budgets/quantities.py reads them; NaN for what it would refuse.
  const UNITS = {
    "": 1, ms: 1, msec: 1, millisecond: 1, milliseconds: 1,
    s: 1e3, sec: 1e3, secs: 1e3, second: 1e3, seconds: 1e3,
    min: 6e4, mins: 6e4, minute: 6e4, minutes: 6e4, h: 36e5, hour: 36e5, hours: 36e5,
  };
  const GROUPED = /^\d{1,3}([.,' ])\d{3}(?:\1\d{3})*$/;

  function readMs(text) {
    const clean = text.trim().replace(/\s+/g, " ").replaceAll("\u2019", "'").toLowerCase();
    const match = /^([\d.,' ]*?) ?([a-z]*)$/.exec(clean);
    if (!match || clean.length > 40 || !Object.hasOwn(UNITS, match[2])) return NaN;
    const typed = readNumber(match[1].trim()) * UNITS[match[2]];
    const ms = thousandths(typed);
    const isFiner = Math.abs(typed - ms) > 1e-6;
    return ms > 0 && ms <= 604800000 && !isFiner ? ms : NaN;
  }

  function readNumber(text) {
    if (/^\d+$/.test(text)) return Number(text);
    if (/^[1-9]\d{0,2}[.,]\d{3}$/.test(text)) return NaN; // three, or three thousand
    const at = Math.max(text.lastIndexOf("."), text.lastIndexOf(","));
    if (at >= 0 && /^\d+$/.test(text.slice(at + 1))) {
      const whole = text.slice(0, at);
      const grouped = GROUPED.exec(whole);
      if (/^\d*$/.test(whole) || (grouped && grouped[1] !== text[at])) {
        return Number(`${whole.replace(/\D/g, "") || 0}.${text.slice(at + 1)}`);
      }
    }
    return GROUPED.test(text) ? Number(text.replace(/\D/g, "")) : NaN;
  }

  // Sums of decimals come without the noise of binary ones; finer than this nothing is accepted.
  function thousandths(ms) {
    return Math.round(ms * 1000) / 1000;
  }

  function written(ms) {
    const [whole, rest] = String(thousandths(ms)).split(".");
    const grouped = whole.length > 4 ? whole.replace(/\B(?=(\d{3})+$)/g, ",") : whole;
    return rest ? `${grouped}.${rest}` : grouped;
  }

  // -- sums ------------------------------------------------------------------------------------------

  function milestone(name) {
    const fields = form.querySelector(`[data-milestone="${name}"]`);
    return {
      name,
      label: fields.querySelector("legend").textContent,
      isOn: fields.querySelector("[data-on]").checked,
      budget: readMs(fields.querySelector("[data-budget-ms]").value),
    };
  }

  function readRows() {
    return [...rows.children].map((row, position) => {
      const typed = row.querySelector("[data-ms]").value;
      return {
        row,
        position,
        name: row.querySelector("[data-name]").value.trim(),
        under: row.querySelector("[data-under]").value,
        isBlank: !typed.trim(),
        ms: readMs(typed),
      };
    });
  }

  function update() {
    const all = readRows();
    const first = milestone("first_token");
    const complete = milestone("complete");
    for (const each of [first, complete]) showSum(each, each === complete && first.isOn ? first : null, all);
    for (const each of all) showRow(each, each.under === "first_token" ? first : complete);
  }

  function showSum(each, block, all) {
    const place = form.querySelector(`[data-sum="${each.name}"]`);
    place.hidden = !each.isOn;
    if (!each.isOn) return;
    const own = all.filter((one) => one.under === each.name && !one.isBlank);
    const words = place.querySelector("[data-words]");
    const isKnown = each.budget > 0 && own.every((one) => one.ms > 0) && (!block || block.budget > 0);
    place.querySelector("[data-budget]").textContent = each.budget > 0 ? `${written(each.budget)}\u00a0ms` : "";
    const blockMs = block && isKnown ? block.budget : 0;
    const used = thousandths(blockMs + own.reduce((sum, one) => sum + (one.ms || 0), 0));
    const left = thousandths(each.budget - used);
    place.classList.toggle("sum-over", isKnown && left < 0);
    if (isKnown) {
      const icon = document.createElement("span");
      icon.className = "sum-icon";
      icon.ariaHidden = "true";
      icon.textContent = left < 0 ? "✕" : left === 0 ? "✓" : "◇";
      const text = left < 0 ? `${written(-left)}\u00a0ms over` : `unallocated ${written(left)}\u00a0ms`;
      words.replaceChildren(icon, ` ${text}`);
      drawBar(place, each, blockMs, own, used, left, text);
    } else {
      words.textContent = "cannot be added up yet";
    }
  }

  function drawBar(place, each, blockMs, own, used, left, text) {
    const whole = Math.max(each.budget, used);
    const parts = own.map((one) => [one.name, one.ms, String(one.position % PARTS)]);
    if (blockMs) parts.unshift(["First token", blockMs, "block"]);
    if (left > 0) parts.push(["unallocated", left, "free"]);
    let x = 0;
    const drawn = parts.map(([label, ms, part]) => {
      // A picture within the picture: what does not fit into it is cut off.
      const box = element("svg", { x: percent(x / whole), width: percent(ms / whole), height: 32 });
      x += ms;
      const name = element("text", { x: 6, y: 21 });
      name.textContent = label;
      box.append(element("rect", { class: `part part-${part}`, y: 4, width: "100%", height: 24 }), name);
      return box;
    });
    const at = percent(each.budget / whole);
    const bar = place.querySelector("[data-bar]");
    bar.replaceChildren(...drawn, element("line", { class: "limit", x1: at, x2: at, y1: 0, y2: 32 }));
    // Half a name says less than none: the row has it beside the same colour.
    for (const box of drawn) {
      const name = box.lastChild;
      if (name.getComputedTextLength() + 8 > box.firstChild.getBoundingClientRect().width) name.remove();
    }
    const said = parts.map(([label, ms]) => `${label} ${written(ms)} ms`).join(", ");
    bar.setAttribute("aria-label", `${each.label}, ${written(each.budget)} ms: ${said}. ${text}.`);
  }

  function element(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function percent(ratio) {
    return `${(100 * ratio).toFixed(3)}%`;
  }

  function showRow({ row, position, name, ms, isBlank }, under) {
    const hasShare = !isBlank && ms > 0 && under.isOn && under.budget > 0;
    const share = hasShare ? (100 * ms) / under.budget : 0;
    row.querySelector("[data-share]").textContent = hasShare ? `${share >= 99.95 ? share.toFixed(0) : share.toPrecision(3)}\u00a0%` : "";
    row.querySelector(".swatch").setAttribute("class", `swatch part-${position % PARTS}`);
    const p99 = Number(row.dataset.p99);
    row.querySelector("[data-hint]").textContent = hasShare && p99 > ms ? "▲ p99 is over it" : "";
    const was = row.dataset.was;
    row.querySelector("[data-renamed]").hidden = !was || name === was.trim();
    for (const label of row.querySelectorAll("[data-label]")) label.textContent = name || "this component";
  }

  // -- rows ------------------------------------------------------------------------------------------

  let added = 0;

  function addRow(name = "", from = null) {
    const row = document.getElementById("blank-row").content.firstElementChild.cloneNode(true);
    added += 1;
    for (const attribute of ["id", "for", "aria-describedby"]) {
      for (const each of row.querySelectorAll(`[${attribute}]`)) {
        each.setAttribute(attribute, each.getAttribute(attribute).replace("-new-", `-n${added}-`));
      }
    }
    const on = [...form.querySelectorAll("[data-milestone]")].find((m) => m.querySelector("[data-on]").checked);
    if (on) row.querySelector("[data-under]").value = on.dataset.milestone;
    row.querySelector("[data-name]").value = name;
    if (from) {
      row.dataset.p99 = from.dataset.p99;
      const hint = row.querySelector("[data-hint]");
      const seen = from.closest("li").querySelector("[data-observed]").cloneNode(true);
      row.querySelector(".part-observed").replaceChildren(...seen.childNodes, hint);
    }
    rows.append(row);
    row.querySelector(name ? "[data-ms]" : "[data-name]").focus();
  }

  function removeRow(row) {
    const next = row.nextElementSibling || row.previousElementSibling;
    row.remove();
    (next ? next.querySelector("[data-name]") : form.querySelector('[data-do="add"]')).focus();
  }

  function moveRow(row, button) {
    const isUp = button.dataset.do === "up";
    const other = isUp ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (isUp) other.before(row);
    else other.after(row);
    // At the edge this button is not shown any more.
    const isAtEdge = isUp ? !row.previousElementSibling : !row.nextElementSibling;
    (isAtEdge ? row.querySelector(`[data-do="${isUp ? "down" : "up"}"]`) : button).focus();
    announcer.textContent = `${row.querySelector("[data-name]").value} is number ${[...rows.children].indexOf(row) + 1} of ${rows.children.length}.`;
  }

  form.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do], [data-adopt]");
    if (!button) return;
    event.preventDefault();
    const row = button.closest("[data-row]");
    if (button.dataset.adopt) {
      addRow(button.dataset.adopt, button);
      const list = button.closest("[data-undeclared]");
      button.closest("li").remove();
      list.hidden = !list.querySelector("li");
    } else if (button.dataset.do === "add") addRow();
    else if (button.dataset.do === "remove") removeRow(row);
    else moveRow(row, button);
    form.querySelector('[data-do="add"]').disabled = rows.children.length >= MAX_ROWS;
    changed();
  });

  // -- preview ---------------------------------------------------------------------------------------

  let timer;
  let asking;

  async function showPreview() {
    if (asking) asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    previewState.textContent = "updating …";
    try {
      const html = await askFor("preview", signal);
      // What the rules said last stays in sight until they have said it anew.
      const said = preview.querySelector("[data-replay]");
      preview.innerHTML = html;
      const place = preview.querySelector("[data-replay]");
      if (place && said) place.replaceChildren(...said.childNodes);
      const save = form.querySelector("[data-save]");
      if (save) save.textContent = preview.firstElementChild.dataset.saveLabel;
      previewState.textContent = "";
      announcer.textContent = [...form.querySelectorAll("[data-sum]:not([hidden])")]
        .map((sum) => `${sum.querySelector(".sum-name").textContent}: ${sum.querySelector("[data-words]").textContent.slice(2)}`)
        .join(". ");
    } catch (error) {
      if (error.name !== "AbortError") previewState.textContent = "not available; log in in another tab and go on typing";
      return;
    }
    await showReplay(signal);
  }

  // Takes longer than the rest, so it comes after it.
  async function showReplay(signal) {
    const place = preview.querySelector("[data-replay]");
    if (!place) return;
    const hint = place.querySelector("[data-replay-hint]");
    if (hint) hint.textContent = "Replaying the alert rules …";
    place.setAttribute("aria-busy", "true");
    try {
      const html = await askFor("replay", signal);
      const open = [...place.querySelectorAll("details")].map((details) => details.open);
      place.innerHTML = html;
      place.querySelectorAll("details").forEach((details, n) => { details.open = Boolean(open[n]); });
    } catch (error) {
      if (error.name === "AbortError") return;
      place.innerHTML = '<p class="soft">The replay is not available now.</p>';
    }
    place.setAttribute("aria-busy", "false");
  }

  async function askFor(part, signal) {
    const body = new FormData(form);
    body.set("action", "preview");
    const response = await fetch(location.href, { method: "POST", body, headers: { "X-Preview": part }, signal });
    if (!response.headers.get("X-Page-Part")) throw new Error(`no ${part} came`);
    return response.text();
  }

  function changed() {
    isDirty = true;
    update();
    clearTimeout(timer);
    timer = setTimeout(showPreview, PREVIEW_AFTER_MS);
  }

  form.addEventListener("input", changed);
  form.addEventListener("change", changed);

  // -- the rest --------------------------------------------------------------------------------------

  // The slug follows the name until somebody writes one.
  const slug = form.querySelector("[data-slug]");
  if (slug) {
    const name = document.getElementById("id_name");
    let isProposed = !slug.value || slug.value === proposed(name.value);
    slug.addEventListener("input", () => { isProposed = !slug.value; });
    name.addEventListener("input", () => { if (isProposed) slug.value = proposed(name.value); });
  }

  function proposed(name) {
    return name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase()
      .replace(/[^a-z0-9_\s-]/g, "").trim().replace(/[-\s]+/g, "-").slice(0, 200);
  }

  // What is typed is not lost by a link that was hit by mistake.
  let isDirty = Boolean(document.querySelector(".problems-panel, .conflict"));
  form.addEventListener("submit", () => { isDirty = false; });
  addEventListener("beforeunload", (event) => { if (isDirty) event.preventDefault(); });

  addEventListener("resize", update);

  // The preview comes by itself now.
  form.querySelector("[data-preview]").hidden = true;
  update();
  if (preview.querySelector("[data-replay-missing]")) {
    asking = new AbortController();
    showReplay(asking.signal);
  }
  const here = document.querySelector("[data-focus]");
  if (here) here.focus();
})();
