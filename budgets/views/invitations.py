"""What an invitation's link leads to, for whoever opens it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from budgets import invitations
from budgets.errors import Refusal
from budgets.forms import NewPasswordForm
from budgets.models import Invitation, User

_BACKEND = "django.contrib.auth.backends.ModelBackend"
_GONE = {"unknown": 404, "withdrawn": 410, "accepted": 410, "expired": 410, "no_entry": 403}


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Joins the team: by one's account where there is one, else by choosing a password.

    A link that does not lead there says why: unknown, withdrawn, accepted, expired, or for another account.
    """
    found = invitations.find(token)
    account = User.objects.filter(email=found.email).first() if found is not None else None
    case = _case(request, found, account)
    if found is None or case in _GONE:
        return _page(request, found, case, status=_GONE[case])
    if case == "log_in":
        # The login leads back here.
        return _page(request, found, case)
    form = None
    if case == "new_account":
        # Not stored: passwords are compared with the address.
        form = NewPasswordForm(User(email=found.email), request.POST or None)
    if request.method != "POST" or case == "other_account":
        return _page(request, found, case, form, status=403 if case == "other_account" else 200)
    if form is not None and not form.is_valid():
        return _page(request, found, case, form, status=400)
    now = timezone.now()
    try:
        if form is not None:
            user = invitations.accept_as_new(
                invitation=found, password=form.cleaned_data["new_password1"], now=now
            )
            login(request, user, backend=_BACKEND)
        elif isinstance(request.user, User):
            invitations.accept(invitation=found, user=request.user, now=now)
    except Refusal:
        # Somebody was quicker: the page says what the link has become.
        return redirect("invitation", token=token)
    messages.success(request, f"Welcome to {found.team.name}.")
    return redirect("team-members", slug=found.team.slug)


def _case(request: HttpRequest, found: Invitation | None, account: User | None) -> str:
    """What the link means to this visitor."""
    if found is None:
        return "unknown"
    if found.status != Invitation.Status.PENDING:
        return found.status
    if found.has_expired(timezone.now()):
        return "expired"
    if isinstance(request.user, User) and request.user.is_authenticated:
        return "join" if request.user.email.lower() == found.email else "other_account"
    if account is None:
        return "new_account"
    return "log_in" if account.is_active and account.has_usable_password() else "no_entry"


def _page(
    request: HttpRequest,
    found: Invitation | None,
    case: str,
    form: NewPasswordForm | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    context = {"invitation": found, "case": case, "form": form, "here": request.path}
    return render(request, "registration/invitation.html", context, status=status)
