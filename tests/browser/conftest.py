"""A real Chromium against a real server, and everything it complains about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright

from budgets.models import User
from tests.plugins import chromium

# Adds up what moved without anybody having touched the page, as browsers report it.
_WATCH_LAYOUT = """
window.layoutShift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.layoutShift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@dataclass
class Visit:
    """A browser tab, and what went wrong in it."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def go(self, address: str) -> None:
        self.page.goto(f"{self.base}{address}")

    def enter(self, email: str) -> None:
        """Logs somebody in without the form: for tests of what comes after it."""
        client = Client()
        client.force_login(User.objects.get(email=email))
        [cookie] = client.cookies.values()
        self.page.context.add_cookies([{"name": cookie.key, "value": cookie.value, "url": self.base}])

    def log_in(self, email: str, password: str) -> None:
        self.page.get_by_label("E-mail address").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def draw_all_charts(self) -> int:
        """Scrolls each chart into view and waits until it is drawn."""
        charts = self.page.locator("figure[data-chart]")
        for chart in charts.all():
            chart.scroll_into_view_if_needed()
            chart.locator(".main-svg").first.wait_for(state="attached")
            self.page.locator(f"#{chart.get_attribute('id')}[data-state=drawn]").wait_for(state="attached")
        return charts.count()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.type}: {message.text}")

    def _look(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.status} {response.url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one module: while it runs, its event loop runs in this thread, where Django's ORM would
    take it for asynchronous code."""
    program = chromium.find()
    if program is None:
        pytest.skip("there is no Chromium; name its program in CHROMIUM")
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(program), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield found
        found.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    else:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    made.set_default_timeout(20_000)
    made.add_init_script(_WATCH_LAYOUT)
    yield made
    made.close()


@pytest.fixture
def visit(context: BrowserContext, live_server: object, plain_static_files: None) -> Iterator[Visit]:
    """A tab of a visitor who is not logged in. Fails the test at its end where the console complained."""
    made = Visit(context.new_page(), str(live_server))
    made.page.on("console", made._hear)
    made.page.on("response", made._look)
    made.page.on("pageerror", lambda error: made.complaints.append(f"{made.page.url}: {error}"))
    yield made
    # Leave the page first, so that a refresh under way meets no server that is being taken down.
    made.page.goto("about:blank")
    assert made.complaints == []
