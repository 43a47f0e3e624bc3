"""The demo's traffic: its size, its order, its states, and the accident that a newcomer watches."""

import math
import socket
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import time_machine
from django.conf import settings as django_settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.db.models import Max
from django.utils import timezone
from scipy.stats import binom

from budgets.client import ApiClient
from budgets.demo import shapes
from budgets.demo.features import FEATURES, SUPPORT_CHAT
from budgets.demo.history import Body, bodies
from budgets.demo.key import demo_key
from budgets.demo.live import OVERRUN_FROM, LiveTraffic
from budgets.demo.requests import STATUSES, Call, Request
from budgets.features import declare_feature
from budgets.management.commands.demo_history import Command
from budgets.management.commands.demo_traffic import Sender
from budgets.models import Annotation, Batch, Feature, IngestKey, Measurement

NOW = datetime(2026, 11, 24, 10, 17, 23, tzinfo=UTC)
DAYS = timedelta(days=28)
MIB = 1024 * 1024
FEATURE = {feature.slug: feature for feature in FEATURES}


class Sent(msgspec.Struct):
    requests: list[Request]


def requests_in(body: Body) -> list[Request]:
    return msgspec.json.decode(body.content, type=Sent).requests


def ends_at(request: Request) -> float:
    """When the milestone reached last was reached, in Unix seconds."""
    return request.started_at + max(request.milestones.values()) / 1000


def count(request: Request) -> int:
    return len(request.milestones) + len(request.components)


def is_over(status: str, duration_ms: float, limit_ms: float) -> bool:
    return status == "timeout" or (status == "ok" and duration_ms > limit_ms)


@pytest.fixture(scope="module")
def history() -> list[Body]:
    return list(bodies(NOW - DAYS, NOW, origin=NOW - DAYS))


@pytest.fixture(scope="module")
def requests(history: list[Body]) -> list[Request]:
    return [request for body in history for request in requests_in(body)]


def test_twenty_eight_days_are_at_most_one_and_a_half_million_measurements(history: list[Body]) -> None:
    total = sum(body.measurements for body in history)
    assert 1_200_000 <= total <= 1_500_000


def test_every_body_is_within_the_limits_of_the_ingest_endpoint(history: list[Body]) -> None:
    assert max(body.measurements for body in history) <= 10_000
    assert max(len(body.content) for body in history) <= 8 * MIB
    assert all(sum(map(count, requests_in(body))) == body.measurements for body in history[::10])


def test_history_comes_in_order_of_time_and_ends_now(history: list[Body], requests: list[Request]) -> None:
    ended = np.array([ends_at(request) for request in requests])
    assert np.diff(ended).min() >= -0.002  # started_at has milliseconds, durations have tenths of them
    assert (NOW - DAYS).timestamp() - 0.001 <= ended[0]
    assert ended[-1] <= NOW.timestamp() + 0.001
    assert all(
        abs(ends_at(requests_in(body)[-1]) - body.ends_at.timestamp()) < 0.002 for body in history[::10]
    )


def test_nothing_of_a_request_outlives_it(requests: list[Request]) -> None:
    for request in requests[::50]:
        total = max(request.milestones.values())
        assert all(call.offset_ms + call.duration_ms <= total + 0.2 for call in request.components)
        assert all(value >= 0 for call in request.components for value in (call.offset_ms, call.duration_ms))


def test_a_request_that_failed_names_the_milestone_at_which_it_ended(requests: list[Request]) -> None:
    unwell = [request for request in requests if request.status != "ok"]
    assert {request.status for request in unwell} == {"error", "timeout"}
    assert all(request.milestones for request in unwell)
    chats = [request for request in unwell if request.feature == "support-chat"]
    assert {tuple(request.milestones) for request in chats} == {
        ("first_token",),
        ("first_token", "complete"),
    }
    well = [request for request in requests if request.status == "ok"]
    assert all(call.status == "ok" for request in well for call in request.components)


def test_trace_ids_are_valid_and_never_repeated(requests: list[Request]) -> None:
    traces = [request.trace_id for request in requests]
    assert len(set(traces)) == len(traces)
    assert all(len(trace) == 32 and int(trace, 16) and trace == trace.lower() for trace in traces[::50])


def test_the_agent_calls_its_search_several_times_in_a_request_two_at_a_time(
    requests: list[Request],
) -> None:
    agent = [request for request in requests if request.feature == "research-agent"]
    searches = [[c for c in request.components if c.component == "search"] for request in agent]
    assert set(map(len, (calls for calls in searches if len(calls) > 1))) == {2, 3, 4, 5, 6}
    several = next(calls for calls in searches if len(calls) >= 2)
    assert several[0].offset_ms == several[1].offset_ms
    assert several[0].span_id != several[1].span_id


def test_releases_follow_one_another(requests: list[Request]) -> None:
    for feature in FEATURES:
        seen = [request.release for request in requests if request.feature == feature.slug]
        changes = [seen[0]] + [now for before, now in pairwise(seen) if now != before]
        assert changes == [release.name for release in feature.releases]


def test_traffic_is_lower_at_night_and_at_the_weekend(requests: list[Request]) -> None:
    # Without the last day, which grows into the live rate.
    until = NOW.timestamp() - 86_400
    hours = Counter(
        int(ends_at(r) // 3600) for r in requests if r.feature == "support-chat" and ends_at(r) < until
    )
    by_weekday, by_hour = defaultdict(list), defaultdict(list)
    for hour, number in hours.items():
        at = datetime.fromtimestamp(hour * 3600, UTC)
        by_weekday[at.weekday() >= 5].append(number)
        by_hour[at.hour].append(number)
    assert np.mean(by_weekday[True]) < 0.75 * np.mean(by_weekday[False])
    assert np.mean(by_hour[2]) < 0.3 * np.mean(by_hour[14])


def test_minutes_are_as_bursty_as_the_trace(requests: list[Request]) -> None:
    until = NOW.timestamp() - 86_400
    minutes = Counter(
        int(ends_at(r) // 60) for r in requests if r.feature == "inline-help" and ends_at(r) < until
    )
    counts = np.array([minutes[minute] for minute in range(min(minutes), max(minutes))], float)
    # A Poisson process of this rhythm alone would stay near 2; the code trace stops and starts.
    assert counts.var() / counts.mean() > 3


def error_budgets_remaining(requests: Iterable[Request], now: datetime) -> dict[tuple[str, str], float]:
    """The signed share of the error budget that is left, for each milestone over its own window."""
    judged: Counter[tuple[str, str]] = Counter()
    bad: Counter[tuple[str, str]] = Counter()
    budgets = {
        (feature.slug, budget["milestone"]): budget
        for feature in FEATURES
        for budget in feature.document["latency_budgets"]
    }
    for request in requests:
        *_, last = request.milestones
        for milestone, duration_ms in request.milestones.items():
            key = request.feature, milestone
            budget = budgets[key]
            if request.started_at + duration_ms / 1000 < now.timestamp() - 86_400 * budget["window_days"]:
                continue
            status = request.status if milestone == last else "ok"
            judged[key] += 1
            bad[key] += status != "ok" or duration_ms > budget["budget_ms"]
    return {key: 1 - bad[key] / judged[key] / (1 - budgets[key]["objective"]) for key in budgets}


def test_the_four_features_stand_well_at_risk_and_breached(requests: list[Request]) -> None:
    remaining = error_budgets_remaining(requests, NOW)
    assert 0.03 < remaining["support-chat", "first_token"] < 0.25  # at risk
    assert remaining["support-chat", "complete"] > 0.4
    assert remaining["inline-help", "complete"] > 0.6  # comfortable
    assert remaining["report-writer", "complete"] < -0.05  # breached
    assert remaining["research-agent", "complete"] > 0.4


def test_states_do_not_depend_on_the_day_of_the_first_start() -> None:
    saturday = datetime(2026, 11, 28, 23, 40, tzinfo=UTC)
    requests = (
        request
        for body in bodies(saturday - DAYS, saturday, origin=saturday - DAYS)
        for request in requests_in(body)
    )
    remaining = error_budgets_remaining(requests, saturday)
    assert 0.03 < remaining["support-chat", "first_token"] < 0.25
    assert remaining["report-writer", "complete"] < -0.05


def test_only_the_slow_release_keeps_its_component_over_its_allocation(requests: list[Request]) -> None:
    """In the last day every component is ok by its state, but the model of report-writer's newest release."""
    limits = {
        (feature.slug, component): (allocated_ms, 1 - budget["objective"])
        for feature in FEATURES
        for budget in feature.document["latency_budgets"]
        for component, allocated_ms in budget.get("allocations", {}).items()
    }
    total: Counter[tuple[str, str]] = Counter()
    over: Counter[tuple[str, str]] = Counter()
    for request in requests:
        if ends_at(request) < NOW.timestamp() - 86_400:
            continue
        calls: defaultdict[str, list[Call]] = defaultdict(list)
        for call in request.components:
            calls[call.component].append(call)
        for component, several in calls.items():
            if component == "guardrails":
                continue
            # Searches follow one another without a gap, so that their union is one interval.
            begins = min(call.offset_ms for call in several)
            united_ms = max(call.offset_ms + call.duration_ms for call in several) - begins
            key = request.feature, component
            total[key] += 1
            over[key] += is_over(
                max((c.status for c in several), key=STATUSES.index), united_ms, limits[key][0]
            )
    not_ok = {key for key in limits if over[key] / total[key] > limits[key][1] / 2}
    assert not_ok == {("report-writer", "model")}


def test_the_agent_has_gained_a_component_that_is_not_allocated(requests: list[Request]) -> None:
    agent = [request for request in requests if request.feature == "research-agent"]
    allocated = FEATURE["research-agent"].document["latency_budgets"][0]["allocations"]
    measured = Counter(call.component for request in agent for call in request.components)
    assert set(measured) - set(allocated) == {"guardrails"}
    assert {r.release for r in agent for call in r.components if call.component == "guardrails"} == {"r18"}


def test_allocations_fit_into_their_latency_budgets() -> None:
    for feature in FEATURES:
        for budget in feature.document["latency_budgets"]:
            assert sum(budget.get("allocations", {}).values()) <= budget["budget_ms"]
            assert set(budget.get("allocations", {})) <= set(feature.document["components"])


def test_the_same_start_gives_the_same_bytes_and_a_gap_is_filled_without_overlap() -> None:
    origin = NOW - DAYS
    since = NOW - timedelta(hours=30)
    first = list(bodies(since, NOW, origin=origin))
    assert first == list(bodies(since, NOW, origin=origin))
    assert all(
        ends_at(request) > since.timestamp() - 0.001 for body in first for request in requests_in(body)
    )


def test_a_gap_after_the_story_continues_with_the_last_releases() -> None:
    origin = NOW - DAYS
    later = NOW + timedelta(days=40)
    gap = bodies(NOW + timedelta(days=38), later, origin=origin)
    seen = {(request.feature, request.release) for body in gap for request in requests_in(body)}
    assert seen == {(feature.slug, feature.newest_release.name) for feature in FEATURES}


def test_first_token_and_total_times_are_the_measured_ones() -> None:
    """The model's first token is that of the together_70b run, scaled and jittered: the same median."""
    drawn = shapes.support_chat(np.random.default_rng(7), 20_000, {})
    model = drawn.durations[drawn.components.index("model")]
    lines = (Path(shapes.DATA) / "llmperf" / "times.csv").read_text().splitlines()
    measured = [float(line.split(",")[1]) for line in lines if line.startswith("together_70b,")]
    assert math.isclose(np.median(model), 1.4 * np.median(measured), rel_tol=0.03)


# -- Live traffic ---------------------------------------------------------------------------------
STARTED = datetime(2026, 11, 24, 10, 17, 41, tzinfo=UTC)


def test_live_requests_do_not_depend_on_how_time_is_cut() -> None:
    traffic = LiveTraffic(STARTED)
    whole = traffic.requests(STARTED, STARTED + timedelta(seconds=90))
    seconds = [STARTED + timedelta(seconds=number) for number in range(91)]
    pieces = [r for a, b in pairwise(seconds) for r in LiveTraffic(STARTED).requests(a, b)]
    assert pieces == whole
    assert {request.feature for request in whole} >= {"support-chat", "inline-help"}


def live_over(started_at: datetime, component: str, minutes: int = 14) -> Iterator[tuple[float, bool]]:
    """(when it ended, whether it was over) for each call of a support-chat component in the live part."""
    allocated = SUPPORT_CHAT.document["latency_budgets"][0]["allocations"][component]
    before = next(
        reversed([*bodies(started_at - timedelta(minutes=10), started_at, origin=started_at - DAYS)])
    )
    past = [request for request in requests_in(before) if request.feature == "support-chat"]
    live = LiveTraffic(started_at).requests(started_at, started_at + timedelta(minutes=minutes))
    for request in past + [request for request in live if request.feature == "support-chat"]:
        for call in request.components:
            if call.component == component:
                ended_at = request.started_at + (call.offset_ms + call.duration_ms) / 1000
                yield ended_at, is_over(call.status, call.duration_ms, allocated)


def overrun_fires(calls: list[tuple[float, bool]], at: float) -> bool | None:
    """The component-overrun rule at an instant: True when it fires, False when it clears, None between."""
    to = math.floor(at / 60) * 60 + 60
    judged = [over for ended_at, over in calls if to - 300 <= ended_at < min(to, at)]
    n, over = len(judged), sum(judged)
    if n >= 20 and over >= 3 and binom.sf(over - 1, n, 0.01) < 1e-4:
        return True
    return False if over <= 0.01 * n else None


@pytest.mark.parametrize("second", [0, 23, 41, 59])
def test_the_tools_overrun_is_seen_within_half_a_minute_and_over_before_minute_eleven(second: int) -> None:
    started_at = STARTED.replace(second=second)
    calls = list(live_over(started_at, "tools"))
    start = started_at.timestamp()
    fires = [overrun_fires(calls, start + at) for at in range(840)]
    assert True not in fires[:120]
    assert fires.index(True) <= 120 + 35  # 30 s, and the time a request takes to end
    assert fires.index(False, 360) <= 661
    assert True not in fires[fires.index(False, 360) :]


def test_no_other_component_of_the_live_part_overruns() -> None:
    start = STARTED.timestamp()
    for component in ("model", "retrieval", "overhead"):
        calls = list(live_over(STARTED, component))
        assert not any(overrun_fires(calls, start + at) for at in range(0, 840, 5))


def test_the_overrun_stays_within_the_milestone_so_that_no_page_fires() -> None:
    """A page needs a burn rate of 13.44 over 5 minutes, which is 13.44 % bad at an objective of 99 %."""
    live = LiveTraffic(STARTED).requests(STARTED + timedelta(minutes=2), STARTED + timedelta(minutes=6))
    chats = [request for request in live if request.feature == "support-chat"]
    bad = [r.status != "ok" or r.milestones["first_token"] > 3000 for r in chats]
    assert len(chats) > 80
    assert np.mean(bad) < 0.08


def test_the_slow_calls_of_the_accident_share_a_label_that_few_others_have() -> None:
    live = LiveTraffic(STARTED).requests(STARTED, STARTED + timedelta(minutes=6))
    tools = [
        (request.labels["tool"] == "search_v2", call.status == "ok" and call.duration_ms > 800)
        for request in live
        if request.feature == "support-chat" and request.labels
        for call in request.components
        if call.component == "tools"
    ]
    slow = [is_new for is_new, is_slow in tools if is_slow]
    others = [is_new for is_new, is_slow in tools if not is_slow]
    assert len(slow) > 50
    assert np.mean(slow) > 0.9
    assert np.mean(others) < 0.12


def test_the_accident_begins_and_ends_with_a_deploy() -> None:
    traffic = LiveTraffic(STARTED)
    [begins] = traffic.deploys(STARTED, STARTED + timedelta(minutes=3))
    [ends] = traffic.deploys(STARTED + timedelta(minutes=3), STARTED + timedelta(minutes=20))
    assert begins["text"] == "search_v2 for 60 % of requests"
    assert (begins["at"], ends["at"]) == (traffic.overrun_from, traffic.overrun_until)


# -- The commands ---------------------------------------------------------------------------------
@pytest.fixture
def demo_settings(settings: Any, tmp_path: Path) -> Any:
    settings.DATA_DIR = tmp_path
    settings.RAW_RETENTION_DAYS = settings.MINUTE_RETENTION_DAYS = 30
    return settings


def stored() -> int:
    """Measurements in the table: the calls of a component in one request are one."""
    return Measurement.objects.count()


@pytest.mark.django_db
@pytest.mark.usefixtures("demo_settings")
def test_a_second_run_keeps_what_is_there_and_fills_the_gap() -> None:
    with time_machine.travel(NOW):
        call_command("demo_history", days=0.05, stdout=StringIO())
    first = stored()
    features = list(Feature.objects.values_list("slug", "created_at").order_by("slug"))
    last = Measurement.objects.aggregate(at=Max("ended_at"))["at"]
    later = NOW + timedelta(hours=2)
    with time_machine.travel(later):
        call_command("demo_history", days=0.05, stdout=StringIO())
    assert first > 5_000
    assert stored() > first
    assert list(Feature.objects.values_list("slug", "created_at").order_by("slug")) == features
    added = Measurement.objects.filter(ended_at__gt=last)
    assert added.count() >= stored() - first - 50  # a request of the gap may have begun before it
    assert added.aggregate(at=Max("ended_at"))["at"] > later - timedelta(minutes=2)


@pytest.mark.django_db
@pytest.mark.usefixtures("demo_settings")
def test_history_is_rolled_up_when_the_command_ends() -> None:
    out = StringIO()
    with time_machine.travel(NOW):
        call_command("demo_history", days=0.05, stdout=out)
    assert not Batch.objects.filter(state=Batch.State.PENDING).exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(total) FROM budgets_rollup_minute")
        assert cursor.fetchone()[0] == stored()
    assert "Declared support-chat, inline-help, report-writer, research-agent." in out.getvalue()


@pytest.mark.django_db
@pytest.mark.usefixtures("demo_settings")
def test_deploys_of_the_story_are_marked_once_where_their_time_is_fed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is measured is the business of other tests.
    monkeypatch.setattr(Command, "_feed", lambda self, key, start, now: 0)
    with time_machine.travel(NOW):
        call_command("demo_history", stdout=StringIO())
        call_command("demo_history", stdout=StringIO())
    marked = Annotation.objects.filter(kind=Annotation.Kind.DEPLOY).values_list("feature__slug", "text")
    assert sorted(marked) == sorted(
        (feature.slug, release.deploy)
        for feature in FEATURES
        for release in feature.releases
        if release.deploy
    )


@pytest.mark.django_db
@pytest.mark.usefixtures("demo_settings")
def test_what_people_made_of_a_demo_feature_is_left_alone() -> None:
    with time_machine.travel(NOW):
        call_command("demo_history", days=0.05, stdout=StringIO())
        chat = Feature.objects.get(slug="support-chat")
        document = dict(SUPPORT_CHAT.document) | {"name": "Our chat"}
        declare_feature(team=chat.team, slug=chat.slug, document=document, actor="test", now=NOW)
        call_command("demo_history", days=0.05, stdout=StringIO())
    assert Feature.objects.get(slug="support-chat").name == "Our chat"


@pytest.mark.django_db
def test_history_beyond_the_retention_is_refused_before_anything_is_made(
    settings: Any, tmp_path: Path
) -> None:
    settings.DATA_DIR = tmp_path
    settings.RAW_RETENTION_DAYS = 7
    with pytest.raises(CommandError, match="RAW_RETENTION_DAYS=7"):
        call_command("demo_history", stdout=StringIO())
    assert not Feature.objects.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.django_db
def test_the_demo_key_is_kept_where_only_its_owner_can_read_it(tmp_path: Path) -> None:
    key, plain = demo_key(data_dir=tmp_path, now=NOW)
    assert demo_key(data_dir=tmp_path, now=NOW) == (key, plain)
    assert (tmp_path / "demo.key").stat().st_mode & 0o777 == 0o600
    assert key.scopes == ["ingest"]
    IngestKey.objects.update(revoked_at=NOW)
    renewed, another = demo_key(data_dir=tmp_path, now=NOW + timedelta(seconds=1))
    assert renewed != key
    assert another != plain


@pytest.fixture(scope="session")
def static_root() -> None:
    """The folder of the static files, which the web server's middleware wants to be there."""
    Path(django_settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def sender(transactional_db: None, static_root: None, live_server: Any, tmp_path: Path) -> Iterator[Sender]:
    """Sends to a real web server on which the features are declared."""
    now = timezone.now()
    key, plain = demo_key(data_dir=tmp_path, now=now)
    for feature in FEATURES:
        declare_feature(
            team=key.team, slug=feature.slug, document=dict(feature.document), actor="test", now=now
        )
    client = ApiClient(live_server.url, plain)
    started_at = now - timedelta(seconds=90)
    yield Sender(client, LiveTraffic(started_at), started_at)
    client.close()


def test_live_traffic_arrives_whole_and_once(sender: Sender) -> None:
    started_at, now = sender.sent_until, timezone.now()
    sender.send_until(now - timedelta(seconds=30))
    sender.send_until(now)
    expected = LiveTraffic(started_at).requests(started_at, now)
    assert Measurement.objects.exclude(series__milestone=None).count() == sum(
        len(request.milestones) for request in expected
    )
    assert sender.sent_until == now


def test_the_deploy_of_the_accident_is_posted_when_its_time_comes(sender: Sender) -> None:
    sender.traffic = LiveTraffic(sender.sent_until - OVERRUN_FROM + timedelta(seconds=30))
    sender.send_until(timezone.now())
    [deploy] = Annotation.objects.filter(kind=Annotation.Kind.DEPLOY)
    assert (deploy.text, deploy.feature.slug) == ("search_v2 for 60 % of requests", "support-chat")


def test_what_happens_while_the_web_server_is_away_is_sent_later(sender: Sender) -> None:
    started_at, now = sender.sent_until, timezone.now()
    at_home = sender.client
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        sender.client = ApiClient(f"http://127.0.0.1:{closed.getsockname()[1]}", "ld_aaaaaaaa_none")
        assert sender.send_until(now) == 1.0
    assert Measurement.objects.count() == 0
    sender.client = at_home
    sender.send_until(now)
    expected = LiveTraffic(started_at).requests(started_at, now)
    assert Measurement.objects.exclude(series__milestone=None).count() == sum(
        len(request.milestones) for request in expected
    )
