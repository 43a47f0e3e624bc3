"""The budget editor: who may use it, what it saves, what it refuses, and what two people do to each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
import time_machine
from django.http import HttpResponse
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from budgets.contexts.editor import current_document
from budgets.models import AuditEntry, Component, Feature, LatencyBudget, Membership, Team, User
from budgets.presets import PRESETS
from tests.factories import NOW, feature_document, make_feature, make_team, make_traffic, redeclare
from tests.people import PASSWORD, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static_files", "at_now")]

EDIT = "/features/support-chat/edit/"
NEW = "/features/new/?kind=interactive_chat"


@pytest.fixture
def at_now() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def team() -> Team:
    return make_team(slug="assistants", name="Assistants")


@pytest.fixture
def feature(team: Team) -> Feature:
    return make_feature(team=team, slug="support-chat")


@pytest.fixture
def editor(team: Team) -> Client:
    return signed_in(make_person("editor@example.com", team=team, role=Membership.Role.EDITOR))


@pytest.fixture
def viewer(team: Team) -> Client:
    return signed_in(make_person("viewer@example.com", team=team))


@pytest.fixture
def outsider() -> Client:
    return signed_in(make_person("outsider@example.com", team=make_team(), role=Membership.Role.ADMIN))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response: HttpResponse | str) -> str:
    """What a person reads, spaces made equal."""
    html = response if isinstance(response, str) else response.content.decode()
    html = re.sub(r"<(script|style|title|template).*?</\1>", " ", html, flags=re.S)
    text = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))
    return re.sub(r" ([?,.:])", r"\1", text)


class Form(HTMLParser):
    """The fields of the editor as a browser would send them, several of one name in order."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__()
        self.fields: list[tuple[str, str]] = []
        self._in_form = self._in_template = False
        self._select = self._textarea = ""
        html = response.content.decode()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        name, value = found.get("name") or "", found.get("value") or ""
        if tag == "form":
            self._in_form = found.get("id") == "editor"
        elif tag == "template":
            self._in_template = True
        if not self._in_form or self._in_template:
            return
        if tag == "input" and name and (found.get("type") != "checkbox" or "checked" in found):
            self.fields.append((name, value or ("on" if found.get("type") == "checkbox" else "")))
        elif tag == "select":
            self._select = name
            self.fields.append((name, ""))
        elif tag == "option" and (self.fields[-1][1] == "" or "selected" in found):
            self.fields[-1] = (self._select, value)
        elif tag == "textarea":
            self._textarea = name
            self.fields.append((name, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False
        elif tag == "template":
            self._in_template = False
        elif tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            name, value = self.fields[-1]
            self.fields[-1] = (name, value + (data if value else data.removeprefix("\n")))

    def data(self, action: str = "save", **changes: Any) -> dict[str, Any]:
        """With changes: of a component by `<component>_<field>`, of other fields by name, `__` for "-"."""
        data: dict[str, Any] = {}
        for name, value in self.fields:
            data.setdefault(name, []).append(value)
        for name, value in changes.items():
            data[name.replace("__", "-")] = value
        return {name: values for name, values in data.items() if values is not None} | {"action": action}

    def shares(self, **allocated: str) -> list[str]:
        """The column of allocations with some of them changed by component."""
        names = [value for name, value in self.fields if name == "component_name"]
        column = [value for name, value in self.fields if name == "component_allocated"]
        return [allocated.get(name, value) for name, value in zip(names, column, strict=True)]


def opened(client: Client, address: str = EDIT) -> Form:
    response = client.get(address)
    assert response.status_code == 200, text_of(response)[:500]
    return Form(response)


def latest(feature: Feature, milestone: str = "first_token") -> LatencyBudget:
    return feature.latency_budgets.filter(milestone=milestone).latest("version")


def allocations(version: LatencyBudget) -> dict[str, float]:
    return {a.component.name: float(a.allocated_ms) for a in version.allocations.all()}


class TestWhoMay:
    PAGES = (EDIT, "/features/support-chat/archive/", "/features/support-chat/restore/")

    @pytest.mark.parametrize(
        "address", [*PAGES, "/features/new/", "/features/support-chat/versions/", "/archived/"]
    )
    def test_a_stranger_is_asked_to_log_in(self, client: Client, feature: Feature, address: str) -> None:
        assert client.get(address)["Location"].startswith("/login/?next=/")

    @pytest.mark.parametrize("address", [*PAGES, "/features/support-chat/versions/"])
    def test_to_an_outsider_the_feature_does_not_exist(
        self, outsider: Client, feature: Feature, address: str
    ) -> None:
        assert outsider.get(address).status_code == 404

    @pytest.mark.parametrize("address", PAGES)
    def test_nobody_but_an_editor_changes_it(
        self, outsider: Client, viewer: Client, feature: Feature, address: str
    ) -> None:
        before = current_document(feature)
        assert outsider.post(address, {"action": "save"}).status_code == 404
        for response in (viewer.get(address), viewer.post(address, {"action": "save"})):
            assert response.status_code == 403
            assert "Only editors and admins of team Assistants may change its features." in text_of(response)
        assert current_document(feature) == before

    def test_a_viewer_sees_versions_and_no_way_to_edit(self, viewer: Client, feature: Feature) -> None:
        for address in ("/features/support-chat/versions/", "/features/support-chat/", "/"):
            response = viewer.get(address)
            assert response.status_code == 200
            assert EDIT not in response.content.decode()
            assert "/features/new/" not in response.content.decode()

    def test_an_editor_finds_the_way(self, editor: Client, feature: Feature) -> None:
        assert 'href="/features/new/"' in editor.get("/").content.decode()
        page = editor.get("/features/support-chat/").content.decode()
        assert f'href="{EDIT}"' in page
        assert 'href="/features/support-chat/versions/"' in page

    def test_who_edits_in_no_team_cannot_create(self, viewer: Client) -> None:
        assert viewer.get("/features/new/").status_code == 403
        assert viewer.post("/features/new/", {"action": "save"}).status_code == 403

    def test_a_feature_is_not_created_in_a_team_where_one_only_looks(self, editor: Client) -> None:
        other = make_team(slug="others")
        Membership.objects.create(team=other, user=User.objects.get(), role=Membership.Role.VIEWER)
        response = editor.post(NEW, opened(editor, NEW).data(name="Help", team="others"))
        # Of the one team in which the person may.
        assert response.status_code == 302
        assert Feature.objects.get().team.slug == "assistants"

    def test_a_superuser_creates_in_every_team(self, team: Team) -> None:
        other = make_team(slug="others")
        root = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))
        assert root.post(NEW, opened(root, NEW).data(name="Help", team="others")).status_code == 302
        assert Feature.objects.get(slug="help").team == other

    def test_a_superuser_without_any_team_is_led_to_making_one(self) -> None:
        root = signed_in(User.objects.create_superuser("root@example.com", PASSWORD))
        response = root.get("/features/new/", follow=True)
        assert response.redirect_chain == [("/teams/", 302)]
        assert "A feature belongs to a team." in text_of(response)


class TestCreate:
    def test_the_kinds_are_offered_first(self, editor: Client) -> None:
        page = editor.get("/features/new/")
        assert "Create a feature" in text_of(page)
        for kind, preset in PRESETS.items():
            assert f'href="?kind={kind}"' in page.content.decode()
            assert preset.title in text_of(page)

    @pytest.mark.parametrize("kind", PRESETS)
    def test_every_kind_can_be_saved_as_it_is_offered(self, editor: Client, kind: str) -> None:
        address = f"/features/new/?kind={kind}"
        response = editor.post(address, opened(editor, address).data(name="Help desk"))
        assert response.status_code == 302, text_of(response)
        feature = Feature.objects.get()
        assert (response["Location"], feature.slug, feature.kind) == (
            "/features/help-desk/start/",
            "help-desk",
            kind,
        )
        declared = current_document(feature)
        preset = PRESETS[kind].document()
        assert declared["components"] == preset["components"]
        assert declared["latency_budgets"] == preset["latency_budgets"]
        for budget in declared["latency_budgets"]:
            if budget["allocations"]:
                assert sum(budget["allocations"].values()) == budget["budget_ms"]

    def test_what_is_saved_is_written_down_with_the_person(self, editor: Client) -> None:
        editor.post(NEW, opened(editor, NEW).data(name="Help desk"))
        assert LatencyBudget.objects.first().created_by == "editor@example.com"
        assert AuditEntry.objects.get(action="feature.declared").actor == "editor@example.com"
        assert "Help desk is declared." in text_of(editor.get("/features/help-desk/"))

    def test_a_slug_that_is_taken_is_refused_and_changes_nothing(
        self, editor: Client, feature: Feature
    ) -> None:
        before = current_document(feature)
        response = editor.post(NEW, opened(editor, NEW).data(name="Mine", slug="support-chat"))
        assert response.status_code == 400
        assert "Slugs are unique across teams; choose another." in text_of(response)
        assert dict(Form(response).fields)["name"] == "Mine"
        assert current_document(feature) == before

    @pytest.mark.parametrize("slug", ["new", "a b", "ä", "a" * 201])
    def test_a_slug_that_cannot_be_is_explained_at_the_field(self, editor: Client, slug: str) -> None:
        response = editor.post(NEW, opened(editor, NEW).data(name="Mine", slug=slug))
        assert response.status_code == 400
        assert 'id="id_slug_error"' in response.content.decode()
        assert not Feature.objects.exists()

    def test_who_is_in_several_teams_chooses(self, editor: Client, team: Team) -> None:
        other = make_team(slug="others", name="Others")
        Membership.objects.create(team=other, user=User.objects.get(), role=Membership.Role.ADMIN)
        form = opened(editor, NEW)

        refused = editor.post(NEW, form.data(name="Help", team="nobodys"))
        assert refused.status_code == 400
        assert "Choose the team that the feature belongs to." in text_of(refused)

        assert editor.post(NEW, form.data(name="Help", team="others")).status_code == 302
        assert Feature.objects.get().team == other


class TestEdit:
    def test_saving_what_is_there_changes_nothing(self, editor: Client, feature: Feature) -> None:
        complete = {
            "milestone": "complete",
            "budget_ms": 8000.125,
            "objective": 0.9995,
            "window_days": 7,
            "note": "a\n\nb ",
        }
        redeclare(
            feature,
            latency_budgets=[*feature_document()["latency_budgets"], complete],
            description="Two\nlines",
            runbook_url="https://runbooks.example.com/",
            now=NOW + timedelta(minutes=5),
        )
        before, entries = current_document(feature), AuditEntry.objects.count()

        response = editor.post(EDIT, opened(editor).data(), follow=True)

        assert "Nothing was changed." in text_of(response)
        assert current_document(feature) == before
        assert AuditEntry.objects.count() == entries

    def test_a_changed_allocation_becomes_a_version(self, editor: Client, feature: Feature) -> None:
        form = opened(editor)
        response = editor.post(
            EDIT,
            form.data(
                component_allocated=form.shares(tools="700", model="1,6 s"),
                first_token__note="A smaller model of tools",
            ),
            follow=True,
        )
        version = latest(feature)
        assert (version.version, version.note, version.created_by) == (
            2,
            "A smaller model of tools",
            "editor@example.com",
        )
        assert allocations(version) == {"model": 1600, "retrieval": 400, "tools": 700, "overhead": 300}
        assert "First token: version 2, in force from 21 Nov 2026, 20:02 UTC." in text_of(response)

    def test_components_are_added_removed_renamed_and_put_in_order(
        self, editor: Client, feature: Feature
    ) -> None:
        response = editor.post(
            EDIT,
            opened(editor).data(
                component_name=["guardrails", "llm", "tools", "overhead"],
                component_was=["", "model", "tools", "overhead"],
                component_under=["first_token"] * 4,
                component_allocated=["100", "1500", "800", ""],
            ),
        )
        assert response.status_code == 302
        declared = Component.objects.filter(feature=feature, state="declared")
        assert [c.name for c in declared] == ["guardrails", "llm", "tools", "overhead"]
        assert set(Component.objects.filter(state="archived").values_list("name", flat=True)) == {
            "model",
            "retrieval",
        }
        assert allocations(latest(feature)) == {"guardrails": 100, "llm": 1500, "tools": 800}

    def test_a_milestone_is_switched_on_and_off(self, editor: Client, feature: Feature) -> None:
        form = opened(editor)
        editor.post(
            EDIT,
            form.data(
                first_token__on=None,
                complete__on="on",
                complete__budget="8 s",
                complete__objective="99,9",
                complete__window="7",
                component_under=["complete"] * 4,
            ),
        )
        complete = latest(feature, "complete")
        assert (complete.budget_ms, float(complete.objective), complete.window_days) == (8000, 0.999, 7)
        assert allocations(complete)["model"] == 1500
        assert latest(feature).is_retired

    def test_a_first_version_asks_for_what_is_stored_to_be_judged(
        self, editor: Client, feature: Feature
    ) -> None:
        editor.post(
            EDIT, opened(editor).data(complete__on="on", complete__budget="8000", complete__objective="95")
        )
        feature.refresh_from_db()
        assert feature.rejudge_requested_at == NOW

    def test_blank_rows_say_nothing(self, editor: Client, feature: Feature) -> None:
        form = opened(editor)
        blank = {
            name: [*form.data()[name], ""]
            for name in ("component_name", "component_was", "component_allocated")
        }
        under = [*form.data()["component_under"], "first_token"]
        response = editor.post(EDIT, form.data(component_under=under, **blank), follow=True)
        assert "Nothing was changed." in text_of(response)

    def test_an_archived_feature_stays_archived_when_it_is_edited(
        self, editor: Client, feature: Feature
    ) -> None:
        editor.post("/features/support-chat/archive/")
        editor.post(EDIT, opened(editor).data(name="Help desk"))
        feature.refresh_from_db()
        assert (feature.name, feature.is_archived) == ("Help desk", True)


class TestWithoutScript:
    def test_buttons_change_the_form_and_save_nothing(self, editor: Client, feature: Feature) -> None:
        before = current_document(feature)

        def names(action: str, **changes: Any) -> list[str]:
            response = editor.post(EDIT, opened(editor).data(action, name="Typed", **changes))
            assert response.status_code == 200
            form = Form(response)
            assert dict(form.fields)["name"] == "Typed"
            return [value for name, value in form.fields if name == "component_name"]

        assert names("add") == ["model", "retrieval", "tools", "overhead", ""]
        assert names("adopt:cache") == ["model", "retrieval", "tools", "overhead", "cache"]
        assert names("remove:1") == ["model", "tools", "overhead"]
        assert names("up:2") == ["model", "tools", "retrieval", "overhead"]
        assert names("down:0") == ["retrieval", "model", "tools", "overhead"]
        assert (
            names("up:0")
            == names("down:3")
            == names("remove:x")
            == ["model", "retrieval", "tools", "overhead"]
        )
        assert current_document(feature) == before

    def test_preview_says_what_is_wrong_and_what_would_change(self, editor: Client, feature: Feature) -> None:
        form = opened(editor)
        wrong = text_of(
            editor.post(EDIT, form.data("preview", component_allocated=form.shares(tools="1000")))
        )
        assert "200 ms over" in wrong
        right = text_of(editor.post(EDIT, form.data("preview", component_allocated=form.shares(tools="700"))))
        assert "First token: tools 800 ms → 700 ms" in right
        assert "unallocated 100 ms" in right
        assert "Save as version 2" in right
        assert "First token: version 2, in force from 21 Nov 2026, 20:02 UTC" in right
        assert latest(feature).version == 1

    def test_the_first_button_saves_nothing(self, editor: Client, feature: Feature) -> None:
        """It is the one that Enter presses in a field."""
        html = editor.get(EDIT).content.decode()
        first = re.search(r'<button[^>]*name="action"[^>]*>', html[html.index('id="editor"') :])
        assert first is not None
        assert 'value="preview"' in first[0]


class TestWhatIsWrong:
    @pytest.mark.parametrize(
        ("changes", "field", "said"),
        [
            ({"name": "  "}, "name", "Give it a name"),
            ({"runbook_url": "wiki"}, "runbook_url", "Write an address that begins with https://"),
            ({"kind": "chat"}, "kind", "Choose one of these kinds."),
            ({"first_token__budget": ""}, "first_token-budget", "Write milliseconds, such as 3000, or 3 s."),
            ({"first_token__budget": "3.000"}, "first_token-budget", "as 3 ms or as 3000 ms"),
            ({"first_token__budget": "-1"}, "first_token-budget", "more than 0 ms"),
            ({"first_token__objective": "0.99"}, "first_token-objective", "99 for 99 %"),
            ({"first_token__objective": "100"}, "first_token-objective", "All of them is no objective"),
            ({"first_token__window": "14"}, "first_token-window", "Choose 7, 28 or 30 days."),
            ({"first_token__note": "a\0b"}, "first_token-note", "U+0000"),
            (
                {"component_name": ["model", "", "tools", "overhead"]},
                "component-1-name",
                "archives retrieval",
            ),
            (
                {"component_name": ["model", "model", "tools", "x"]},
                "component-1-name",
                "stands in another row",
            ),
            ({"component_name": ["a" * 201, "b", "c", "d"]}, "component-0-name", "at most 200 characters"),
            ({"component_allocated": ["fast", "1", "1", "1"]}, "component-0-allocated", "no duration"),
            ({"component_allocated": ["1", "0", "1", "1"]}, "component-1-allocated", "more than 0 ms"),
            (
                {"component_under": ["first_token", "complete", "first_token", "first_token"]},
                "component-1-under",
                "has no latency budget",
            ),
            (
                {"component_under": ["first_token", "nowhere", "first_token", "first_token"]},
                "component-1-under",
                "Choose the milestone",
            ),
            (
                {"component_allocated": ["1500", "400", "1000", "300"]},
                "first_token-sum",
                "add up to 3200 ms: 200 ms over first token's latency budget of 3000 ms. Take 200 ms from",
            ),
            (
                {"complete__on": "on", "complete__budget": "2000", "complete__objective": "95"},
                "first_token-budget",
                "First token's 3000 ms is more than complete's 2000 ms",
            ),
            (
                {
                    "complete__on": "on",
                    "complete__budget": "3100",
                    "complete__objective": "95",
                    "component_under": ["first_token"] * 3 + ["complete"],
                },
                "complete-sum",
                "first token's block is 3000 ms: 200 ms over complete's latency budget of 3100 ms.",
            ),
        ],
    )
    def test_it_is_said_at_the_field_and_all_that_was_typed_is_kept(
        self, editor: Client, feature: Feature, changes: dict[str, Any], field: str, said: str
    ) -> None:
        before = current_document(feature)
        data = opened(editor).data(**({"description": "Typed by hand"} | changes))

        response = editor.post(EDIT, data)

        assert response.status_code == 400
        html, text = response.content.decode(), text_of(response)
        assert f'id="id_{field}_error"' in html
        assert f'href="#id_{field}"' in html
        assert f'id="id_{field}"' in html
        assert said in text.replace("\N{NO-BREAK SPACE}", " ")
        assert "Nothing was saved: 1 thing needs mending" in text
        kept = Form(response).data()
        for name in data:
            if "\0" not in str(data[name]) and name not in (
                "csrfmiddlewaretoken",
                "kind",
                "first_token-window",
            ):
                typed = data[name] if isinstance(data[name], list) else [data[name]]
                if "nowhere" not in typed:
                    assert (
                        [kept[name]]
                        if isinstance(kept[name], str)
                        else kept[name] == [v.strip() for v in typed]
                    ), name
        assert current_document(feature) == before

    def test_all_that_is_wrong_is_said_at_once(self, editor: Client, feature: Feature) -> None:
        form = opened(editor)
        response = editor.post(
            EDIT,
            form.data(
                name="",
                first_token__objective="x",
                component_allocated=form.shares(tools="y"),
                runbook_url="z",
            ),
        )
        assert "Nothing was saved: 4 things need mending" in text_of(response)

    def test_names_cannot_leave_the_markup(self, editor: Client, feature: Feature) -> None:
        hostile = '"><script>alert(1)</script>'
        form = opened(editor)
        changes = {"name": hostile, "component_name": [hostile, "b", "c", "d"], "first_token__note": hostile}
        for response in (
            editor.post(EDIT, form.data("preview", **changes)),
            editor.post(EDIT, form.data(**changes), follow=True),
            editor.get("/features/support-chat/versions/"),
        ):
            assert "<script>alert(1)" not in response.content.decode()


class TestObserved:
    @pytest.fixture
    def measured(self, feature: Feature) -> Feature:
        at = NOW - timedelta(hours=3)
        make_traffic(feature, at=at, count=200, over=4, over_ms=4096.0, milestone="first_token", now=NOW)
        make_traffic(feature, at=at, count=200, over=20, over_ms=2048.0, component="tools", now=NOW)
        make_traffic(feature, at=at, count=30, over=0, component="cache", now=NOW)
        return feature

    def test_percentiles_stand_beside_each_field_with_how_many(
        self, editor: Client, measured: Feature
    ) -> None:
        text = text_of(editor.get(EDIT)).replace("\N{NO-BREAK SPACE}", " ")
        assert re.search(r"p99 20\d\d ms n = 200", text)
        assert "p99 is over it" in text
        assert "not measured yet" in text
        assert re.search(r"Add cache p50 .* n = 30 few", text)

    def test_the_estimate_follows_the_numbers_typed(self, editor: Client, measured: Feature) -> None:
        form = opened(editor)

        def estimate(budget: str) -> str:
            data = form.data("preview", first_token__budget=budget, component_allocated=["", "", "800", ""])
            response = editor.post(EDIT, data, headers={"X-Preview": "1"})
            assert response["X-Page-Part"] == "1"
            assert "<html" not in response.content.decode()
            return text_of(response).replace("\N{NO-BREAK SPACE}", " ")

        as_it_is = estimate("3000")
        assert "98.0 % good ✕ Would be broken" in as_it_is  # by exact counters: it was in force
        assert "tools 800 ms ▲ More than the objective lets miss: 10.0 %" in as_it_is
        assert "estimated" not in as_it_is
        looser = estimate("5000")
        assert "100 % good (estimated) ✓ Would be kept" in looser
        assert "As it was judged: 98.0 %" in looser
        assert "measured for 1 day so far" in looser.lower()

    def test_the_share_of_calls_over_an_allocation_is_estimated_where_it_was_not_in_force(
        self, editor: Client, measured: Feature
    ) -> None:
        data = opened(editor).data("preview", component_allocated=["1500", "400", "2100", "300"])
        text = text_of(editor.post(EDIT, data, headers={"X-Preview": "preview"})).replace(
            "\N{NO-BREAK SPACE}", " "
        )
        assert "tools 2100 ms ≈ 0 %" in text
        assert "model 1500 ms not measured" in text
        assert "≈ estimated from a histogram" in text

    def test_the_alert_rules_are_replayed_under_what_is_typed_and_nothing_is_saved(
        self, editor: Client, measured: Feature
    ) -> None:
        assert "Press Preview to replay the alert rules" in text_of(editor.get(EDIT))
        form = opened(editor)

        def replayed(budget: str) -> str:
            data = form.data("preview", first_token__budget=budget)
            part = editor.post(EDIT, data, headers={"X-Preview": "replay"})
            assert part["X-Page-Part"] == "1"
            assert "<html" not in part.content.decode()
            without_script = text_of(editor.post(EDIT, data))
            assert text_of(part).strip() in without_script
            return text_of(part)

        assert "No page, no ticket Under version 1, as it was judged: 1 ticket, open for" in replayed("5000")
        assert "1 page, open for" in replayed("50")
        assert "Nothing to replay: no latency budget can be read." in replayed("soon")
        assert LatencyBudget.objects.count() == 1

    def test_a_latency_budget_that_cannot_be_read_is_refused_beside_what_was_observed(
        self, editor: Client, measured: Feature
    ) -> None:
        response = editor.post(EDIT, opened(editor).data(first_token__budget="soon"))
        assert response.status_code == 400
        assert 'value="soon"' in response.content.decode()
        assert "Observed: p50" in text_of(response)
        assert "What changes Nothing yet." in text_of(response)  # and not that it would be taken away

    def test_a_feature_that_was_never_measured_has_nothing_to_replay(
        self, editor: Client, feature: Feature
    ) -> None:
        text = text_of(editor.get(EDIT))
        assert "No estimate yet: nothing was measured." in text
        assert "replay" not in text

    def test_queries_do_not_grow_with_components(
        self, editor: Client, measured: Feature, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        editor.get(EDIT)
        with django_assert_max_num_queries(100) as first:
            editor.get(EDIT)
        names = [f"part {n}" for n in range(30)]
        redeclare(measured, components=[*feature_document()["components"], *names])
        for name in names[:5]:
            make_traffic(measured, at=NOW - timedelta(hours=3), count=2, over=0, component=name, now=NOW)
        with django_assert_max_num_queries(len(first)):
            assert len(opened(editor).data()["component_name"]) == 34


class TestTwoPeople:
    @pytest.fixture
    def form(self, editor: Client, feature: Feature) -> Form:
        """Opened before somebody else saves."""
        return opened(editor)

    def ada_saves(self, feature: Feature, **overrides: Any) -> None:
        with time_machine.travel(NOW + timedelta(minutes=3), tick=False):
            ada = signed_in(make_person("ada@example.com", team=feature.team, role=Membership.Role.ADMIN))
            form = opened(ada)
            changes = {name: value(form) if callable(value) else value for name, value in overrides.items()}
            assert ada.post(EDIT, form.data(**changes)).status_code == 302

    def test_the_later_one_saves_nothing_and_sees_what_changed(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        self.ada_saves(feature, name="Ada's chat", component_allocated=lambda f: f.shares(tools="600"))
        before = current_document(feature)

        response = editor.post(
            EDIT, form.data(description="Mine", component_allocated=form.shares(tools="700"))
        )

        assert response.status_code == 409
        text = text_of(response).replace("\N{NO-BREAK SPACE}", " ")
        assert "Nothing of yours is lost, and nothing of it is saved." in text
        assert "ada@example.com, 21 Nov 2026, 20:03:30 UTC: 2 fields" in text
        assert "First token: tools Before 800 ms Theirs 600 ms Yours 700 ms" in text
        assert "Name Before Support chat Theirs Ada's chat Yours Support chat (not touched)" in text
        kept = Form(response).data()
        assert kept["description"] == ["Mine"]
        assert kept["component_allocated"][2] == "700"
        assert current_document(feature) == before

    def test_what_one_did_not_touch_is_ticked_and_can_be_taken_over(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        self.ada_saves(feature, name="Ada's chat", component_allocated=lambda f: f.shares(tools="600"))
        mine = form.data(description="Mine", component_allocated=form.shares(tools="700"))
        conflict = Form(editor.post(EDIT, mine))
        assert conflict.data()["theirs"] == ["name"]

        merged = editor.post(EDIT, conflict.data("merge"))
        assert "Nothing is saved yet." in text_of(merged)
        assert editor.post(EDIT, Form(merged).data()).status_code == 302

        document = current_document(feature)
        assert (document["name"], document["description"]) == ("Ada's chat", "Mine")
        assert allocations(latest(feature))["tools"] == 700
        assert latest(feature).version == 3

    def test_one_may_save_over_it_once_one_has_seen_it(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        self.ada_saves(feature, name="Ada's chat")
        conflict = Form(editor.post(EDIT, form.data(name="My chat")))
        assert editor.post(EDIT, conflict.data("overwrite")).status_code == 302
        assert current_document(feature)["name"] == "My chat"

    def test_saving_without_a_choice_does_not_undo_what_others_changed(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        self.ada_saves(feature, name="Ada's chat")
        conflict = editor.post(EDIT, form.data(description="Mine"))
        assert "data-save>" not in conflict.content.decode()

        previewed = editor.post(EDIT, Form(conflict).data("preview"))
        for shown in (conflict, previewed):
            again = editor.post(EDIT, Form(shown).data())
            assert again.status_code == 409
            assert Form(again).data()["theirs"] == ["name"]
        assert current_document(feature)["name"] == "Ada's chat"

    def test_a_change_that_says_what_one_typed_is_no_reason_to_choose(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        self.ada_saves(feature, name="Our chat")
        conflict = editor.post(EDIT, form.data(name="Our chat"))
        assert "there is nothing to choose" in text_of(conflict)
        assert editor.post(EDIT, Form(conflict).data()).status_code == 302

    def test_a_further_change_is_a_further_conflict(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        self.ada_saves(feature, name="Ada's chat")
        conflict = Form(editor.post(EDIT, form.data(name="My chat")))
        redeclare(feature, name="Bob's chat", now=NOW + timedelta(minutes=9))
        for action in ("save", "overwrite", "merge"):
            response = editor.post(EDIT, conflict.data(action))
            assert response.status_code == 409
            assert "Theirs Bob's chat Yours My chat" in text_of(response)

    def test_everything_of_theirs_can_be_taken(self, editor: Client, feature: Feature, form: Form) -> None:
        complete = {
            "milestone": "complete",
            "budget_ms": 9000,
            "objective": 0.9,
            "window_days": 30,
            "note": "n",
        }
        first = {
            **feature_document()["latency_budgets"][0],
            "budget_ms": 2500,
            "objective": 0.98,
            "window_days": 7,
            "note": "Because",
            "allocations": {"model": 1000, "cache": 50},
        }
        redeclare(
            feature,
            name="Theirs",
            kind="other",
            description="Theirs",
            runbook_url="https://theirs.example.com/",
            components=["cache", "tools", "model"],
            latency_budgets=[first, {**complete, "allocations": {"tools": 700}}],
            now=NOW + timedelta(minutes=3),
        )
        theirs = current_document(feature)
        conflict = Form(editor.post(EDIT, form.data(name="Mine")))
        paths = re.findall(
            r'name="theirs" value="([^"]+)"', editor.post(EDIT, form.data(name="Mine")).content.decode()
        )

        merged = Form(editor.post(EDIT, conflict.data("merge", theirs=[unescape(path) for path in paths])))
        response = editor.post(EDIT, merged.data(), follow=True)

        assert "Nothing was changed." in text_of(response)
        assert current_document(feature) == theirs

    def test_a_change_that_is_not_in_the_audit_log_is_a_conflict_all_the_same(
        self, editor: Client, feature: Feature, form: Form
    ) -> None:
        Feature.objects.update(name="Changed by hand")
        response = editor.post(EDIT, form.data(name="Mine"))
        assert response.status_code == 409
        assert "Theirs Changed by hand Yours Mine" in text_of(response)


class TestArchive:
    def test_it_asks_first_and_the_feature_comes_back_from_the_list(
        self, editor: Client, feature: Feature
    ) -> None:
        asked = editor.get("/features/support-chat/archive/")
        assert "Archive Support chat?" in text_of(asked)
        feature.refresh_from_db()
        assert not feature.is_archived

        archived = editor.post("/features/support-chat/archive/", follow=True)
        assert archived.redirect_chain == [("/archived/", 302)]
        assert "Its measurements are rejected from now on." in text_of(archived)
        assert 'href="/features/support-chat/restore/"' in archived.content.decode()
        assert 'href="/archived/"' in editor.get("/").content.decode()

        assert "Restore Support chat?" in text_of(editor.get("/features/support-chat/restore/"))
        restored = editor.post("/features/support-chat/restore/", follow=True)
        assert restored.redirect_chain == [("/features/support-chat/", 302)]
        feature.refresh_from_db()
        assert not feature.is_archived
        assert [e.actor for e in AuditEntry.objects.filter(action="feature.declared")[:2]] == [
            "editor@example.com"
        ] * 2
        assert 'href="/archived/"' not in editor.get("/").content.decode()

    def test_versions_stay_as_they_were(self, editor: Client, feature: Feature) -> None:
        editor.post("/features/support-chat/archive/")
        editor.post("/features/support-chat/restore/")
        assert feature.latency_budgets.count() == 1

    def test_a_viewer_sees_the_list_without_restore_and_an_outsider_an_empty_one(
        self, viewer: Client, outsider: Client, editor: Client, feature: Feature
    ) -> None:
        editor.post("/features/support-chat/archive/")
        seen = viewer.get("/archived/").content.decode()
        assert "Support chat" in seen
        assert "/restore/" not in seen
        assert "No feature is archived." in text_of(outsider.get("/archived/"))


class TestVersions:
    def test_each_says_who_when_why_and_what_changed(self, viewer: Client, team: Team) -> None:
        feature = make_feature(team=team, slug="support-chat", now=NOW - timedelta(days=2))
        budget = feature_document()["latency_budgets"][0]
        redeclare(
            feature,
            latency_budgets=[
                {
                    **budget,
                    "budget_ms": 2800,
                    "note": "New model",
                    "allocations": {**budget["allocations"], "model": 1300},
                }
            ],
            now=NOW - timedelta(days=1),
        )
        redeclare(feature, latency_budgets=[], now=NOW)

        text = text_of(viewer.get("/features/support-chat/versions/")).replace("\N{NO-BREAK SPACE}", " ")

        assert re.search(
            r"version 3 ahead Retired from 21 Nov 2026, 20:02 UTC on No latency budget any more", text
        )
        assert "latency budget 3000 ms → 2800 ms" in text
        assert "model 1500 ms → 1300 ms" in text
        assert "New model" in text
        assert "version 2 in force In force from 20 Nov 2026, 20:02 UTC" in text
        assert "version 1 In force always 3000 ms, 99 % over 28 days; model 1500 ms" in text
        assert text.index("version 3") < text.index("version 2") < text.index("version 1")

    def test_one_that_was_overtaken_says_that_it_never_counted(
        self, viewer: Client, feature: Feature
    ) -> None:
        budget = feature_document()["latency_budgets"][0]
        for ms in (4000, 5000):
            redeclare(feature, latency_budgets=[{**budget, "budget_ms": ms}])
        text = text_of(viewer.get("/features/support-chat/versions/"))
        assert "version 3 ahead In force from" in text
        assert "version 2 Never in force: the next version took its place" in text

    def test_queries_do_not_grow_with_versions(
        self, viewer: Client, feature: Feature, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        address = "/features/support-chat/versions/"
        viewer.get(address)
        with django_assert_max_num_queries(100) as first:
            viewer.get(address)
        for ms in range(10):
            budget = {**feature_document()["latency_budgets"][0], "budget_ms": 4000 + ms}
            redeclare(feature, latency_budgets=[budget], now=NOW + timedelta(minutes=ms))
        with django_assert_max_num_queries(len(first)):
            assert "version 11" in text_of(viewer.get(address))


def test_what_nobody_has_typed_into_is_not_told_what_is_wrong(editor: Client) -> None:
    assert "To mend first" not in text_of(editor.get(NEW))
    assert "To mend first" in text_of(editor.post(NEW, opened(editor, NEW).data("add")))
