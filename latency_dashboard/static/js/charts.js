// Draws charts: fetches a figure when its place comes into view, puts the theme's colours in, and lets
// Plotly.react change only what changed. The bundle itself is fetched with the first chart.
"use strict";

(() => {
  const bundle = document.currentScript.dataset.plotly;
  const NARROW_PX = 420;
  const TICK_PX = 52; // room that the text of a tick takes
  const drawn = new WeakMap(); // figure element → { etag, document, width, isVisible, isStale, isBusy }
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  if (!figures.length) return;

  let loading;

  function plotly() {
    loading ||= new Promise((resolve, reject) => {
      // A map library inside the bundle adds a <style> as it loads. The policy lets in only those with
      // the page's nonce, so while it loads, new ones get it.
      const nonce = document.getElementById("plotly.js-style-global").nonce;
      const createElement = document.createElement;
      document.createElement = function (name, ...rest) {
        const element = createElement.call(document, name, ...rest);
        if (String(name).toLowerCase() === "style") element.nonce = nonce;
        return element;
      };
      const script = createElement.call(document, "script");
      script.src = bundle;
      script.onload = () => {
        document.createElement = createElement;
        resolve(window.Plotly);
      };
      script.onerror = () => {
        document.createElement = createElement;
        loading = undefined;
        reject(new Error("the chart library could not be loaded"));
      };
      document.head.append(script);
    });
    return loading;
  }

  // Colours come as "var(--name)" and only under keys that hold colours, so no text is ever taken for one.
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);

  function themed(value, isColor, cache) {
    if (typeof value === "string") {
      if (!isColor || !value.startsWith("var(--")) return value;
      if (!cache.has(value)) {
        probe.style.color = value;
        cache.set(value, getComputedStyle(probe).color);
      }
      return cache.get(value);
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, isColor, cache));
    if (value && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, themed(item, /color(scale)?$/.test(key), cache)]),
      );
    }
    return value;
  }

  // On a phone with smaller margins, and everywhere with as many of the server's ticks as have room, so
  // that no text lies on another.
  function fitted(layout, width) {
    if (width < NARROW_PX) {
      for (const [key, value] of Object.entries(layout.meta.narrow)) layout[key] = { ...layout[key], ...value };
    }
    // Labels of what happened: as many as have room, the widest place first.
    for (const { below_px, shapes, annotations } of layout.meta.narrower) {
      if (width < below_px) Object.assign(layout, { shapes, annotations });
    }
    const axis = layout.xaxis;
    if (!axis || !axis.tickvals) return layout;
    const room = Math.max(1, Math.floor((width - layout.margin.l - layout.margin.r) / TICK_PX));
    const every = Math.ceil(axis.tickvals.length / room);
    axis.tickvals = axis.tickvals.filter((_, i) => i % every === 0);
    axis.ticktext = axis.ticktext.filter((_, i) => i % every === 0);
    return layout;
  }

  async function draw(figure) {
    const state = drawn.get(figure);
    if (state.isBusy) return;
    state.isBusy = true;
    state.isStale = false;
    try {
      const [library, response] = await Promise.all([
        plotly(),
        fetch(figure.dataset.chart, { cache: "no-cache", headers: { Accept: "application/json" } }),
      ]);
      if (!response.ok) throw new Error(`the server answered ${response.status}`);
      const etag = response.headers.get("ETag");
      if (!etag || etag !== state.etag) {
        state.document = await response.json();
        state.etag = etag;
        await paint(figure, library);
      }
    } catch (error) {
      state.isStale = true;
      if (!state.document) figure.querySelector(".chart-summary").textContent = `Not drawn: ${error.message}. It is tried again at the next update.`;
    } finally {
      state.isBusy = false;
    }
  }

  // Where a page takes a range, dragging over time asks for one: the server counts anew in finer steps. Only with a
  // mouse, because on touch dragging scrolls the page; the same is in the menu of the range.
  const canZoom = Boolean(document.querySelector("[data-range-form]")) && matchMedia("(pointer: fine)").matches;

  function zoomable(layout) {
    if (!canZoom || !layout.xaxis || layout.xaxis.type !== "date") return;
    layout.dragmode = "zoom";
    layout.xaxis.fixedrange = false;
  }

  function askForRange(change) {
    const [from, to] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (!from || !to) return;
    // "2026-11-21 20:00:30.5", and at midnight the day alone.
    const minute = (at, round) => `${new Date(round(Date.parse(`${at.includes(" ") ? at.replace(" ", "T") : `${at}T00:00`}Z`) / 6e4) * 6e4).toISOString().slice(0, 19)}Z`;
    const detail = { from: minute(from, Math.floor), to: minute(to, Math.ceil) };
    document.dispatchEvent(new CustomEvent("chart:zoomed", { detail }));
  }

  async function paint(figure, library) {
    const state = drawn.get(figure);
    const { document: answer } = state;
    const place = figure.querySelector(".chart-plot");
    state.width = place.clientWidth;
    const colors = new Map();
    const data = themed(answer.figure.data, false, colors);
    const layout = fitted(themed(answer.figure.layout, false, colors), state.width);
    zoomable(layout);
    if (state.width) layout.width = state.width; // left to itself, it keeps the first one
    await library.react(place, data, layout, {
      displayModeBar: false,
      responsive: false, // see below: another width has other margins and ticks as well
      scrollZoom: false,
      doubleClick: false,
      showTips: false,
    });
    if (figure.dataset.state !== "drawn" && layout.dragmode === "zoom") place.on("plotly_relayout", askForRange);
    figure.dataset.state = "drawn";
    figure.querySelector(".chart-summary").textContent = answer.summary;
    const numbers = figure.querySelector(".chart-numbers");
    if (numbers.open) tabulate(figure);
  }

  // The numbers: built only where somebody asked for them, and as text, whatever a name contains.
  function tabulate(figure) {
    const state = drawn.get(figure);
    if (!state.document) return;
    const label = figure.querySelector(".chart-plot").getAttribute("aria-label");
    const { table, changes } = state.document;
    const tables = [tableOf(table, label)];
    if (changes.rows.length) tables.push(tableOf(changes, `Changes within: ${label}`));
    figure.querySelector(".table-scroll").replaceChildren(...tables);
  }

  function tableOf({ columns, rows }, label) {
    const table = document.createElement("table");
    const caption = table.createCaption();
    caption.className = "visually-hidden";
    caption.textContent = label;
    const head = table.createTHead().insertRow();
    for (const column of columns) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = column;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      for (const value of row) line.insertCell().textContent = value;
    }
    return table;
  }

  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const state = drawn.get(entry.target);
      state.isVisible = entry.isIntersecting;
      if (state.isVisible && state.isStale) draw(entry.target);
    }
  }, { rootMargin: "300px 0px" });

  // Within the frame in which the width changed, so that nobody sees a chart of the width before.
  const resizing = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const figure = target.closest("figure");
      const { document: answer, width } = drawn.get(figure);
      if (answer && window.Plotly && target.clientWidth && target.clientWidth !== width) paint(figure, window.Plotly);
    }
  });

  for (const figure of figures) {
    drawn.set(figure, { etag: null, document: null, width: 0, isVisible: false, isStale: true, isBusy: false });
    observer.observe(figure);
    resizing.observe(figure.querySelector(".chart-plot"));
    figure.querySelector(".chart-numbers").addEventListener("toggle", (event) => {
      if (event.target.open) tabulate(figure);
    });
  }

  document.addEventListener("charts:refresh", () => {
    for (const figure of figures) {
      const state = drawn.get(figure);
      state.isStale = true;
      if (state.isVisible) draw(figure);
    }
  });

  document.addEventListener("theme:changed", async () => {
    const ready = figures.filter((figure) => drawn.get(figure).document);
    if (!ready.length) return;
    const library = await plotly();
    for (const figure of ready) await paint(figure, library);
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-png]");
    if (!button) return;
    const library = await plotly();
    const place = button.closest("figure").querySelector(".chart-plot");
    await library.downloadImage(place, { format: "png", scale: 2, filename: button.dataset.png });
  });
})();
