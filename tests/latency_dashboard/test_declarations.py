"""`apply` makes everything what YAML documents say, or changes nothing; `export` writes what it takes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import time_machine
import yaml
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from alerts.channel_settings import save_channel
from alerts.channels import KINDS as CHANNEL_KINDS
from alerts.models import AlertRule, Channel, MaintenanceWindow, Silence
from alerts.rule_settings import save_rule
from budgets.features import declare_feature
from budgets.models import AuditEntry, Component, Feature, LatencyBudget, Team
from tests.factories import SECRET, feature_document, make_feature, make_team
from tests.people import make_person

pytestmark = pytest.mark.django_db

FEATURE = """\
apiVersion: v1
kind: Feature
team: assistants
name: support-chat
spec:
  name: Support chat
  kind: interactive_chat
  components: [model, tools]
  latency_budgets:
    - milestone: first_token
      budget_ms: 3000
      objective: 0.99
      window_days: 28
      allocations:
        model: 1500
        tools: 800
"""
CHANNEL = """\
apiVersion: v1
kind: Channel
team: assistants
name: on-call
spec:
  kind: webhook
  url: https://93.184.215.14/${TOKEN}
  secret: ${WEBHOOK_SECRET}
  min_severity: page
"""


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "T0-a-token")
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "budgets.yaml"


def run(command: str, *arguments: str) -> str:
    output = io.StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def apply(file: Path, *documents: str, options: tuple[str, ...] = ()) -> str:
    file.write_text("---\n".join(documents))
    return run("apply", str(file), *options)


def refused(file: Path, *documents: str) -> str:
    """What is said of documents that are refused, and that nothing was changed by them."""
    before = everything()
    with pytest.raises(CommandError) as caught:
        apply(file, *documents)
    assert everything() == before
    assert str(caught.value).endswith("\nNothing was changed.")
    return str(caught.value).removesuffix("\nNothing was changed.")


def everything() -> list[Any]:
    models = (Team, Feature, Component, LatencyBudget, Channel, AuditEntry)
    return [list(model.objects.order_by("pk").values()) for model in models]


# -- apply ------------------------------------------------------------------------------------------


def test_apply_makes_what_is_new_and_its_team(file: Path) -> None:
    said = apply(file, FEATURE, CHANNEL)
    feature = Feature.objects.get(slug="support-chat")
    assert (feature.team.slug, feature.latency_budgets.get().budget_ms) == ("assistants", 3000)
    channel = Channel.objects.get(name="on-call")
    assert channel.config == {"url": "https://93.184.215.14/T0-a-token", "secret": SECRET}
    assert channel.min_severity == "page"
    assert "Team assistants: new" in said
    assert "Feature support-chat: new" in said
    assert said.endswith("2 of 2 documents changed.\n")


def test_apply_again_changes_nothing(file: Path) -> None:
    apply(file, FEATURE, CHANNEL)
    before = everything()
    said = apply(file, FEATURE, CHANNEL)
    assert everything() == before
    assert "Feature support-chat: unchanged" in said
    assert said.endswith("0 of 2 documents changed.\n")


def test_a_change_is_shown_line_by_line_and_written_down_with_its_actor(file: Path) -> None:
    apply(file, FEATURE)
    said = apply(file, FEATURE.replace("model: 1500", "model: 1700"))
    assert "--- assistants/support-chat (stored)\n+++ assistants/support-chat (declared)\n" in said
    assert "-      model: 1500\n+      model: 1700\n" in said
    assert LatencyBudget.objects.filter(version=2, created_by="manage.py apply").exists()
    assert AuditEntry.objects.filter(actor="manage.py apply", action="feature.declared").count() == 2


def test_a_dry_run_shows_the_same_and_changes_nothing(file: Path) -> None:
    apply(file, FEATURE)
    before = everything()
    changed = FEATURE.replace("3000", "3500")
    dry = apply(file, changed, CHANNEL, options=("--dry-run",))
    assert everything() == before
    assert dry.endswith("2 of 2 documents would change.\n")
    wet = apply(file, changed, CHANNEL)
    assert dry.replace("would change", "changed") == wet


def test_what_no_document_names_stays_as_it_is(file: Path) -> None:
    make_feature(slug="inline-help")
    apply(file, FEATURE)
    assert Feature.objects.filter(slug="inline-help", archived_at=None).exists()


def test_documents_come_from_standard_input_and_from_several_files(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(CHANNEL.encode())))
    file.write_text(FEATURE)
    assert run("apply", str(file), "-").endswith("2 of 2 documents changed.\n")


def test_exit_code_tells_whether_a_dry_run_would_change_anything(file: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        apply(file, FEATURE, options=("--dry-run", "--exit-code"))
    assert caught.value.code == 3
    apply(file, FEATURE)
    apply(file, FEATURE, options=("--dry-run", "--exit-code"))
    with pytest.raises(CommandError, match="goes with --dry-run"):
        apply(file, FEATURE, options=("--exit-code",))


# -- what is refused --------------------------------------------------------------------------------


def test_one_bad_document_of_ten_changes_nothing_and_names_file_document_line_and_field(file: Path) -> None:
    documents = [FEATURE.replace("support-chat", f"chat-{n}") for n in range(10)]
    documents[6] = documents[6].replace("budget_ms: 3000", "budget_ms: -1")
    said = refused(file, *documents)
    assert said == (
        f"{file}:{6 * 17 + 11}, document 7, Feature chat-6, spec.latency_budgets[0].budget_ms: "
        "latency_budgets[0].budget_ms must be above 0 and at most 604800000 ms, got -1."
    )


def test_everything_that_is_wrong_is_told_at_once(file: Path) -> None:
    said = refused(
        file,
        FEATURE.replace("objective: 0.99", "objective: 99"),
        CHANNEL.replace("webhook", "pager"),
        FEATURE.replace("support-chat", "other").replace("tools: 800", "tool: 800"),
    )
    lines = said.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{file}:12, document 1, Feature support-chat, spec.latency_budgets[0].objective",
        f"{file}:23, document 2, Channel on-call, spec.kind",
        f"{file}:43, document 3, Feature other, spec.latency_budgets[0].allocations.tool",
    ]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("apiVersion: v1", "apiVersion: v2", ":1, document 1, apiVersion: Expected v1, got 'v2'."),
        (
            "kind: Feature",
            "kind: Widget",
            ":2, document 1, kind: Expected one of Feature, AlertRule, Channel, Schedule, EscalationPolicy, "
            "MaintenanceWindow, Silence, got 'Widget'.",
        ),
        ("team: assistants", "team: a b", ":3, document 1, team: A team is named by letters"),
        (
            "team: assistants",
            "team: Assistants",
            ":3, document 1, Feature support-chat, team: Small letters,",
        ),
        ("name: support-chat", "name: 7", ":4, document 1, name: Expected a text, got 7; quote it."),
        (
            "name: support-chat",
            "name: a b",
            ":4, document 1, Feature a b, name: A feature's slug has",
        ),
        ("name: support-chat\n", "", ":1, document 1, name: name is missing."),
        ("spec:", "extra: 1\nspec:", ":5, document 1, extra: There is no such field; a document has"),
        (
            "  name: Support chat",
            "  nam: Support chat",
            ":6, document 1, Feature support-chat, spec.nam: Object contains unknown field `nam`.",
        ),
        (
            "  name: Support chat\n",
            "",
            ":5, document 1, Feature support-chat: Object missing required field `name`.",
        ),
        (
            "      objective",
            "      objectiv: 1\n      objective",
            ":12, document 1, Feature support-chat, spec.latency_budgets[0].objectiv: Object contains",
        ),
        (
            "  name: Support chat",
            "  team: others\n  name: x",
            "spec.team: Expected 'assistants', got 'others'.",
        ),
        (
            "window_days: 28",
            "window_days: 28\n      window_days: 7",
            ":14: The key 'window_days' stands twice.",
        ),
        ("budget_ms: 3000", "budget_ms: 1_000", "Expected `float`, got `str`"),
        (
            "tools: 800",
            "tools: 2800",
            "Allocations add up to 4300 ms, 1300 ms over the latency budget of 3000 ms.",
        ),
        ("kind: interactive_chat", "kind: no", "got 'no'."),
        ("  name: Support chat", "\tname: Support chat", ":6: It is not YAML:"),
    ],
)
def test_a_mistake_is_refused_where_it_stands(file: Path, before: str, after: str, said: str) -> None:
    assert before in FEATURE
    assert said in refused(file, FEATURE.replace(before, after, 1))


def test_a_document_that_is_no_envelope_is_refused(file: Path) -> None:
    assert "document 2: A document has the fields apiVersion, kind, team, name, spec." in refused(
        file, FEATURE, "- a list\n"
    )


def test_one_thing_is_declared_once(file: Path) -> None:
    said = refused(file, FEATURE, FEATURE.replace("3000", "4000"))
    assert f"It is declared already in {file}:1, document 1." in said


def test_another_teams_feature_is_not_taken_over(file: Path) -> None:
    make_feature(team=make_team(slug="others"), slug="support-chat")
    assert "There is no feature 'support-chat' in team 'assistants'." in refused(file, FEATURE)


def test_a_file_that_is_not_there_or_empty_is_refused(tmp_path: Path, file: Path) -> None:
    file.write_text("# nothing\n")
    with pytest.raises(CommandError) as caught:
        run("apply", str(tmp_path / "missing.yaml"), str(file))
    assert "missing.yaml: The file cannot be read: No such file or directory." in str(caught.value)
    assert f"{file}: The file holds no document." in str(caught.value)


# -- secrets ----------------------------------------------------------------------------------------


def test_a_variable_that_is_missing_is_named_with_its_field(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET")
    assert refused(file, CHANNEL) == (
        f"{file}:8, document 1, Channel on-call, spec.secret: "
        "It refers to ${WEBHOOK_SECRET}, and the environment has no such variable."
    )


def test_no_secret_is_ever_printed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = SECRET[:-4] + "AAAA"
    said = apply(file, CHANNEL)
    monkeypatch.setenv("WEBHOOK_SECRET", other)
    monkeypatch.setenv("TOKEN", "T1-another")
    changed = apply(file, CHANNEL)
    assert "-secret: (hidden, " in changed
    assert "+url: https://93.184.215.14/ (path hidden, " in changed
    said += changed
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_short-and-wrong")
    said += refused(file, CHANNEL)
    said += run("export").replace("https://93.184.215.14/T1-another", "")
    for secret in (SECRET, other, "whsec_short-and-wrong", "T0-a-token", "T1-another"):
        assert secret not in said


def test_a_secret_that_is_left_out_stays_and_is_made_for_a_new_channel(file: Path) -> None:
    without = CHANNEL.replace("  secret: ${WEBHOOK_SECRET}\n", "")
    said = apply(file, without)
    assert "It was given a signing secret that nobody has seen" in said
    made = Channel.objects.get().config["secret"]
    assert made.startswith("whsec_")
    assert made not in said
    assert apply(file, without).endswith("0 of 1 documents changed.\n")
    assert Channel.objects.get().config["secret"] == made


def test_features_take_texts_as_they_are(file: Path) -> None:
    apply(file, FEATURE.replace("  name: Support chat", "  name: Support chat\n  description: costs ${MORE}"))
    assert Feature.objects.get().description == "costs ${MORE}"


# -- export -----------------------------------------------------------------------------------------


@pytest.fixture
def declared() -> None:
    """Two teams with features and channels in which everything occurs that YAML could stumble over."""
    now = timezone.now()
    team, other = make_team(slug="assistants", name="Assistants"), make_team(slug="others")
    texts = {
        "name": "no",
        "description": "On: 1\n\ttwo ${X} $${Y}\n— “ü” 🙂",
        "runbook_url": "https://x.test/#a:b",
    }
    both = [
        {**feature_document()["latency_budgets"][0], "note": "1e3", "objective": 0.999999, "budget_ms": 2999.875,
         "allocations": {"model": 0.001, "010": 12.5, "true": 3}},
        {"milestone": "complete", "budget_ms": 8000, "objective": 0.5, "window_days": 7},
    ]  # fmt: skip
    make_feature(team=team, slug="support-chat", now=now)
    make_feature(
        team=team, slug="7", now=now, **texts, components=["model", "010", "true"], latency_budgets=both
    )
    archived = {**feature_document(), "archived": True, "components": [], "latency_budgets": []}
    declare_feature(team=other, slug="old", document=archived, actor="a test", now=now)
    webhook = {
        "kind": "webhook",
        "url": "https://93.184.215.14/${literal}",
        "secret": SECRET,
        "min_severity": "page",
    }
    mail = {"kind": "email", "to": ["oncall@example.com"], "enabled": False}
    save_channel(team=team, name="on-call: ü", document=webhook, actor="a test", now=now)
    save_channel(team=other, name="mail", document=mail, actor="a test", now=now)


@pytest.mark.usefixtures("declared")
def test_apply_of_an_export_changes_nothing(file: Path) -> None:
    exported = run("export")
    before = everything()
    said = apply(file, exported)
    assert everything() == before
    assert said.endswith("0 of 5 documents changed.\n")
    assert apply(file, exported, options=("--dry-run", "--exit-code")).endswith(
        "0 of 5 documents would change.\n"
    )


@pytest.mark.usefixtures("declared")
def test_an_export_into_an_empty_installation_is_the_same_export(file: Path) -> None:
    exported = run("export")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE budgets_team CASCADE")
    assert run("export") == "# Nothing is declared.\n"
    apply(file, exported)
    assert run("export") == exported


@pytest.mark.usefixtures("declared")
def test_an_export_is_of_a_team_or_of_a_feature() -> None:
    def names(*options: str) -> list[tuple[str, str]]:
        return [(one["kind"], one["name"]) for one in yaml.safe_load_all(run("export", *options))]

    assert names() == [
        ("Feature", "7"),
        ("Feature", "support-chat"),
        ("Channel", "on-call: ü"),
        ("Feature", "old"),
        ("Channel", "mail"),
    ]
    assert names("--team", "others") == [("Feature", "old"), ("Channel", "mail")]
    assert names("--feature", "support-chat") == [("Feature", "support-chat")]
    assert names("--team", "assistants", "--feature", "7") == [("Feature", "7")]
    for options, said in (
        (("--team", "nobody"), "There is no team 'nobody'."),
        (("--feature", "old", "--team", "assistants"), "There is no feature 'old' in team 'assistants'."),
    ):
        with pytest.raises(CommandError, match=said):
            run("export", *options)


def test_an_export_of_a_feature_has_its_rules_and_changes_nothing(file: Path) -> None:
    team, now = make_team(slug="assistants"), timezone.now()
    for slug in ("support-chat", "support"):
        make_feature(team=team, slug=slug, now=now)
        rules = {
            "mine": {"kind": "threshold", "milestone": "first_token", "parameters": {"threshold_ms": 700}},
            "silence": {"kind": "no_data", "for_seconds": 60, "enabled": False},
            AlertRule.default_name(AlertRule.Kind.BURN_RATE, "first_token", "production"): {
                "kind": "burn_rate",
                "milestone": "first_token",
                "severity": "ticket",
            },
        }
        for name, document in rules.items():
            save_rule(team=team, feature=slug, name=name, document=document, actor="a test", now=now)
    exported = run("export", "--feature", "support")
    found = list(yaml.safe_load_all(exported))
    assert [(one["kind"], one["name"]) for one in found] == [
        ("Feature", "support"),
        *(("AlertRule", f"support/{name}") for name in sorted(rules)),
    ]
    assert apply(file, exported).endswith("0 of 4 documents changed.\n")
    # Into another installation it takes all of them.
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; TRUNCATE budgets_team CASCADE")
    assert apply(file, exported).endswith("4 of 4 documents changed.\n")
    assert run("export", "--feature", "support") == exported


# -- channels of every kind -------------------------------------------------------------------------

# Each secret holds "hidden".
EVERY_KIND: dict[str, dict[str, Any]] = {
    "webhook": {"url": "https://93.184.215.14/T0", "secret": SECRET},
    "email": {"to": ["oncall@example.com"]},
    "slack": {"url": "https://93.184.215.14/services/hidden"},
    "teams": {"url": "https://93.184.215.14/workflows/hidden"},
    "discord": {"url": "https://93.184.215.14/api/webhooks/hidden"},
    "telegram": {"token": "110201543:hidden" + "A" * 30, "chat_id": "-100123", "topic_id": "5"},
    "pagerduty": {"routing_key": "hidden" + "0" * 26, "region": "eu"},
    "opsgenie": {"api_key": "hidden" + "0" * 20, "region": "us"},
    "alertmanager": {"url": "https://93.184.215.14/", "authorization": "Bearer hidden"},
    "apprise": {"url": "pover://hidden" + "u" * 24 + "@hidden" + "a" * 24},
}


def test_channels_of_every_kind_are_applied_exported_and_applied_again(file: Path) -> None:
    make_team(slug="assistants")
    documents = [
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Channel",
                "team": "assistants",
                "name": kind,
                "spec": {"kind": kind, **config, "min_severity": "page"},
            }
        )
        for kind, config in EVERY_KIND.items()
    ]
    assert EVERY_KIND.keys() == CHANNEL_KINDS.keys()
    said = apply(file, *documents)
    assert {one.kind: one.config for one in Channel.objects.all()} == EVERY_KIND
    exported = run("export")
    assert len(list(yaml.safe_load_all(exported))) == len(EVERY_KIND)
    for text in (said, exported, str(list(AuditEntry.objects.values()))):
        assert "hidden0" not in text
        assert "hiddenA" not in text
        assert "hiddenu" not in text
        assert "/hidden" not in text
        assert SECRET not in text
    assert apply(file, exported).endswith(f"0 of {len(EVERY_KIND)} documents changed.\n")
    assert {one.kind: one.config for one in Channel.objects.all()} == EVERY_KIND


def test_a_document_removes_a_secret_that_its_channel_can_do_without_once(file: Path) -> None:
    make_team(slug="assistants")
    document = """
apiVersion: v1
kind: Channel
team: assistants
name: am
spec: {kind: alertmanager, url: "https://93.184.215.14/"%s}
"""
    apply(file, document % ', authorization: "Bearer hidden"')
    apply(file, document % "")
    assert Channel.objects.get().config == EVERY_KIND["alertmanager"]
    removed = document % ', authorization: ""'
    assert apply(file, removed).endswith("1 of 1 documents changed.\n")
    assert Channel.objects.get().config == {"url": "https://93.184.215.14/"}
    assert apply(file, removed).endswith("0 of 1 documents changed.\n")


def test_a_persons_own_channel_is_exported_with_its_owner(file: Path) -> None:
    team = make_team(slug="assistants")
    make_person("kim@example.com", team=team)
    document = {"kind": "email", "to": ["kim@example.com"], "owner": "kim@example.com"}
    save_channel(team=team, name="kim", document=document, actor="a test", now=timezone.now())
    exported = run("export")
    assert yaml.safe_load(exported)["spec"]["owner"] == "kim@example.com"
    assert apply(file, exported).endswith("0 of 1 documents changed.\n")


# -- holds and escalation ---------------------------------------------------------------------------

POLICY = """\
apiVersion: v1
kind: EscalationPolicy
team: assistants
name: pages
spec:
  matchers:
    - {name: severity, operator: =, value: page}
  steps:
    - notify:
        - {kind: schedule, name: primary}
        - {kind: channel, name: on-call}
      wait_minutes: 5
"""
SCHEDULE = """\
apiVersion: v1
kind: Schedule
team: assistants
name: primary
spec:
  time_zone: Europe/Berlin
  starts_on: 2026-11-02
  hands_over_at: '09:00'
  people: [ada@example.com, null]
"""
WINDOW = """\
apiVersion: v1
kind: MaintenanceWindow
team: assistants
name: Sunday
spec:
  time_zone: Europe/Berlin
  starts_on: 2026-11-22
  starts_at: '02:00'
  duration_minutes: 120
  recurrence: FREQ=WEEKLY;BYDAY=SU
"""
SILENCE = """\
apiVersion: v1
kind: Silence
team: assistants
name: Load test of the index
spec:
  matchers:
    - {name: feature, operator: =, value: support-chat}
  ends_at: 2026-11-22T02:00:00Z
"""


@pytest.fixture
def assistants() -> Iterator[Team]:
    """The team with Ada in it, at a time at which the silence is yet to end."""
    team = make_team(slug="assistants")
    make_person("ada@example.com", team=team)
    with time_machine.travel("2026-11-21T20:00:00Z", tick=False):
        yield team


def test_what_a_document_refers_to_may_stand_after_it(file: Path, assistants: Team) -> None:
    documents = (POLICY, SILENCE, WINDOW, SCHEDULE, CHANNEL)
    said = apply(file, *documents)
    assert said.endswith("5 of 5 documents changed.\n")
    order = [
        said.index(f"{line}: new")
        for line in ("EscalationPolicy pages", "Schedule primary", "Channel on-call")
    ]
    assert order == sorted(order), "they are told of in the order of the file"
    assert apply(file, *documents).endswith("0 of 5 documents changed.\n")


def test_holds_and_escalation_are_exported_and_change_nothing(file: Path, assistants: Team) -> None:
    apply(file, POLICY, SILENCE, WINDOW, SCHEDULE, CHANNEL)
    exported = run("export")
    kinds = [one["kind"] for one in yaml.safe_load_all(exported)]
    assert kinds == ["Channel", "Schedule", "EscalationPolicy", "MaintenanceWindow", "Silence"]
    file.write_text(exported.replace("T0-a-token", "${TOKEN}"))
    assert run("apply", str(file)).endswith("0 of 5 documents changed.\n")


def test_a_schedule_of_gaps_only_is_refused(file: Path, assistants: Team) -> None:
    said = refused(file, SCHEDULE.replace("[ada@example.com, null]", "[null]"))
    assert "Schedule primary, spec.people: people needs a member of the team" in said


def test_a_silence_that_leaves_out_nothing_that_there_is_now_is_refused(file: Path, assistants: Team) -> None:
    make_feature(team=assistants, slug="support-chat")
    said = refused(file, SILENCE.replace("operator: =, value: support-chat", "operator: '!=', value: nosuch"))
    assert "Silence Load test of the index, spec.matchers: feature != nosuch fits everything" in said
    apply(file, SILENCE)


def test_a_silence_that_changes_is_ended_and_made_anew(file: Path, assistants: Team) -> None:
    apply(file, SILENCE)
    said = apply(file, SILENCE.replace("02:00:00", "03:00:00"))
    assert "-ends_at: '2026-11-22T02:00:00Z'\n+ends_at: '2026-11-22T03:00:00Z'\n" in said
    old, new = Silence.objects.order_by("pk")
    assert (old.ended_by, old.ends_at) == ("manage.py apply", timezone.now())
    assert (new.reason, new.ended_by) == ("Load test of the index", "")


def test_a_silence_that_is_over_changes_nothing_and_is_not_exported(file: Path, assistants: Team) -> None:
    apply(file, SILENCE)
    with time_machine.travel("2026-11-22T02:00:00Z", tick=False):
        assert "It is over." in apply(file, SILENCE)
        assert run("export") == "# Nothing is declared.\n"
        Silence.objects.all().delete()
        assert "spec.ends_at: ends_at must be after the start (now)" in refused(file, SILENCE)


def test_a_window_that_has_passed_changes_nothing_is_not_exported_and_not_made(
    file: Path, assistants: Team
) -> None:
    once = WINDOW.replace("  recurrence: FREQ=WEEKLY;BYDAY=SU\n", "")
    apply(file, once)
    with time_machine.travel("2026-11-22T03:00:00Z", tick=False):
        said = apply(file, once)
        assert "It is over." in said
        assert said.endswith("0 of 1 documents changed.\n")
        assert run("export") == "# Nothing is declared.\n"
        MaintenanceWindow.objects.all().delete()
        said = refused(file, once)
    assert "spec.starts_on: It is over: it would have ended at 2026-11-22 04:00 in Europe/Berlin." in said


def test_a_window_that_never_closes_is_refused_and_stays_where_it_is_there_already(
    file: Path, assistants: Team
) -> None:
    always = WINDOW.replace("120", "10080")
    said = refused(file, always)
    assert (
        "MaintenanceWindow Sunday, spec.duration_minutes: From Sun 22 Nov, 02:00 CET on it comes again"
        in said
    )
    apply(file, WINDOW)
    MaintenanceWindow.objects.update(duration_minutes=10080)
    assert apply(file, always).endswith("0 of 1 documents changed.\n")


def test_a_mistake_in_a_policy_is_refused_where_it_stands(file: Path, assistants: Team) -> None:
    said = refused(file, CHANNEL, POLICY)
    assert "EscalationPolicy pages, spec.steps: steps[0]: 'primary' is not a schedule of the team." in said
