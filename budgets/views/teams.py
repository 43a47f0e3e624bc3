"""Pages of a team about its people: members, roles, and those who are invited."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_http_methods, require_POST

from budgets import invitations, teams
from budgets.contexts.team import TeamFrame, team_context, team_frame
from budgets.errors import Refusal
from budgets.invitations import Invited
from budgets.models import Feature, Invitation, Membership, Team
from budgets.pages import PageRequest
from budgets.roles import Role, require_role
from budgets.team_forms import ROLE_LINES, InvitationForm, TeamForm, TimeZoneForm
from budgets.zones import zone_names


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def team_list(request: PageRequest) -> HttpResponse:
    """The teams that the person belongs to. A superuser makes new ones by a POST."""
    form = TeamForm()
    if request.method == "POST":
        if not request.user.is_superuser:
            raise PermissionDenied("Only administrators of the installation may make teams.")
        form = TeamForm(request.POST)
        if form.is_valid():
            try:
                made = teams.create_team(
                    name=form.cleaned_data["name"],
                    slug=form.cleaned_data["slug"],
                    actor=request.user.email,
                    admin=request.user,
                    now=timezone.now(),
                )
            except Refusal as refusal:
                form.add_refusal(refusal)
            else:
                if not Feature.objects.visible_to(request.user).exists():
                    messages.success(
                        request, f"{made.name} is there, and you are its admin. Now its first feature."
                    )
                    return redirect("feature-create")
                messages.success(request, f"{made.name} is there, and you are its admin. Invite the others.")
                return redirect("team-members", slug=made.slug)
    found = Team.objects.visible_to(request.user).order_by("name")
    roles = dict(Membership.objects.filter(user=request.user).values_list("team_id", "role"))
    context = {
        "teams": [
            (team, Membership.Role(roles[team.pk]).label if team.pk in roles else "")
            for team in found.annotate(member_count=Count("memberships", distinct=True))
        ],
        "form": form if request.user.is_superuser else None,
        "section": "teams",
        "crumbs": [("Teams", "")],
    }
    return render(request, "budgets/teams.html", context, status=400 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def members(request: PageRequest, slug: str) -> HttpResponse:
    """Who is in the team and what each may do. A POST invites somebody."""
    now = timezone.now()
    frame = team_frame(request.user, slug, "team-members")
    form = InvitationForm()
    if request.method == "POST":
        require_role(request.user, frame.team, Role.ADMIN, "invite people")
        form = InvitationForm(request.POST)
        if form.is_valid():
            try:
                invited = invitations.invite(
                    team=frame.team,
                    email=form.cleaned_data["email"],
                    role=form.cleaned_data["role"],
                    actor=request.user.email,
                    now=now,
                )
            except Refusal as refusal:
                form.add_refusal(refusal)
                return _members(request, frame, form, status=refusal.status)
            return _tell_of_mail(request, frame, invited)
    return _members(request, frame, form, status=400 if form.errors else 200)


@login_required
@require_POST
def change_time_zone(request: PageRequest, slug: str) -> HttpResponse:
    frame = team_frame(request.user, slug, "team-members")
    require_role(request.user, frame.team, Role.ADMIN, "change the team's time zone")
    form = TimeZoneForm(request.POST)
    if form.is_valid():
        try:
            teams.set_time_zone(
                team=frame.team,
                time_zone=form.cleaned_data["time_zone"],
                actor=request.user.email,
                now=timezone.now(),
            )
        except Refusal as refusal:
            form.add_refusal(refusal)
        else:
            messages.success(request, f"Messages tell times in {form.cleaned_data['time_zone']} now.")
            return redirect("team-members", slug=slug)
    return _members(request, frame, InvitationForm(), status=400, zone_form=form)


@login_required
@require_POST
def change_role(request: PageRequest, slug: str, user_id: int) -> HttpResponse:
    frame = team_frame(request.user, slug, "team-members")
    require_role(request.user, frame.team, Role.ADMIN, "change roles")
    try:
        changed = teams.change_role(
            team=frame.team,
            user_id=user_id,
            role=request.POST.get("role", ""),
            actor=request.user.email,
            now=timezone.now(),
        )
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"{changed.user.email} is {changed.get_role_display().lower()} now.")
    return redirect("team-members", slug=slug)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def remove_member(request: PageRequest, slug: str, user_id: int) -> HttpResponse:
    """Asks, and takes a member out of the team. Everybody may leave; others are taken out by admins."""
    frame = team_frame(request.user, slug, "team-members")
    is_self = user_id == request.user.pk
    if not is_self:
        require_role(request.user, frame.team, Role.ADMIN, "remove members")
    membership = get_object_or_404(
        Membership.objects.select_related("user"), team=frame.team, user_id=user_id
    )
    if request.method == "POST":
        try:
            gone = teams.remove_member(
                team=frame.team, user_id=user_id, actor=request.user.email, now=timezone.now()
            )
        except Refusal as refusal:
            messages.error(request, refusal.message)
        else:
            who = "You are" if is_self else f"{gone.email} is"
            messages.success(request, f"{who} not in {frame.team.name} any more.")
            if is_self and not request.user.is_superuser:
                return redirect("teams")
        return redirect("team-members", slug=slug)
    context = team_context(
        frame,
        "team-members",
        membership=membership,
        is_self=is_self,
        back=reverse("team-members", args=[slug]),
    )
    return render(request, "budgets/team/remove_member.html", context)


@login_required
@require_POST
def resend_invitation(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    frame, invitation = _invitation_of(request, slug, pk, "invite people")
    try:
        invited = invitations.resend(invitation=invitation, actor=request.user.email, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect("team-members", slug=slug)
    return _tell_of_mail(request, frame, invited)


@login_required
@require_POST
def withdraw_invitation(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    _, invitation = _invitation_of(request, slug, pk, "withdraw invitations")
    try:
        invitations.withdraw(invitation=invitation, actor=request.user.email, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, f"Withdrawn: the link that {invitation.email} has leads nowhere now.")
    return redirect("team-members", slug=slug)


def _invitation_of(request: PageRequest, slug: str, pk: int, to: str) -> tuple[TeamFrame, Invitation]:
    frame = team_frame(request.user, slug, "team-members")
    require_role(request.user, frame.team, Role.ADMIN, to)
    return frame, get_object_or_404(Invitation, team=frame.team, pk=pk)


def _tell_of_mail(request: PageRequest, frame: TeamFrame, invited: Invited) -> HttpResponse:
    """Leads back to the list and says what became of the mail; a link to pass on stands in the answer itself."""
    if invited.link:
        return _members(request, frame, InvitationForm(), invited=invited)
    if invited.failure:
        messages.error(
            request,
            f"{invited.invitation.email} is invited, but the mail could not be sent ({invited.failure}). "
            "Once the mail server works, send it again from the list.",
        )
    else:
        messages.success(request, f"A mail with a link is on its way to {invited.invitation.email}.")
    return redirect("team-members", slug=frame.team.slug)


def _members(
    request: PageRequest,
    frame: TeamFrame,
    form: InvitationForm,
    *,
    invited: Invited | None = None,
    zone_form: TimeZoneForm | None = None,
    status: int = 200,
) -> HttpResponse:
    now = timezone.now()
    people = frame.team.memberships.select_related("user").order_by("user__email")
    pending = Invitation.objects.pending().filter(team=frame.team).order_by("-created_at")
    context = team_context(
        frame,
        "team-members",
        memberships=people,
        # A viewer or editor does not need to know who was asked.
        pending=[(one, one.has_expired(now)) for one in pending] if frame.is_admin else [],
        roles=list(ROLE_LINES.items()),
        form=form,
        zone_form=zone_form or TimeZoneForm(initial={"time_zone": frame.team.time_zone}),
        zones=zone_names() if frame.is_admin else (),
        invited=invited,
        has_mail=settings.EMAIL_IS_CONFIGURED,
        now=now,
    )
    response = render(request, "budgets/team/members.html", context, status=status)
    if invited is not None:
        add_never_cache_headers(response)
    return response
