"""What is wrong with a page as it stands: found by axe, wider than the screen, too small to hit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Page

Theme = Literal["light", "dark"]
BRIEFLY: Sequence[tuple[Theme, int]] = (("light", 1280), ("dark", 390))
EVERYWHERE: Sequence[tuple[Theme, int]] = (("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390))
WIDTHS = (390, 320, 768, 1280)
HEIGHT = 900

_AXE = AXE_FILE_PATH.read_text()
# Links and controls that a finger would miss, on a phone the primary ones as well; what Plotly draws is no target.
SMALL_TARGETS = """
[...document.querySelectorAll("a, button, summary, input:not([type=hidden])")]
  .filter((element) => element.offsetParent && element.checkVisibility() && !element.closest(".chart-plot"))
  .map((element) => [
    element.textContent.trim() || element.id,
    element.getBoundingClientRect(),
    innerWidth < 600 && element.matches(".button-primary") ? 44 : 24,
  ])
  .filter(([name, box, least]) => box.width < least || box.height < least)
  .map(([name, box]) => `${name} (${Math.round(box.width)} × ${Math.round(box.height)})`)
"""
_RUN = "options => axe.run(document, options).then(results => results.violations)"
# The rules that read colours. A theme changes nothing else: palettes are variables (static/css/palette.css).
_ABOUT_COLOURS = ["color-contrast", "link-in-text-block"]


def faults_of(page: Page, what: str, *, at: Sequence[tuple[Theme, int]] = BRIEFLY) -> list[str]:
    """Sentences that begin with `what`: what axe finds in these themes at these widths, and what is wider than the screen
    or too small to hit at any of WIDTHS. Leaves the page at 1280 px in the light.

    At each width the first theme is judged by every rule of axe, another by those that read colours.
    """
    found = []
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_AXE)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        wide, small = page.evaluate(f"[document.documentElement.scrollWidth, {SMALL_TARGETS}]")
        if wide > width:
            found.append(f"{what} is {wide} px wide at {width}")
        found += [f"{what} at {width}: {one} is too small to hit" for one in small]
        themes = [theme for theme, of_width in at if of_width == width]
        for theme in themes:
            page.emulate_media(color_scheme=theme)
            rules = {"runOnly": _ABOUT_COLOURS} if theme != themes[0] else {}
            for violation in page.evaluate(_RUN, {"resultTypes": ["violations"], **rules}):
                nodes = [node["html"][:200] for node in violation["nodes"][:3]]
                found.append(f"{what} {theme} {width}: {violation['id']}: {violation['help']} {nodes}")
    page.emulate_media(color_scheme="light")
    return found
