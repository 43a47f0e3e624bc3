"""Signing in, and what happens to passwords."""

from __future__ import annotations

import math
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import LoginView, PasswordChangeView, PasswordResetConfirmView
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from budgets import doorbell, kept_forms, passwords
from budgets.errors import Refusal
from budgets.forms import ChangePasswordForm, ForgottenPasswordForm, NewPasswordForm, SignInForm
from budgets.login_attempts import account_of, locked_until
from latency_dashboard.client_address import client_network

# Django's form views take a PUT for a POST, and answer some requests before they look at the method.
_by_form = require_http_methods(["GET", "HEAD", "POST"])


class _SignIn(LoginView):
    """Lets people in. Who had sent a form without a session sees it again, and sends it or not."""

    template_name = "registration/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # The page with the form, loaded again.
        if request.user.is_authenticated and (kept := self._kept()):
            return kept_forms.show(request, kept)
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # From the page of who was locked out: nobody has tried to log in.
        if "username" not in request.POST and self._kept():
            return self.render_to_response(self.get_context_data(form=SignInForm(request)))
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        kept = self._kept()
        return kept_forms.show(self.request, kept) if kept else answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        # A wrong password loses nothing either.
        kept = self.request.POST.get(kept_forms.FIELD, "") if self._kept() else ""
        return super().get_context_data(**kwargs) | {"kept_form": kept}

    def _kept(self) -> kept_forms.KeptForm | None:
        return kept_forms.read(self.request.POST.get(kept_forms.FIELD, ""))


sign_in = _by_form(_SignIn.as_view())


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """Says when to try again, in place of the answer to a login that was not even looked at. A form that waits for the
    login goes on waiting."""
    now = timezone.now()
    until = locked_until(account=account_of(request, credentials), network=client_network(request), now=now)
    kept_form = request.POST.get(kept_forms.FIELD, "")
    context = {
        "until": until,
        "minutes": math.ceil((until - now).total_seconds() / 60) or 1,
        "kept_form": kept_form if kept_forms.read(kept_form) else "",
        "next": request.POST.get(REDIRECT_FIELD_NAME, ""),
    }
    locked = render(request, "registration/locked.html", context, status=429)
    locked["Retry-After"] = str(max(1, math.ceil((until - now).total_seconds())))
    add_never_cache_headers(locked)
    return locked


@never_cache
@_by_form
def forgotten_password(request: HttpRequest) -> HttpResponse:
    """Asks where to send a link for a new password. The answer is the same whether there is an account."""
    form = ForgottenPasswordForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                passwords.ask_for_reset(
                    email=form.cleaned_data["email"],
                    source=client_network(request) or "a socket",
                    now=timezone.now(),
                )
            except Refusal as refusal:
                form.add_error(None, refusal.message)
                status = refusal.status
            else:
                doorbell.send("budgets.tasks.send_account_mails")
                return redirect("password-asked")
    context = {"form": form, "mail": mail_goes()}
    return render(request, "registration/forgotten_password.html", context, status=status)


@require_safe
def password_asked(request: HttpRequest) -> HttpResponse:
    return render(request, "registration/password_asked.html", {"mail": mail_goes()})


def mail_goes() -> str:
    """Where a mail of this installation ends up: "out" by a mail server, "log", or "nowhere"."""
    if settings.EMAIL_IS_CONFIGURED:
        return "out"
    return "log" if settings.EMBEDDED_POSTGRES or settings.DEBUG else "nowhere"


class _SetPassword(PasswordResetConfirmView):
    """Sets a password by a link that was mailed: once, and for PASSWORD_RESET_TIMEOUT."""

    form_class = NewPasswordForm
    template_name = "registration/set_password.html"
    success_url = reverse_lazy("login")

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            answer = super().form_valid(form)
            passwords.note_new_password(user=form.user, action="user.password_reset", now=timezone.now())
        messages.success(self.request, "Your new password is set. Log in with it.")
        return answer


class _ChangePassword(PasswordChangeView):
    """Exchanges the password of whoever is logged in; other browsers are logged out by it."""

    form_class = ChangePasswordForm
    template_name = "registration/change_password.html"
    success_url = reverse_lazy("password-change")
    extra_context = {"crumbs": [("Change password", "")]}

    def form_valid(self, form: Any) -> HttpResponse:
        with transaction.atomic():
            answer = super().form_valid(form)
            passwords.note_new_password(user=form.user, action="user.password_changed", now=timezone.now())
        messages.success(self.request, "Your password is changed. Other browsers are logged out.")
        return answer


set_password = _by_form(_SetPassword.as_view())
change_password = _by_form(_ChangePassword.as_view())
