// Proposes a name for addresses while a name is typed, until somebody writes their own.
"use strict";

(() => {
  for (const field of document.querySelectorAll("[data-slug-of]")) {
    const source = document.getElementById(field.dataset.slugOf);
    let isOurs = field.value === "";
    field.addEventListener("input", () => {
      isOurs = field.value === "";
    });
    const propose = () => {
      if (!isOurs) return;
      field.value = source.value
        .normalize("NFKD")
        .replace(/[\u0300-\u036f]/g, "")
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, "-")
        .replace(/^-+|-+$/g, "")
        .slice(0, 200);
    };
    source.addEventListener("input", propose);
    // Somebody may have typed before this ran.
    if (source.value !== "") propose();
  }
})();
