"""The administration deletes nothing that measurements and rollups belong to."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.db import models
from django.test import Client
from django.urls import reverse

from budgets.models import (
    Allocation,
    Batch,
    Component,
    Feature,
    IngestKey,
    LatencyBudget,
    MinuteRollup,
    Series,
    Team,
    User,
)
from tests.factories import NOW, make_feature, make_traffic
from tests.people import make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files")]

KEPT: list[type[models.Model]] = [Team, Feature, LatencyBudget, IngestKey, Batch, Series]


@pytest.fixture
def administrator() -> Client:
    person = make_person("ada@example.com")
    User.objects.filter(pk=person.pk).update(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    return client


@pytest.fixture
def measured() -> Feature:
    feature = make_feature()
    make_traffic(feature, at=NOW, count=3, over=0, component="model")
    return feature


@pytest.mark.parametrize("model", KEPT)
def test_not_even_a_superuser_deletes_one(
    administrator: Client, measured: Feature, model: type[models.Model]
) -> None:
    [row] = model._default_manager.all()
    name = f"admin:budgets_{model._meta.model_name}"
    assert administrator.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    administrator.post(reverse(f"{name}_changelist"), action)

    assert model._default_manager.filter(pk=row.pk).exists()
    assert MinuteRollup.objects.count() == 1


def test_parts_of_a_feature_are_not_deleted_with_its_page(administrator: Client, measured: Feature) -> None:
    """Components, versions and allocations stand in pages of others, which could offer to delete them."""
    for parent, part in ((Feature, Component), (Feature, LatencyBudget), (LatencyBudget, Allocation)):
        page = admin.site._registry[parent]
        [inline] = [one for one in page.inlines if one.model is part]
        request = administrator.get("/admin/").wsgi_request
        assert not inline(parent, admin.site).has_delete_permission(request)
