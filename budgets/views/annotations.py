"""Pages of what happened to a feature: all of it, a note that is added, an annotation that is deleted."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from budgets.annotation_forms import AnnotationForm
from budgets.annotations import add_annotation, delete_annotation
from budgets.contexts.frame import asked_environment, page_url
from budgets.errors import Refusal
from budgets.models import Annotation, Feature
from budgets.pages import PageRequest
from budgets.roles import Role, has_role, require_role

PAGE_SIZE = 50


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def annotation_list(request: PageRequest, slug: str) -> HttpResponse:
    """What is marked of the feature in an environment, newest first; an editor adds to it."""
    feature = _visible_feature(request, slug)
    given = request.POST if request.method == "POST" else request.GET
    environment = asked_environment(given.get("environment"))
    form = AnnotationForm(request.POST or None, initial={"environment": environment})
    if request.method == "POST":
        require_role(request.user, feature.team, Role.EDITOR, "add annotations")
        if form.is_valid() and _is_added(form, feature, request):
            messages.success(request, "Marked on every chart that shows its time.")
            return redirect(page_url("feature-annotations", slug, environment=environment))
    found = Annotation.objects.of_feature(feature, environment)
    context = {
        "feature": feature,
        "environment": environment,
        "form": form,
        "page": Paginator(found, PAGE_SIZE).get_page(request.GET.get("page")),
        "can_edit": has_role(request.user, feature.team, Role.EDITOR),
        "as_of": timezone.now(),
        "section": "features",
        "crumbs": [
            ("Overview", page_url("overview", environment=environment)),
            (feature.name, page_url("feature", slug, environment=environment)),
            ("Annotations", ""),
        ],
    }
    return render(request, "budgets/annotations.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """Asks, and takes an annotation off every chart."""
    feature = _visible_feature(request, slug)
    one = get_object_or_404(
        Annotation.objects.filter(feature=feature)
        | Annotation.objects.filter(feature=None, team=feature.team),
        pk=pk,
    )
    require_role(request.user, feature.team, Role.EDITOR, "delete annotations")
    back = page_url("feature-annotations", slug, environment=one.environment)
    if request.method == "POST":
        try:
            delete_annotation(annotation_id=one.pk, actor=request.user.email, now=timezone.now())
        except Refusal as refusal:
            messages.info(request, refusal.message)
        else:
            messages.success(request, "Deleted: no chart shows it any more.")
        return redirect(back)
    context = {
        "feature": feature,
        "annotation": one,
        "back": back,
        "section": "features",
        "crumbs": [
            ("Overview", page_url("overview", environment=one.environment)),
            (feature.name, page_url("feature", slug, environment=one.environment)),
            ("Annotations", back),
            ("Delete", ""),
        ],
    }
    return render(request, "budgets/annotation_delete.html", context)


def _is_added(form: AnnotationForm, feature: Feature, request: PageRequest) -> bool:
    try:
        add_annotation(
            team=feature.team,
            document=form.document(feature.slug),
            actor=request.user.email,
            now=timezone.now(),
        )
    except Refusal as refusal:
        form.add_refusal(refusal)
        return False
    return True


def _visible_feature(request: PageRequest, slug: str) -> Feature:
    return get_object_or_404(Feature.objects.visible_to(request.user).select_related("team"), slug=slug)
