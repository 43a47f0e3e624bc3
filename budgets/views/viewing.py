"""Views of pages whose address says what is looked at: environment, range, moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone

from budgets import formats
from budgets.contexts.frame import view_of, with_query
from budgets.errors import Refusal
from budgets.pages import PageRequest

_OF_RANGE = ("window", "from", "to", "at")


def with_view(view_function: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Gives the function the `view` that the address asks for.

    One that cannot be shown is answered with a page that says why and leads on (400). Instants without a zone, as
    a browser's fields give them, lead to the address with theirs, which shows everybody the same.
    """

    @wraps(view_function)
    def answer(request: PageRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            view = view_of(request.GET, timezone.now())
            if any(formats.is_naive(request.GET.get(name, "")) for name in _OF_RANGE):
                return HttpResponseRedirect(with_query(request.path, **{**_rest(request), **view.query}))
            return view_function(request, *args, view=view, **kwargs)
        except Refusal as refusal:
            if refusal.code not in ("invalid_range", "window_not_kept", "too_many_points"):
                raise
            rest = _rest(request)
            context = {
                "said": refusal.message,
                "objective_url": with_query(request.path, **rest),
                "hour_url": with_query(request.path, **{**rest, "window": "1h"}),
                "crumbs": [("Overview", with_query("/")), ("Range", "")],
            }
            return render(request, "budgets/range_refused.html", context, status=400)

    return answer


def _rest(request: PageRequest) -> dict[str, str | None]:
    """What stands in the address beside the range."""
    return {name: str(value) for name, value in request.GET.items() if name not in _OF_RANGE}
