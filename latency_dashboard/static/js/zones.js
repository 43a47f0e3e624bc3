// The visitor's own clock: its zone proposed where a form asks for one, and instants by it beside those in UTC.
"use strict";

(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

  // A form that comes back with what was typed keeps that; only what nobody has touched is proposed.
  const known = document.getElementById("time-zones");
  for (const field of document.querySelectorAll("form[data-is-new] [data-time-zone=proposed]")) {
    const isKnown = known && Array.from(known.options).some((option) => option.value === zone);
    if (isKnown && field.value === field.defaultValue) field.value = zone;
  }

  if (!zone || zone === "UTC") return;
  const format = new Intl.DateTimeFormat("en-GB", {
    weekday: "short",
    day: "numeric",
    month: "short",
    hour: "2-digit",
    minute: "2-digit",
    timeZoneName: "short",
  });
  for (const place of document.querySelectorAll("[data-local-of]")) {
    place.textContent = format.format(new Date(place.dataset.localOf));
    place.hidden = false;
  }
})();
