"""No log shows a secret that a receiver repeats: however it writes it, and wherever the answer ends."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.channels import KINDS, masked

SLACK = {"webhook_url": "https://hooks.slack.test/services/T00/B00/SECRETxyz"}
WEBHOOK = {"url": "https://hooks.example.test/in/tokentoken?key=abc&t=Z%2Fsigned", "secret": "whsec_c2VjcmV0"}


def slashes_escaped(text: str) -> str:
    return json.dumps(text)[1:-1].replace("/", "\\/")


def code_points(text: str) -> str:
    return "".join(f"\\u{ord(one):04x}" if not one.isalnum() else one for one in text)


def every_byte(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


ESCAPINGS: list[Callable[[str], str]] = [
    slashes_escaped,
    code_points,
    every_byte,
    html.escape,
    lambda text: quote(text, safe=""),
    lambda text: "".join(f"&#{ord(one)};" for one in text),
    lambda text: "".join(f"&#x{ord(one):X};" for one in text),
    lambda text: text.replace("/", "\\x2f"),
]
secrets = st.text(
    st.characters(
        min_codepoint=33, max_codepoint=0x17F, exclude_categories=["Cc"], exclude_characters="\\%&"
    ),
    min_size=4,
    max_size=60,
)


@given(secrets, st.lists(st.sampled_from(ESCAPINGS), max_size=3), st.integers(0, 200))
def test_a_secret_is_hidden_however_it_is_escaped(
    secret: str, escapings: list[Callable[[str], str]], before: int
) -> None:
    written = secret
    for escape in escapings:
        written = escape(written)
    assert masked(f"{'-' * before} {written} \n", [secret]).replace("-", "").strip() == "•••"


@given(st.from_regex(r"[A-Za-z0-9]{24,40}", fullmatch=True), st.sampled_from(ESCAPINGS), st.data())
def test_a_secret_that_is_cut_leaves_too_little_to_be_of_use(
    secret: str, escape: Callable[[str], str], data: st.DataObject
) -> None:
    written = escape(f"/{secret}")
    shown = masked("answer: " + written[: data.draw(st.integers(0, len(written)))], [f"/{secret}", secret])
    left = masked(shown.removeprefix("answer: "), []).replace("•••", "")
    assert len(left) <= len(escape("/aaaa"))
    assert secret[:4] not in shown


@given(st.text(max_size=200), st.lists(secrets, max_size=3))
def test_any_text_can_be_looked_at_and_nothing_else_is_changed(text: str, hidden: list[str]) -> None:
    assert masked(text, []) == text
    pieces = [piece for piece in masked(text, hidden).split("•••") if piece]
    at = 0
    for piece in pieces:
        at = text.index(piece, at) + len(piece)


@pytest.mark.parametrize(
    "answer",
    [
        r'{"path":"\/services\/T00\/B00\/SECRETxyz"}',
        "no route services/T00/B00/SECRETxyz",
        "no hook SECRETxyz",
        "%2Fservices%2FT00%2FB00%2FSECRETxyz",
        "https%253A%252F%252Fhooks.slack.test%252Fservices%252FT00%252FB00%252FSECRETxyz",
        "&#x2F;services&#x2F;T00&#x2F;B00&#x2F;SECRETxyz",
    ],
)
def test_what_receivers_usually_say_of_a_path_shows_no_token(answer: str) -> None:
    (field,) = KINDS["slack"].secret_fields
    shown = masked(answer, KINDS["slack"].secrets({field: SLACK["webhook_url"]}))
    assert "•••" in shown
    assert "SECRET" not in shown
    assert "B00" not in shown


@pytest.mark.parametrize(
    "answer", ["/in?key=abc&amp;t=Z%2Fsigned", "t is Z/signed", "/in/tokentoken", "c2VjcmV0"]
)
def test_what_receivers_usually_say_of_a_query_shows_no_value(answer: str) -> None:
    shown = masked(f"Cannot POST {answer} here", [*KINDS["webhook"].secrets(WEBHOOK), "c2VjcmV0"])
    assert "•••" in shown
    for secret in ("signed", "abc", "token", "c2V"):
        assert secret not in shown
