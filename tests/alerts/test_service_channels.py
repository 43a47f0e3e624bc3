"""What Slack, Teams, Discord, Telegram, PagerDuty and Opsgenie are sent, and what their answers are taken for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings

from alerts.addresses import parse_networks
from alerts.channels import KINDS, SERVICES, InvalidConfig, Message
from alerts.models import Channel, DeliveryAttempt, Notification
from alerts.notifications import claim_due, deliver
from alerts.outbound import Answer, DeliveryError, ForbiddenAddress
from alerts.trials import try_channel
from alerts.wording import SILENT, Story, letter
from tests.alerts.services import (
    API_KEY,
    CHAT_ID,
    DISCORD_PATH,
    ROUTING_KEY,
    SLACK_PATH,
    TEAMS_PATH,
    TOKEN,
    Services,
    services,
)
from tests.alerts.test_email_channel import INCIDENT, make_message
from tests.alerts.test_incident_pages import open_one
from tests.factories import make_feature, make_team
from tests.receivers import Reply

__all__ = ["services"]

LOCAL = parse_networks(["127.0.0.1/32"])
NOW = datetime(2026, 11, 21, 20, 0, 5, tzinfo=UTC)
HOSTILE = "<!channel> @here <b>*x*_y_ [z](https://evil.test) </a>&lt; {{DATE(1)}} `q` <@U1> \\ \"' 🙂"
EVERY_KIND = ["discord", "opsgenie", "pagerduty", "slack", "teams", "telegram"]


def config_of(kind: str, services: Services) -> dict[str, str]:
    """A channel of the kind whose requests end here."""
    return {
        "slack": {"url": services.at(SLACK_PATH)},
        "teams": {"url": services.at(f"{TEAMS_PATH}?sig=teams-token")},
        "discord": {"url": services.at(DISCORD_PATH)},
        "telegram": {"token": TOKEN, "chat_id": CHAT_ID, "api_url": services.at("")},
        "pagerduty": {"routing_key": ROUTING_KEY, "region": "us", "api_url": services.at("/")},
        "opsgenie": {"api_key": API_KEY, "region": "eu", "api_url": services.at("")},
    }[kind]


def send(kind: str, services: Services, message: Message | None = None, **config: str) -> Answer:
    return KINDS[kind].send(
        {**config_of(kind, services), **config}, message or make_message(), now=NOW, allowed_networks=LOCAL
    )


def message_of(happening: str, **overrides: Any) -> Message:
    step: Any = happening if happening in ("acknowledged", "resolved") else "opened"
    story = overrides.pop("story", Story(step, "Support chat", step_words=happening.capitalize()))
    return make_message(type=f"incident.{happening}", story=story, **overrides)


def sent_text(services: Services) -> str:
    """All that was sent, with one kind of quotation mark."""
    return services.requests[-1].body.decode()


# -- What arrives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    "happening",
    [
        "opened",
        "updated",
        "repeated",
        "reopened",
        "acknowledged",
        "reminder",
        "unacknowledged",
        "resolved",
    ],
)
def test_a_service_takes_every_step_of_an_incident(services: Services, kind: str, happening: str) -> None:
    assert 200 <= send(kind, services, message_of(happening)).status < 300
    assert len(services.requests) == 1


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_message_says_all_of_the_letter_in_its_order(services: Services, kind: str) -> None:
    message = make_message()
    send(kind, services, message)
    content = letter(message.incident, message.story)
    text = sent_text(services).replace("\\\\", "")  # what Discord escapes, it shows
    places = [text.find(part) for part in (content.lead, *content.sentences)]
    assert -1 not in places, (kind, [content.lead, *content.sentences], text)
    assert places == sorted(places)
    for _, address in content.links:
        assert address in text.replace("&amp;", "&"), kind


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("name", [HOSTILE, "x" * 5000, "<&>" * 2000, "🙂" * 3000, "*" * 4000, '"\\' * 3000])
def test_a_hostile_or_endless_name_is_text_within_every_limit(
    services: Services, kind: str, name: str
) -> None:
    cause = {"component": name, "allocated_ms": 800, "observed_ms": 2100}
    incident = {**INCIDENT, "component": None, "environment": name, "rule": name, "cause": cause}
    note = Story("acknowledged", name, step_words=f"Acknowledged by {name}", note=name)
    for message in (
        make_message(incident=incident, story=Story("opened", name), channel=name),
        message_of("acknowledged", incident=incident, story=note, channel=name),
        message_of("updated", incident=incident, story=note, channel=name),
    ):
        assert 200 <= send(kind, services, message).status < 300


@pytest.mark.parametrize(
    ("kind", "literally"),
    [
        ("slack", "&lt;!channel&gt; @\u200bhere &lt;b&gt;"),
        ("telegram", "&lt;!channel&gt; @\u200bhere &lt;b&gt;"),
        ("discord", r"\\<!channel\\> \\@here \\<b\\>\\*x\\*\\_y\\_ \\[z\\]\\(https\\://evil.test\\)"),
        ("teams", "<!channel> @here <b>*x*_y_ [z](https://evil.test)"),
    ],
)
def test_markup_and_mentions_in_a_name_are_shown_and_not_obeyed(
    services: Services, kind: str, literally: str
) -> None:
    send(kind, services, make_message(story=Story("opened", HOSTILE)))
    assert literally in sent_text(services)


def test_a_colour_tells_pages_tickets_who_has_it_and_the_end_apart(services: Services) -> None:
    ticket = {**INCIDENT, "severity": "ticket"}
    silent = Story("resolved", "Support chat", step_words="Silent", reason=SILENT)
    seen = {}
    for name, message in {
        "page": make_message(),
        "ticket": make_message(incident=ticket),
        "taken": message_of("acknowledged"),
        "over": message_of("resolved"),
        "silent": message_of("resolved", story=silent),
    }.items():
        for kind in ("slack", "discord", "teams"):
            send(kind, services, message)
        slack, discord, teams = [request.json() for request in services.requests[-3:]]
        seen[name] = (
            slack["attachments"][0]["color"],
            discord["embeds"][0]["color"],
            teams["attachments"][0]["content"]["body"][0]["style"],
        )
    assert [colour[2] for colour in seen.values()] == ["attention", "warning", "accent", "good", "emphasis"]
    for place in range(2):
        assert len({colours[place] for colours in seen.values()}) == 5


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("pagerduty", ["triggered", "acknowledged", "triggered", "resolved", "triggered"]),
        ("opsgenie", ["open", "acked", "open", "closed", "open"]),
    ],
)
def test_an_alert_follows_its_incident_under_one_key(
    services: Services, kind: str, states: list[str]
) -> None:
    seen = []
    for happening in ("opened", "acknowledged", "unacknowledged", "resolved", "reopened"):
        send(kind, services, message_of(happening, message_id=f"another-{happening}"))
        (state,) = services.alerts.values()
        seen.append(state)
    assert seen == states
    assert list(services.alerts) == ["latency.example.com-incident-7"]


@pytest.mark.parametrize("kind", ["pagerduty", "opsgenie"])
def test_installations_and_incidents_share_no_key(services: Services, kind: str) -> None:
    there = {**INCIDENT, "url": f"https://{'very-' * 60}long.example.org/incidents/7/"}
    for incident in (INCIDENT, {**INCIDENT, "id": 8}, there, {**there, "url": "http://other:8000/"}):
        send(kind, services, make_message(incident=incident))
    assert len(services.alerts) == 4


def test_pagerduty_pages_for_a_page_and_warns_for_a_ticket(services: Services) -> None:
    send("pagerduty", services)
    send("pagerduty", services, make_message(incident={**INCIDENT, "severity": "ticket"}))
    page, ticket = [request.json()["payload"] for request in services.requests]
    assert (page["severity"], ticket["severity"]) == ("critical", "warning")
    assert page["source"] == "support-chat/production"
    assert page["custom_details"]["cause"]["component"] == "tools"


@pytest.mark.parametrize(
    ("kind", "region", "host"),
    [
        ("pagerduty", "us", "https://events.pagerduty.com/v2/enqueue"),
        ("pagerduty", "eu", "https://events.eu.pagerduty.com/v2/enqueue"),
        ("opsgenie", "us", "https://api.opsgenie.com/v2/alerts"),
        ("opsgenie", "eu", "https://api.eu.opsgenie.com/v2/alerts"),
    ],
)
def test_a_region_has_its_own_address(services: Services, kind: str, region: str, host: str) -> None:
    config = {**config_of(kind, services), "region": region}
    del config["api_url"]
    assert SERVICES[kind].post_of(config, make_message(), NOW).url == host


def test_telegram_writes_into_a_topic(services: Services) -> None:
    send("telegram", services, topic_id="12")
    assert services.requests[0].json()["message_thread_id"] == 12


# -- What is taken for delivered --------------------------------------------------------------------


def refused(kind: str, services: Services, **config: str) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send(kind, services, **config)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "config", "status", "said"),
    [
        ("slack", {"url": "/services/T/B/gone"}, 404, "Slack answered 404 no_service"),
        ("pagerduty", {"routing_key": "W" * 32}, 400, "Length of 'routing_key' is incorrect"),
        ("teams", {"url": "/workflows/gone"}, 404, "The workflow was deleted"),
        ("discord", {"url": "/api/webhooks/1/gone"}, 404, "Unknown Webhook (code 10015)"),
        ("telegram", {"chat_id": "-5"}, 400, "Bad Request: chat not found"),
        ("telegram", {"token": "1234567:" + "w" * 35}, 404, "Telegram refuses it: Not Found"),
    ],
)
def test_what_a_service_never_takes_is_not_tried_again(
    services: Services, kind: str, config: dict[str, str], status: int, said: str
) -> None:
    config = {name: services.at(value) if name == "url" else value for name, value in config.items()}
    error = refused(kind, services, **config)
    assert (error.permanent, error.status) == (True, status)
    assert said in error.message


@pytest.mark.parametrize(
    ("kind", "reply", "retry_after_s"),
    [
        ("slack", Reply(429, {"Retry-After": "30"}, b"rate_limited"), 30),
        ("slack", Reply(500, body=b"rollup_error"), None),
        ("slack", Reply(404, body=b"<html>no route</html>"), None),
        ("slack", Reply(403, body=b"a proxy says no"), None),
        ("pagerduty", Reply(429), None),
        ("pagerduty", Reply(503), None),
        ("pagerduty", Reply(400, body=b"<html>a proxy</html>"), None),
        ("opsgenie", Reply(429, body=b'{"message": "You are making too many requests!"}'), None),
        ("opsgenie", Reply(401, body=b'{"message": "Could not authenticate"}'), None),
        ("opsgenie", Reply(503), None),
        ("teams", Reply(429, {"Retry-After": "7"}), 7),
        ("teams", Reply(200, body=b"Webhook message delivery failed with error: HTTP error 429"), None),
        ("teams", Reply(400, body=b'{"error": {"code": "WorkflowTriggerIsNotEnabled"}}'), None),
        ("discord", Reply(429, {"Retry-After": "2"}, b'{"message": "slow", "retry_after": 1.337}'), 1.337),
        ("discord", Reply(403, body=b"error code: 1010"), None),
        ("discord", Reply(502), None),
        (
            "telegram",
            Reply(429, body=b'{"ok": false, "error_code": 429, "parameters": {"retry_after": 41}}'),
            41,
        ),
        (
            "telegram",
            Reply(400, body=b'{"ok": false, "parameters": {"migrate_to_chat_id": -1009}}'),
            None,
        ),
        ("telegram", Reply(502, body=b"bad gateway"), None),
    ],
)
def test_what_may_pass_is_tried_again_when_the_service_says(
    services: Services, kind: str, reply: Reply, retry_after_s: float | None
) -> None:
    services.answer(reply)
    error = refused(kind, services)
    assert (error.permanent, error.retry_after_s) == (False, retry_after_s)


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("slack", Reply(410, body=b"channel_is_archived")),
        ("slack", Reply(403, body=b"action_prohibited")),
        ("opsgenie", Reply(422, body=b'{"message": "Request body is not processable."}')),
        ("telegram", Reply(403, body=b'{"ok": false, "description": "Forbidden: bot was blocked"}')),
    ],
)
def test_the_services_own_words_for_never_end_it(services: Services, kind: str, reply: Reply) -> None:
    services.answer(reply)
    assert refused(kind, services).permanent


def test_a_group_that_moved_names_its_new_number(services: Services) -> None:
    services.answer(Reply(400, body=b'{"ok": false, "parameters": {"migrate_to_chat_id": -1009}}'))
    assert "-1009" in refused("telegram", services).message


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_an_address_inside_is_not_reached_unless_it_is_allowed(services: Services, kind: str) -> None:
    with pytest.raises(ForbiddenAddress):
        KINDS[kind].send(config_of(kind, services), make_message(), now=NOW, allowed_networks=())
    with pytest.raises(InvalidConfig, match="loopback"):
        KINDS[kind].validate(config_of(kind, services), allowed_networks=())
    assert services.requests == []


# -- Configs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_sound_config_is_kept_without_spaces_around_its_texts(services: Services, kind: str) -> None:
    config = config_of(kind, services)
    given = {name: f" {text}\n" for name, text in config.items()}
    assert KINDS[kind].validate(given, allowed_networks=LOCAL) == config


@pytest.mark.parametrize(
    ("kind", "change", "field", "said"),
    [
        ("slack", {"url": None}, "url", "Webhook URL is missing"),
        ("slack", {"url": "ftp://x"}, "url", "https://"),
        ("slack", {"channel": "#a"}, "channel", "Slack has the fields url, and no other."),
        ("teams", {"url": 7}, "url", "url must be the URL of a workflow"),
        ("discord", {"url": "http://10.0.0.1/"}, "url", "private"),
        ("telegram", {"token": "secret-token"}, "token", "token must be a bot's token"),
        ("telegram", {"chat_id": "somebody"}, "chat_id", "got 'somebody'"),
        ("telegram", {"chat_id": True}, "chat_id", "got True"),
        ("telegram", {"topic_id": "x"}, "topic_id", "number of a topic"),
        ("pagerduty", {"routing_key": "short"}, "routing_key", "the 32 letters and digits"),
        ("pagerduty", {"region": "mars"}, "region", "one of us, eu, got 'mars'"),
        ("pagerduty", {"api_url": "http://169.254.169.254/"}, "api_url", "metadata"),
        ("opsgenie", {"api_key": ""}, "api_key", "API key is missing"),
    ],
)
def test_a_config_that_cannot_be_is_refused_at_its_field(
    services: Services, kind: str, change: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        KINDS[kind].validate({**config_of(kind, services), **change}, allowed_networks=LOCAL)
    assert list(caught.value.fields) == [field]
    assert said in " ".join(caught.value.fields[field])
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_nothing_secret_is_described_or_outlives_the_channel(services: Services, kind: str) -> None:
    config = config_of(kind, services)
    secrets = KINDS[kind].secrets(config)
    assert secrets
    left = KINDS[kind].without_secrets(config)
    for secret in secrets:
        assert secret not in KINDS[kind].describe(config)
        assert secret not in str(left)
    assert KINDS[kind].describe({**left, "region": "us"})


def test_a_chat_may_be_given_as_a_number(services: Services) -> None:
    config = {**config_of("telegram", services), "chat_id": int(CHAT_ID)}
    assert KINDS["telegram"].validate(config, allowed_networks=LOCAL)["chat_id"] == CHAT_ID


# -- By the way that alerts take --------------------------------------------------------------------


@pytest.fixture
def _local(settings: LazySettings) -> None:
    settings.OUTBOUND_ALLOWED_CIDRS = ["127.0.0.1/32"]


@pytest.mark.django_db
@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_test_button_sends_both_messages_and_shows_the_real_answer(services: Services, kind: str) -> None:
    channel = Channel.objects.create(team=make_team(), name="c", kind=kind, config=config_of(kind, services))
    trial = try_channel(channel_id=channel.pk, actor="kim@example.com", now=NOW)
    assert trial.is_delivered
    firing, resolved = [one.attempts.get() for one in trial.notifications]
    expected = {"slack": 200, "telegram": 200, "discord": 204}.get(kind, 202)
    assert (firing.status_code, resolved.status_code) == (expected, expected)
    if kind in ("pagerduty", "opsgenie"):
        assert list(services.alerts.values()) == [{"pagerduty": "resolved", "opsgenie": "closed"}[kind]]
    if kind == "slack":
        assert firing.excerpt == "ok"
    assert "made up" in services.requests[0].body.decode()


@pytest.mark.django_db
@pytest.mark.usefixtures("_local")
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_no_log_shows_a_secret_that_an_answer_repeats(services: Services, kind: str) -> None:
    team = make_team()
    channel = Channel.objects.create(team=team, name="c", kind=kind, config=config_of(kind, services))
    secrets = KINDS[kind].secrets(channel.config)
    services.answer(
        Reply(500, body=" ".join(["POST", *secrets]).encode()),
        Reply(302, {"Location": f"https://elsewhere.test{secrets[0]}"}),
    )
    open_one(make_feature(team=team))
    for _ in range(2):
        (claimed,) = claim_due(now=NOW, limit=1) or [None]
        assert claimed is not None
        deliver(claimed=claimed, now=NOW)
        Notification.objects.update(next_attempt_at=NOW)
    attempts = list(DeliveryAttempt.objects.order_by("number"))
    assert "•••" in attempts[0].excerpt
    assert "•••" in attempts[1].error
    for attempt in attempts:
        for secret in secrets:
            assert secret not in attempt.excerpt + attempt.error
