"""How soon a browser has drawn the first chart of a page, and how far anything on a page jumps meanwhile."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.plugins import chromium

from . import fills
from .bench import Bench
from .report import Aim, Figure, Section, percentile
from .scale import Fill

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from budgets.models import Feature

AIM_FIRST_CHART_MS = 1500.0
AIM_SHIFT = 0.1

_COMPONENTS = 4
_REQUESTS = 500  # a day, each of six measurements
_WIDTHS = (1280, 390)
_TIMEOUT_MS = 60_000
# When the first chart stood there, counted from the navigation; and what moved without anybody having touched the page.
_WATCH = """
window.layoutShift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.layoutShift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
new MutationObserver((_, observer) => {
  if (!document.querySelector("figure[data-state=drawn]")) return;
  requestAnimationFrame(() => { window.firstChartMs ??= performance.now(); });
  observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-state"] });
"""


def run(bench: Bench) -> Section:
    """A feature of 28 days with an open incident, in headless Chromium whose cache has seen the pages before."""
    from django.db import connection

    from budgets.models import Membership, Team, User

    now = datetime.now(tz=UTC)
    bench.empty()
    team = Team.objects.create(slug="drawing", name="Drawing")
    population = fills.fill(
        team,
        team.slug,
        Fill(features=1, components=_COMPONENTS, requests=_REQUESTS, raw_days=1),
        now=now,
        say=bench.say,
    )
    [feature] = population.features
    incident = _open_incident(feature, now)
    password = secrets.token_urlsafe(12)
    person = User.objects.create_user("draws@example.com", password)
    Membership.objects.create(team=team, user=person, role=Membership.Role.VIEWER)
    base = f"http://127.0.0.1:{bench.stack.serve_product()}"
    connection.close()
    pages = {"overview": "/", "feature": f"/features/{feature.slug}/?window=28d", "incident": incident}
    rows: dict[str, dict[str, Figure]] = {}
    in_new_tabs: dict[str, dict[str, Figure]] = {}
    shifts: dict[str, float] = {}
    with _browser() as browser:
        for width in _WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900})
            context.set_default_timeout(_TIMEOUT_MS)
            context.add_init_script(_WATCH)
            page = context.new_page()
            _log_in(page, base, person.email, password)
            for label, path in pages.items():
                shifts[f"{label}, {width} px"] = max(
                    _visit(page, base + path)[1] for _ in range(bench.scale.repetitions // 3 + 1)
                )
            samples_ms = []
            for _ in range(bench.scale.repetitions):
                _visit(page, base + pages["overview"])  # from where a person comes, in the same tab
                samples_ms.append(_visit(page, base + pages["feature"])[0])
            rows[f"first chart of the feature's page, {width} px"] = {
                "": Figure.median_of(samples_ms, "ms"),
                "p95": Figure(percentile(samples_ms, 95), "ms"),
            }
            anew_ms = [_visit_anew(context, base + pages["feature"]) for _ in samples_ms]
            in_new_tabs[f"the same in a new tab, {width} px"] = {
                "": Figure.median_of(anew_ms, "ms"),
                "p95": Figure(percentile(anew_ms, 95), "ms"),
            }
            bench.say(f"drawing: {len(samples_ms)} first charts at {width} px")
            context.close()
    first_chart = [figures[""].value for figures in rows.values()]
    rows |= in_new_tabs
    rows |= {f"layout shift of {label}": {"": Figure(value, "")} for label, value in shifts.items()}
    return Section(
        title=f"Drawing: headless Chromium with a warm cache (median of {bench.scale.repetitions})",
        rows=rows,
        aims=[
            Aim("first chart drawn after navigation", max(first_chart), "<", AIM_FIRST_CHART_MS, "ms"),
            Aim("layout shift, the worst page and width", max(shifts.values()), "<", AIM_SHIFT),
        ],
        notes=[
            "From the overview to the feature, in one tab; a new tab starts a process and compiles Plotly anew.",
            "A shift is the sum of what moved by itself until every chart in sight was drawn.",
        ],
    )


def _open_incident(feature: Feature, now: datetime) -> str:
    """The address of its page."""
    from alerts.incidents import Finding, Target, open_incident

    found = open_incident(
        target=Target(feature, "production", milestone="first_token"),
        finding=Finding(
            severity="page",
            rule="burn_rate",
            reason="burning",
            summary="First token burns its error budget.",
            cause=None,
            burn_rate=15.0,
        ),
        evidence=["1h/5m"],
        now=now - timedelta(minutes=5),
    )
    assert found is not None
    return found.get_absolute_url()


@contextlib.contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = chromium.find()
    if program is None:
        raise RuntimeError(
            "There is no Chromium. `make bench` installs one, or name its program in CHROMIUM."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(program), args=["--no-sandbox", "--disable-background-networking"]
        )
        try:
            yield browser
        finally:
            browser.close()


def _log_in(page: Page, base: str, email: str, password: str) -> None:
    page.goto(f"{base}/login/")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.locator("#account-menu").wait_for()


def _visit_anew(context: BrowserContext, address: str) -> float:
    page = context.new_page()
    first_chart_ms, _ = _visit(page, address)
    page.close()
    return first_chart_ms


def _visit(page: Page, address: str) -> tuple[float, float]:
    """The milliseconds until the first chart was drawn, 0 where there is none, and the layout shift until all in sight
    were."""
    page.goto(address)
    in_sight = """() => [...document.querySelectorAll("figure[data-chart]")]
        .filter((figure) => figure.getBoundingClientRect().top < innerHeight)
        .every((figure) => figure.dataset.state === "drawn")"""
    page.wait_for_function(in_sight)
    has_chart = page.locator("figure[data-chart]").count() > 0
    if has_chart:
        page.locator("figure[data-chart]").first.scroll_into_view_if_needed()
        page.wait_for_function("() => window.firstChartMs")
    first_chart_ms, shift = page.evaluate("[window.firstChartMs ?? 0, window.layoutShift]")
    return first_chart_ms, shift
