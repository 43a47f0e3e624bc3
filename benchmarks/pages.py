"""How long the server takes for the overview and for a feature's page, and how many queries each sends."""

from __future__ import annotations

import re
import secrets
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from . import fills
from .bench import Bench
from .report import Aim, Figure, Section, number, percentile
from .scale import Fill
from .status import ask, count_queries
from .visitors import Visitor

if TYPE_CHECKING:
    from budgets.models import User

AIM_OVERVIEW_MS = 1000.0
AIM_FEATURE_MS = 300.0

_COMPONENTS = 4
_REQUESTS_A_FEATURE = 500  # a day, each of six measurements
_CHART = re.compile(r'data-chart="([^"]+)"')


def run(bench: Bench) -> Section:
    """Two teams, one with few features and one with the rest: who is in both sees all of them."""
    from django.db import connection

    from budgets.models import Membership, Team, User

    few, many = bench.scale.pages_features
    now = datetime.now(tz=UTC)
    bench.empty()
    teams = [Team.objects.create(slug=name, name=name) for name in ("few", "rest")]
    populations = [
        fills.fill(
            team,
            team.slug,
            Fill(features=count, components=_COMPONENTS, requests=_REQUESTS_A_FEATURE * count, raw_days=1),
            now=now,
            say=bench.say,
        )
        for team, count in zip(teams, (few, many - few), strict=True)
    ]
    password = secrets.token_urlsafe(12)
    people = {few: teams[:1], many: teams}
    users = {}
    for count, its_teams in people.items():
        users[count] = User.objects.create_user(f"sees-{count}@example.com", password)
        for team in its_teams:
            Membership.objects.create(team=team, user=users[count], role=Membership.Role.VIEWER)
    port = bench.stack.serve_product()
    connection.close()
    feature = f"/features/{populations[0].features[0].slug}/?window=28d"
    sizes: dict[str, int] = {}
    with (
        closing(Visitor(port, users[few].email, password)) as one,
        closing(Visitor(port, users[many].email, password)) as other,
    ):
        charts = [unescape(path) for path in _CHART.findall(one.fetch(feature)[0])]
        pages = {
            f"overview, {few} features": (one, users[few], "/"),
            f"overview, {many} features": (other, users[many], "/"),
            "feature over 28 days": (one, users[few], feature),
            **{_name(path): (one, users[few], path) for path in charts},
        }
        for label, (visitor, _, path) in pages.items():
            sizes[label] = len(visitor.fetch(path)[0].encode())
        questions = {label: partial(visitor.fetch, path) for label, (visitor, _, path) in pages.items()}
        asked = ask(questions, bench.scale.repetitions)
    queries = {label: _count_queries(user, path) for label, (_, user, path) in pages.items()}
    rows = {
        label: {
            "": Figure.median_of(samples_ms, "ms"),
            "p95": Figure(percentile(samples_ms, 95), "ms"),
            "queries": Figure(queries[label], ""),
            "size": Figure(sizes[label] / 1000, "kB"),
        }
        for label, samples_ms in asked.items()
    }
    fewer, more, feature_label, *_ = pages
    return Section(
        title=f"Pages: server time over HTTP, signed in (median of {bench.scale.repetitions})",
        rows=rows,
        aims=[
            Aim(more, rows[more][""].value, "≤", AIM_OVERVIEW_MS, "ms"),
            Aim(feature_label, rows[feature_label][""].value, "≤", AIM_FEATURE_MS, "ms"),
            Aim(f"queries of {many} features − of {few}", queries[more] - queries[fewer], "≤", 0),
        ],
        notes=[
            f"Each feature has {_COMPONENTS + 2} series over 28 days. A page comes without its {len(charts)} charts, which "
            "the browser fetches",
            f"once they are in sight. {number(len(populations[0].series_ids))} of the features are in one team, "
            "the others in a second one.",
        ],
    )


def _name(path: str) -> str:
    """Of a chart of a feature: what it shows, and of which component or pair of windows where it shows one."""
    address = urlsplit(path)
    query = parse_qs(address.query)
    of_what = [value for name in ("target", "tier") for value in query.get(name, [])]
    return " ".join(["its chart", PurePosixPath(address.path).stem, *of_what])


def _count_queries(user: User, path: str) -> int:
    """How many statements the page sends, the session's and the person's among them, in this process."""
    from django.test import Client

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(user)

    def fetch() -> None:
        assert client.get(path).status_code == 200

    fetch()
    return count_queries(fetch)
