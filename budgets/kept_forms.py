"""A form that was sent after its session had ended: nothing of it is lost, and nothing is done without being asked.

1. Whoever sends a form without a session is answered with the login page itself, which carries what was typed, signed.
2. Once logged in they see it again, and that nothing was changed.
3. Only their own click sends it, with a token of the new session.

What was typed stands in no address, cookie or row, and secrets are left out of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import url_has_allowed_host_and_scheme

from budgets.forms import SignInForm

FIELD: Final = "kept_form"
"""Of the login form."""
# Longer than anybody takes to find a password; a page that lies about is not sent by who comes by a day later.
MAX_AGE: Final = timedelta(hours=2)
# Of what is signed. Whoever typed more goes back in the browser.
MAX_CHARACTERS: Final = 200_000

_SALT: Final = "budgets.kept_forms"
# The URL of a channel is as good as a password to whom it leads to.
_SECRET: Final = re.compile(r"passw|secret|token|(^|_)key$|^url$")
_TOKEN: Final = "csrfmiddlewaretoken"  # noqa: S105


@dataclass(frozen=True)
class KeptForm:
    """What was to be sent to `path`, typed on `page`; both are addresses of this site without its host."""

    path: str
    page: str
    fields: Sequence[tuple[str, str]]
    left_out: Sequence[str]
    """Names of secrets that were typed and are not here."""

    @property
    def shown(self) -> list[tuple[str, list[str]]]:
        """Name in words → what was typed in it; nothing of what was left empty."""
        found: dict[str, list[str]] = {}
        for name, value in self.fields:
            if value.strip():
                found.setdefault(_words(name), []).append(value)
        return list(found.items())

    @property
    def left_out_words(self) -> str:
        return ", ".join(_words(name) for name in self.left_out)


def keep(request: HttpRequest) -> str:
    """The request's form, signed; empty where it is not one that can be kept."""
    if request.FILES:
        return ""
    typed = [(name, value) for name, values in request.POST.lists() for value in values if name != _TOKEN]
    document = {
        "path": request.get_full_path(),
        "page": _page(request),
        "fields": [pair for pair in typed if not _SECRET.search(pair[0])],
        "left_out": sorted({name for name, value in typed if value and _SECRET.search(name)}),
    }
    signed = signing.dumps(document, salt=_SALT, compress=True)
    return signed if len(signed) <= MAX_CHARACTERS else ""


def read(signed: str) -> KeptForm | None:
    """None for what this installation has not signed, or longer than MAX_AGE ago."""
    if not signed or len(signed) > MAX_CHARACTERS:
        return None
    try:
        found = signing.loads(signed, salt=_SALT, max_age=MAX_AGE)
    except signing.BadSignature:
        return None
    fields = [(name, value) for name, value in found["fields"]]
    return KeptForm(found["path"], found["page"], fields, found["left_out"])


def show(request: HttpRequest, kept: KeptForm) -> HttpResponse:
    """The page that asks whether to send it now."""
    answer = render(request, "registration/kept_form.html", {"kept": kept})
    add_never_cache_headers(answer)
    return answer


class KeepForms:
    """Answers a form that came without a session with the login page, in place of the way there.

    Django's check of the form's token comes before any view, so that what gets here came from a page of this site.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        answer = self.get_response(request)
        if not _is_for_a_person(request) or not _leads_to_login(answer):
            return answer
        signed = keep(request)
        if not signed:
            return answer
        context = {"form": SignInForm(request), "next": _page(request), "kept_form": signed}
        login = render(request, "registration/login.html", context)
        add_never_cache_headers(login)
        return login


def _is_for_a_person(request: HttpRequest) -> bool:
    """Whether a form of a page was sent, whose answer the browser shows."""
    return (
        request.method == "POST"
        and settings.CSRF_COOKIE_NAME in request.COOKIES
        and "HX-Request" not in request.headers
        and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate"
    )


def _leads_to_login(answer: HttpResponse) -> bool:
    if answer.status_code != 302:
        return False
    to = urlsplit(answer["Location"])
    # A logout leads there as well, and asks for nothing afterwards.
    return to.path == reverse("login") and REDIRECT_FIELD_NAME in parse_qs(to.query)


def _page(request: HttpRequest) -> str:
    """Where the form stands: an address that only takes forms is nowhere to go back to."""
    referer = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(
        referer, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return reverse("overview")
    parts = urlsplit(referer)
    return f"/{parts.path.lstrip('/')}" + (f"?{parts.query}" if parts.query else "")


def _words(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
