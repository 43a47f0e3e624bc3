"""Signing in."""

from __future__ import annotations

from django.contrib.auth.views import LoginView

from budgets.forms import SignInForm

sign_in = LoginView.as_view(
    template_name="registration/login.html", authentication_form=SignInForm, redirect_authenticated_user=True
)
