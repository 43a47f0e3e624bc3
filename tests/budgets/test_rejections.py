"""Whoever looks for their measurements finds what was refused, and why."""

from __future__ import annotations

import pytest
from django.utils import timezone

from budgets import rejections
from budgets.models import RejectedPayload
from tests.api import Api
from tests.factories import make_feature, measurement

pytestmark = pytest.mark.django_db


def item(api: Api, **overrides: object) -> dict[str, object]:
    feature = getattr(api, "feature", None) or make_feature(team=api.team)
    api.feature = feature  # type: ignore[attr-defined]
    return {
        **measurement(feature, ended_at=timezone.now(), duration_ms=900, milestone="first_token"),
        **overrides,
    }


def test_the_rejected_items_of_a_payload_are_kept_with_reason_and_text(api: Api) -> None:
    answer = api.post({"measurements": [item(api), item(api, duration_ms=-3)]})
    assert answer.status_code == 200

    kept = RejectedPayload.objects.get()

    assert (kept.status, kept.code, kept.accepted, kept.rejected_count) == (200, "", 1, 1)
    assert kept.items[0]["index"] == 1
    assert kept.items[0]["code"] == "negative_duration"
    assert '"duration_ms":-3' in kept.items[0]["item"]


def test_what_is_accepted_whole_leaves_nothing(api: Api) -> None:
    assert api.post({"measurements": [item(api)]}).status_code == 200
    assert not RejectedPayload.objects.exists()


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", "malformed_json"), (b"{}", "empty_body"), (b'{"measurements":[1]}', "nothing_usable")],
)
def test_a_payload_that_is_refused_whole_is_kept(api: Api, body: bytes, code: str) -> None:
    assert api.post(body).status_code == 400
    kept = RejectedPayload.objects.get()
    assert (kept.status, kept.code) == (400, code)
    assert kept.message


def test_only_the_last_hundred_of_a_key_and_the_first_twenty_items_are_kept(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejections, "KEPT_A_KEY", 3)
    for number in range(5):
        api.post({"measurements": [item(api, duration_ms=-number - 1)] * 30})

    assert RejectedPayload.objects.count() == 3
    newest = RejectedPayload.objects.order_by("-id")[0]
    assert newest.rejected_count == 30
    assert len(newest.items) == rejections.MAX_ITEMS
    assert '"duration_ms":-5' in newest.items[0]["item"]


def test_hostile_items_are_kept_as_text(api: Api) -> None:
    answer = api.post(
        {
            "measurements": [
                item(api, release="a\0b"),
                item(api, labels={"a": "<img onerror>" * 100}, duration_ms=-1),
            ]
        }
    )
    assert answer.status_code == 400
    kept = RejectedPayload.objects.get()
    assert "<img onerror>" in kept.items[1]["item"]
    assert len(kept.items[1]["item"]) <= rejections.MAX_EXCERPT_CHARACTERS + 1


def test_a_full_backlog_is_not_the_payloads_fault(api: Api, settings: object) -> None:
    settings.INGEST_MAX_BACKLOG = -1  # type: ignore[attr-defined]
    assert api.post({"measurements": [item(api)]}).status_code == 429
    assert not RejectedPayload.objects.exists()
