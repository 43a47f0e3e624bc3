"""Pages of a feature's alert rules: where each stands, its settings, and what it would have done lately."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.backtests import DAYS, study_rule
from alerts.contexts import rules as contexts
from alerts.models import AlertRule
from alerts.rule_documents import document_of
from alerts.rule_forms import QUESTIONS, RuleForm
from alerts.rule_names import title
from alerts.rule_settings import delete_rule, read_rule, reset_rule, save_rule, switch_rule
from budgets.errors import Refusal
from budgets.models import Feature
from budgets.pages import PageRequest
from budgets.roles import Role, has_role, require_role

LIST = "feature-rules"
Kind = AlertRule.Kind


@login_required
@require_safe
def rule_list(request: PageRequest, slug: str) -> HttpResponse:
    """The feature's rules, default ones first, and where each condition stands."""
    feature, now = _visible(request, slug), timezone.now()
    context = _context(
        request,
        feature,
        "Alert rules",
        lines=contexts.rule_lines(feature, contexts.rules_of(feature), now=now),
        now=now,
    )
    return render(request, "alerts/rules.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: PageRequest, slug: str) -> HttpResponse:
    """A new rule of the kind that the URL names. "study" shows what it would do and saves nothing."""
    feature, now = _editable(request, slug), timezone.now()
    kind = request.GET.get("kind", Kind.THRESHOLD)
    if kind not in Kind.values:
        raise Http404(f"there is no kind of rule {kind!r:.50}")
    is_study = "study" in request.POST
    initial = {"target": request.GET["target"]} if "target" in request.GET else {}
    form = RuleForm(request.POST or None, feature=feature, kind=kind, initial=initial, is_named=not is_study)
    study = None
    if request.method == "POST" and form.is_valid():
        name, document = form.cleaned_data["name"], form.document(is_enabled=True)
        try:
            if is_study:
                study = _study(read_rule(feature=feature, name=name, document=document, now=now))
            else:
                saved = save_rule(
                    team=feature.team,
                    feature=feature.slug,
                    name=name,
                    document=document,
                    actor=request.user.email,
                    now=now,
                    is_new=True,
                )
                messages.success(request, f"Saved {saved.rule.name}. It is watched from now on.")
                return redirect("feature-rule", slug, saved.rule.pk)
        except Refusal as refusal:
            form.add_refusal(refusal)
    context = _context(
        request,
        feature,
        "New rule",
        form=form,
        study=study,
        kinds=[(str(one), str(one.label)) for one in Kind],
        kind=kind,
        question=QUESTIONS[kind],
        environments=contexts.environments_of([], feature),
    )
    return render(request, "alerts/rule_new.html", context, status=400 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rule(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """One rule: where it stands and its settings. A POST saves them, or studies them where "study" was pressed."""
    feature, now = _visible(request, slug), timezone.now()
    found = _rule(feature, pk)
    can_edit = has_role(request.user, feature.team, Role.EDITOR)
    form, study = None, None
    if request.method == "POST":
        _editable(request, slug)
        form = RuleForm(request.POST, feature=feature, kind=found.kind, rule=found)
        if form.is_valid():
            try:
                if "study" in request.POST:
                    document = form.document(is_enabled=True)
                    study = _study(read_rule(feature=feature, name=found.name, document=document, now=now))
                else:
                    save_rule(
                        team=feature.team,
                        feature=feature.slug,
                        name=found.name,
                        document=form.document(is_enabled=found.is_enabled),
                        actor=request.user.email,
                        now=now,
                        is_new=False,
                    )
                    messages.success(request, "Saved.")
                    return redirect("feature-rule", slug, pk)
            except Refusal as refusal:
                form.add_refusal(refusal)
    elif "study" in request.GET:
        found.is_enabled, is_enabled = True, found.is_enabled
        study = _study(found)
        found.is_enabled = is_enabled
    if form is None and can_edit:
        form = RuleForm(feature=feature, kind=found.kind, rule=found)
    [line] = contexts.rule_lines(feature, [found], now=now)
    context = _context(
        request,
        feature,
        title(found),
        line=line,
        settings=_settings(found),
        form=form,
        study=study,
        question=QUESTIONS[found.kind],
        environments=contexts.environments_of([found], feature) if can_edit else [],
        now=now,
    )
    status = 400 if form is not None and form.errors else 200
    return render(request, "alerts/rule.html", context, status=status)


@login_required
@require_POST
def switch(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Enables or disables."""
    feature = _editable(request, slug)
    found = _rule(feature, pk)
    is_enabled = request.POST.get("enabled") == "true"
    try:
        switch_rule(rule_id=pk, is_enabled=is_enabled, actor=request.user.email, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        done = (
            "Enabled: it is watched from now on." if is_enabled else "Disabled: what it alone held open ends."
        )
        messages.success(request, f"{title(found)}. {done}")
    return redirect(LIST, slug) if request.POST.get("from") == "list" else redirect("feature-rule", slug, pk)


@login_required
@require_POST
def reset(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Makes a default rule what it was."""
    feature = _editable(request, slug)
    _rule(feature, pk)
    try:
        reset_rule(rule_id=pk, actor=request.user.email, now=timezone.now())
    except Refusal as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, "It is again as every feature has it.")
    return redirect("feature-rule", slug, pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and deletes."""
    feature = _editable(request, slug)
    found = _rule(feature, pk)
    if request.method == "POST":
        try:
            delete_rule(rule_id=pk, actor=request.user.email, now=timezone.now())
        except Refusal as refusal:
            messages.error(request, refusal.message)
            return redirect("feature-rule", slug, pk)
        messages.success(request, f"Deleted {found.name}.")
        return redirect(LIST, slug)
    return render(
        request,
        "alerts/rule_delete.html",
        _context(request, feature, "Delete", rule=found, rule_title=title(found)),
    )


def _study(found: AlertRule) -> contexts.StudyPanel:
    return contexts.study_panel(study_rule(rule=found, now=timezone.now()), found.kind, days=DAYS)


def _settings(found: AlertRule) -> dict[str, Any]:
    """What a rule says, for those who may not change it."""
    document = document_of(found)
    facts = {"Holds for": f"{found.for_seconds} s"}
    if found.keep_firing_seconds is not None:
        facts["Over for"] = f"{found.keep_firing_seconds} s"
    for name, value in document["parameters"].items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        facts[name.replace("_", " ").capitalize()] = text
    return facts


def _visible(request: PageRequest, slug: str) -> Feature:
    return get_object_or_404(Feature.objects.visible_to(request.user).select_related("team"), slug=slug)


def _editable(request: PageRequest, slug: str) -> Feature:
    """Http404 to outsiders, PermissionDenied to viewers."""
    feature = _visible(request, slug)
    require_role(request.user, feature.team, Role.EDITOR, "change its alert rules")
    return feature


def _rule(feature: Feature, pk: int) -> AlertRule:
    found = get_object_or_404(AlertRule, feature=feature, pk=pk)
    found.feature = feature
    return found


def _context(request: PageRequest, feature: Feature, said: str, **context: Any) -> dict[str, Any]:
    crumbs = [("Overview", reverse("overview")), (feature.name, feature.get_absolute_url())]
    if said != "Alert rules":
        crumbs.append(("Alert rules", reverse(LIST, args=[feature.slug])))
    return {
        "feature": feature,
        "title": said,
        "can_edit": has_role(request.user, feature.team, Role.EDITOR),
        "section": "features",
        "crumbs": [*crumbs, (said, "")],
        **context,
    }
