"""Forms of people."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm, UsernameField


class SignInForm(AuthenticationForm):
    """E-mail address and password. An address is the same in capitals."""

    username = UsernameField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"class": "input", "autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        label="Password",
        strip=False,
        widget=forms.PasswordInput(attrs={"class": "input", "autocomplete": "current-password"}),
    )

    error_messages = {
        "invalid_login": (
            "No account has this e-mail address and password. The password is case-sensitive; whether the "
            "address has an account is not told."
        ),
        "inactive": "This account has been switched off. Ask an administrator.",
    }

    def clean_username(self) -> str:
        return str(self.cleaned_data["username"]).lower()
