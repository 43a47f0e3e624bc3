"""People and teams: the unit of permission."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django.utils import timezone


class UserManager(BaseUserManager["User"]):
    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person, who signs in by e-mail address."""

    username = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = UserManager()  # type: ignore[assignment,misc]

    def __str__(self) -> str:
        return self.email


class TeamQuerySet(models.QuerySet["Team"]):
    def visible_to(self, user: User) -> TeamQuerySet:
        """The teams that a person belongs to; a superuser sees all."""
        return self if user.is_superuser else self.filter(memberships__user=user)


class Team(models.Model):
    """Owns features, keys and channels."""

    slug = models.SlugField(max_length=200, unique=True)
    name = models.CharField(max_length=200)
    time_zone = models.CharField(
        max_length=100, default="UTC", help_text="IANA name; messages to the team tell times by its clock"
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects = TeamQuerySet.as_manager()

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """What a person may do in a team."""

    class Role(models.TextChoices):
        VIEWER = "viewer", "Viewer"
        EDITOR = "editor", "Editor"
        ADMIN = "admin", "Admin"

    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="membership_once_per_team"),
            models.CheckConstraint(
                condition=models.Q(role__in=["viewer", "editor", "admin"]), name="membership_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} is {self.role} of {self.team_id}"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def pending(self) -> InvitationQuerySet:
        """Those that nobody has accepted or withdrawn; some of them may have expired."""
        return self.filter(status=Invitation.Status.PENDING)


class Invitation(models.Model):
    """A way into a team for whoever reads the mail of an address: a link that works once and for some days."""

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        ACCEPTED = "accepted", "Accepted"
        WITHDRAWN = "withdrawn", "Withdrawn"

    team = models.ForeignKey(Team, models.CASCADE, related_name="invitations")
    email = models.EmailField("e-mail address")
    role = models.CharField(max_length=10, choices=Membership.Role)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    invited_by = models.CharField(max_length=300)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    # When the latest mail went out; NULL where none could be sent.
    sent_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "email"],
                condition=Q(status="pending"),
                name="invitation_one_pending_per_address",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["viewer", "editor", "admin"]), name="invitation_role_is_known"
            ),
            models.CheckConstraint(
                condition=Q(status="pending", settled_at=None)
                | Q(status__in=["accepted", "withdrawn"], settled_at__isnull=False),
                name="invitation_settled_at_exactly_when_settled",
            ),
            models.CheckConstraint(
                condition=Q(email=Lower("email")) & ~Q(email=""), name="invitation_address_is_in_lower_case"
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="invitation_expires_after_it_was_made"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.team_id}"

    def has_expired(self, now: datetime) -> bool:
        return self.status == self.Status.PENDING and self.expires_at <= now


class AccountMail(models.Model):
    """A mail with a link that gives access, asked for by somebody. What may be asked for is counted by these rows.

    A row says nothing of whether the address has an account. They are kept for a day.
    """

    class Kind(models.TextChoices):
        PASSWORD_RESET = "password_reset", "Password reset"
        INVITATION = "invitation", "Invitation"

    kind = models.CharField(max_length=20, choices=Kind)
    address = models.EmailField()
    source = models.CharField(max_length=300, help_text="A network address or a person")
    asked_at = models.DateTimeField()
    # When a worker tries next; NULL where there is nothing (more) to send.
    due_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["password_reset", "invitation"]), name="account_mail_kind_is_known"
            ),
            models.CheckConstraint(
                condition=Q(address=Lower("address")) & ~Q(address=""),
                name="account_mail_address_is_in_lower_case",
            ),
            models.CheckConstraint(
                condition=Q(due_at=None) | Q(sent_at=None), name="account_mail_is_not_due_once_sent"
            ),
        ]
        indexes = [
            # What an address and what a source asked for in the last hour.
            models.Index(fields=["address", "asked_at"], name="account_mail_of_address"),
            models.Index(fields=["source", "asked_at"], name="account_mail_of_source"),
            # What the worker looks for.
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="account_mail_due"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.address}"
