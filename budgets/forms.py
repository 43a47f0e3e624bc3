"""Forms of people: signing in, and passwords."""

from __future__ import annotations

from django import forms
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm, UsernameField


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


class ForgottenPasswordForm(forms.Form):
    """The address that a link for a new password goes to."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"class": "input", "autocomplete": "username", "autofocus": True}),
    )


_PASSWORD_HINT = "At least 10 characters, no common password, and not like your e-mail address."  # noqa: S105


def _new_password(label: str, hint: str = "") -> forms.CharField:
    widget = forms.PasswordInput(attrs={"class": "input", "autocomplete": "new-password"})
    return forms.CharField(label=label, help_text=hint, strip=False, max_length=1000, widget=widget)


class NewPasswordForm(SetPasswordForm):  # type: ignore[type-arg]  # generic to the type checker alone
    """A password, twice, as the product's settings want it."""

    new_password1 = _new_password("New password", _PASSWORD_HINT)
    new_password2 = _new_password("New password again")


class ChangePasswordForm(PasswordChangeForm):
    """The password that is known, and a new one, twice."""

    old_password = forms.CharField(
        label="Current password",
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(
            attrs={"class": "input", "autocomplete": "current-password", "autofocus": True}
        ),
    )
    new_password1 = _new_password("New password", _PASSWORD_HINT)
    new_password2 = _new_password("New password again")

    error_messages = {
        **PasswordChangeForm.error_messages,
        "password_incorrect": "This is not your current password. It is case-sensitive.",
    }
