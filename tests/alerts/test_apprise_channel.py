"""Services by the library apprise: which URLs are taken, what arrives, and what is shown of what went wrong."""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from django.conf import LazySettings

from alerts.channels import KINDS, InvalidConfig
from alerts.channels.apprise import FIXED_HOSTS, plugin_of
from alerts.models import Channel
from alerts.outbound import Answer, DeliveryError
from alerts.trials import try_channel
from tests.alerts.test_email_channel import make_message
from tests.children import PROJECT
from tests.factories import make_team
from tests.receivers import HANG, Reply, WebhookReceiver

NOW = datetime(2026, 11, 21, 20, 0, 5, tzinfo=UTC)
USER, TOKEN = "u" * 30, "a" * 30
PUSHOVER = f"pover://{USER}@{TOKEN}"
TAKEN = Reply(200, {"Content-Type": "application/json"}, b'{"status": 1, "request": "x"}')


@pytest.fixture
def pushover(webhook_receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch) -> WebhookReceiver:
    """Pushover's address leads here: its host is fixed in the library."""
    from apprise.plugins.pushover import NotifyPushover

    monkeypatch.setattr(NotifyPushover, "notify_url", webhook_receiver.url)
    webhook_receiver.answer_always(TAKEN)
    return webhook_receiver


def send(url: str = PUSHOVER, *, deadline_s: float = 10.0) -> Answer:
    return KINDS["apprise"].send(
        {"url": url}, make_message(), now=NOW, allowed_networks=(), deadline_s=deadline_s
    )


def test_a_message_arrives_with_what_the_letter_says(pushover: WebhookReceiver) -> None:
    answer = send()
    (request,) = pushover.requests
    sent = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    assert (sent["user"], sent["token"]) == (USER, TOKEN)
    assert sent["title"] == "✕ Support chat, first token: p99 4.20 s of 3 s"
    assert "Burning 15.2× over 1 h" in sent["message"]
    assert "https://latency.example.com/incidents/7/" in sent["message"]
    assert answer.status == 0
    assert "Pushover" in answer.excerpt


def test_what_the_service_refused_is_said_with_its_status(pushover: WebhookReceiver) -> None:
    pushover.answer(Reply(400, body=b'{"status": 0}'))
    with pytest.raises(DeliveryError, match="Pushover did not take it") as caught:
        send()
    assert (caught.value.status, caught.value.permanent) == (400, False)
    assert "error=400" in caught.value.excerpt


def test_a_redirect_is_not_followed_whatever_the_url_asks_for(pushover: WebhookReceiver) -> None:
    pushover.answer(Reply(302, {"Location": f"{pushover.url}/inside"}))
    with pytest.raises(DeliveryError):
        send(f"{PUSHOVER}?redirect=yes&retry=5&verify=no&rto=900&cto=900")
    assert len(pushover.requests) == 1
    made = plugin_of(f"{PUSHOVER}?redirect=yes&retry=5&verify=no&rto=900&cto=900", timeout_s=3)
    assert (made.verify_certificate, made.redirects, made.retry) == (True, False, 0)
    assert made.request_timeout == (3, 3)


def test_a_service_that_hangs_takes_no_longer_than_a_try_may(pushover: WebhookReceiver) -> None:
    pushover.answer(HANG)
    started = time.monotonic()
    with pytest.raises(DeliveryError, match=r"no answer within 0\.3 s"):
        send(deadline_s=0.3)
    assert time.monotonic() - started < 3


def test_nothing_that_the_library_says_gets_into_the_logs(
    pushover: WebhookReceiver, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pushover.answer(Reply(500, body=TOKEN.encode()))
    with caplog.at_level(logging.DEBUG), pytest.raises(DeliveryError):
        send()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("json://127.0.0.1:8000/", "'json' is none of the schemes"),
        ("gotifys://inside.example.com/token", "'gotifys' is none of the schemes"),
        ("file:///etc/passwd", "'file' is none of the schemes"),
        ("syslog://", "url must be"),
        ("mailto://user:secret-password@example.com", "'mailto' is none of the schemes"),
        ("pover://", "url must be"),
        ("pover://secret-password", "no Apprise URL for Pushover"),
        ("no url", "url must be an Apprise URL"),
    ],
)
def test_a_url_that_could_lead_anywhere_or_nowhere_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        KINDS["apprise"].validate({"url": url}, allowed_networks=())
    assert said in str(caught.value)
    assert "secret-password" not in str(caught.value)


def test_an_installation_allows_less(settings: LazySettings, pushover: WebhookReceiver) -> None:
    settings.APPRISE_SCHEMES = ["gchat", "json"]
    with pytest.raises(InvalidConfig, match="allowed here: gchat"):
        KINDS["apprise"].validate({"url": PUSHOVER}, allowed_networks=())
    with pytest.raises(InvalidConfig, match="'json' is none of the schemes"):
        KINDS["apprise"].validate({"url": "json://127.0.0.1/"}, allowed_networks=())
    with pytest.raises(DeliveryError, match="allowed here: gchat"):
        send()
    assert pushover.requests == []


@pytest.mark.parametrize("scheme", sorted(FIXED_HOSTS))
def test_the_host_of_every_scheme_stands_in_the_librarys_source(scheme: str) -> None:
    """And not in the URL, which a customer chose."""
    found = FIXED_HOSTS[scheme]
    plugin = getattr(importlib.import_module(f"apprise.plugins.{found.module}"), found.name)
    assert scheme in (
        *_texts(plugin.protocol),
        *_texts(plugin.secure_protocol),
    )
    addresses = [
        text
        for name, text in inspect.getmembers(plugin)
        if name.endswith("_url") and name not in ("service_url", "setup_url", "app_url", "image_url")
        for text in _texts(text)
    ]
    addresses += re.findall(r'"(https?://[^"]+)"', inspect.getsource(plugin)) if not addresses else []
    assert addresses
    for address in addresses:
        host = re.match(r"(?:https?|\{schema\})://([^/?]+)", address)
        assert host is not None, address
        assert "{" not in host[1], address


def _texts(found: object) -> tuple[str, ...]:
    if isinstance(found, str):
        return (found,)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, tuple) else ()


def test_what_is_secret_of_a_url_is_all_of_it() -> None:
    kind, config = KINDS["apprise"], {"url": PUSHOVER}
    assert {USER, TOKEN, PUSHOVER} <= set(kind.secrets(config))
    assert kind.describe(config) == "Pushover by Apprise"
    left = kind.without_secrets(config)
    assert (left, kind.describe(left)) == ({"url": "pover://"}, "Pushover by Apprise")


@pytest.mark.django_db
def test_the_test_button_shows_what_the_library_said_without_the_token(pushover: WebhookReceiver) -> None:
    channel = Channel.objects.create(team=make_team(), name="phone", kind="apprise", config={"url": PUSHOVER})
    pushover.answer(TAKEN, Reply(500, body=f"no, {TOKEN}".encode()))
    trial = try_channel(channel_id=channel.pk, actor="kim@example.com", now=NOW)
    assert not trial.is_delivered
    firing, resolved = [one.attempts.get() for one in trial.notifications]
    assert (firing.outcome, resolved.outcome) == ("delivered", "failed")
    assert resolved.status_code == 500
    assert TOKEN not in firing.excerpt + resolved.excerpt + resolved.error


def test_the_documentation_lists_every_scheme() -> None:
    text = (PROJECT / "docs/how-to/tell-people-and-programs.md").read_text()
    of_apprise = text.partition("## Apprise")[2].partition("`APPRISE_SCHEMES`")[0]
    assert set(re.findall(r"`([a-z0-9]+)`", of_apprise)) - {"url"} == FIXED_HOSTS.keys()


@pytest.mark.parametrize(
    ("environment", "allowed"),
    [
        ({}, None),
        ({"APPRISE_SCHEMES": ""}, []),
        ({"APPRISE_SCHEMES": "pover, gchat"}, ["pover", "gchat"]),
    ],
)
def test_unset_allows_every_scheme_and_empty_none(
    environment: dict[str, str], allowed: list[str] | None
) -> None:
    code = "from latency_dashboard import settings; print(repr(settings.APPRISE_SCHEMES))"
    inherited = {name: value for name, value in os.environ.items() if name != "APPRISE_SCHEMES"}
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == repr(allowed)
