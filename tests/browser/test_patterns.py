"""The gallery of components: every one in every state, in light and in dark, and as wide as the screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import LazySettings
from django.test import Client

from latency_dashboard.pattern_samples import HOSTILE
from tests.browser.conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Elements that only a text which was taken for HTML could have made.
INJECTED = "document.querySelectorAll('img, main script, iframe, [onerror]').length"


def test_axe_finds_nothing_in_any_state_and_no_text_means_harm(visit: Visit, settings: LazySettings) -> None:
    settings.DEBUG = True
    page, found = visit.page, []
    visit.go("/patterns/")
    shown = {text.strip() for text in page.locator(".patterns > h2").all_inner_texts()}
    components = {
        f"components/{path.name}" for path in (Path(settings.BASE_DIR, "templates", "components")).iterdir()
    }
    assert components - shown == set(), "every component is in the gallery"
    for text in ("All clear", "No match", "Waiting", "Rejected", "Among timeouts"):
        assert page.locator(".specimen > h3", has_text=text).count(), text
    for theme, width in (("light", 1280), ("dark", 390)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for violation in Axe().run(page).response["violations"]:
            nodes = [node["html"][:200] for node in violation["nodes"][:3]]
            found.append(f"{theme} {width}: {violation['id']}: {violation['help']} {nodes}")
    for width in (320, 390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{page.evaluate('document.documentElement.scrollWidth')} px wide at {width}")
    assert found == [], "\n".join(found)

    assert page.evaluate(INJECTED) == 0
    assert "49" not in page.title()
    said = page.locator("main").text_content() or ""
    assert all(text.split()[0] in said for text in HOSTILE.values())


@pytest.mark.usefixtures("plain_static_files")
def test_there_is_no_gallery_without_debug(client: Client) -> None:
    assert client.get("/patterns/").status_code == 404
