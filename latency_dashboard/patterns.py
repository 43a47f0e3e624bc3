"""/patterns/: every component of the templates in every state, for whoever works on pages. Only where DEBUG is on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

from alerts.contexts.incidents import (
    IncidentLine,
    IncidentList,
    Log,
    LogEntry,
    incident_page,
    target_name,
)
from alerts.forms import NoteForm
from alerts.models import Incident
from alerts.silences import Hold
from budgets.annotation_forms import AnnotationForm
from budgets.charts.frame import Size
from budgets.contexts.feature import feature_page
from budgets.contexts.frame import RANGES, Frame
from budgets.contexts.overview import overview, sparkline
from budgets.contexts.parts import ChartPlace, bullet
from budgets.contexts.start import arrival
from budgets.models import Milestone
from budgets.templatetags.latency import STATES

from . import pattern_samples as samples
from .pattern_samples import HOSTILE, LONG

_BULLETS: Final = {
    "In time": (1840.0, 3000.0, "ok"),
    "Just below": (2999.6, 3000.0, "at_risk"),
    "Far over": (30_000.0, 3000.0, "breached"),
    "No data": (None, 3000.0, "no_data"),
    "No limit": (1840.0, None, "no_data"),
}
# Of a specimen: what may stand once on a page, and landmarks, of which a page has only its own.
_IDENTIFIERS = re.compile(r'\b(id|for|aria-labelledby|aria-describedby|data-copy|headers)="([^"]+)"')
_LANDMARKS = re.compile(r"<(/?)(section|nav|aside)\b")
_LIVE = re.compile(
    r' (?:data-announce|data-page-title="[^"]*"|data-needs-attention|hx-swap-oob="true"|role="(?:alert|status)"|hidden(?=[ >]))'
)


@dataclass(frozen=True)
class Specimen:
    """A component in one state."""

    name: str
    html: SafeString


@dataclass(frozen=True)
class Group:
    """A component, by the path of its template, and its specimens."""

    template: str
    specimens: list[Specimen]

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.template.removesuffix(".html"))


@require_safe
def patterns(request: HttpRequest) -> HttpResponse:
    """The gallery. 404 where DEBUG is off."""
    if not settings.DEBUG:
        raise Http404("the gallery of components is for those who work on them: it needs DEBUG")
    groups = list(_groups(request, timezone.now()))
    return render(request, "patterns.html", {"groups": groups, "crumbs": [("Patterns", "")]})


def _groups(request: HttpRequest, now: datetime) -> Iterator[Group]:
    numbers = count(1)

    def group(template: str, variants: dict[str, dict[str, Any]]) -> Group:
        return Group(
            template,
            [
                Specimen(name, _apart(render_to_string(template, context, request), next(numbers)))
                for name, context in variants.items()
            ],
        )

    yield from (group(f"components/{name}.html", variants) for name, variants in _components(now).items())
    yield from (group(template, variants) for template, variants in _regions(now).items())


def _apart(html: str, number: int) -> SafeString:
    """A rendered template as a specimen: nothing of it is mistaken for a part of the page around it."""

    def suffixed(match: re.Match[str]) -> str:
        return f'{match[1]}="{" ".join(f"{one}-{number}" for one in match[2].split())}"'

    html = _IDENTIFIERS.sub(suffixed, _LIVE.sub("", html))
    html = html.replace("<h1", "<h2").replace("</h1>", "</h2>")
    html = f'<dl class="tiles">{html}</dl>' if html.lstrip().startswith('<div class="tile"') else html
    html = _LANDMARKS.sub(lambda match: "</div" if match[1] else '<div role="group"', html)
    # The parts were escaped when they were rendered; what was put in here are digits and words of ours.
    return mark_safe(html)  # noqa: S308


class _Form(forms.Form):
    text = forms.CharField(
        label="Name", help_text="A hint.", max_length=200, widget=forms.TextInput({"class": "input"})
    )
    number = forms.IntegerField(
        label="Latency budget, ms", min_value=0, widget=forms.NumberInput({"class": "input"})
    )
    choice = forms.ChoiceField(
        label="Severity",
        choices=[("page", "Page"), ("ticket", "Ticket")],
        widget=forms.Select({"class": "input"}),
    )
    note = forms.CharField(label="Reason", widget=forms.Textarea({"class": "input", "rows": 3}))
    is_on = forms.BooleanField(label="Enabled", required=False)

    def clean(self) -> dict[str, Any]:
        self.add_error(
            None,
            "Nothing was saved: the form as a whole has a mistake, such as two things that exclude each other.",
        )
        return self.cleaned_data


def _components(now: datetime) -> dict[str, dict[str, dict[str, Any]]]:
    """Component → what a state of it is called → its variables."""
    empty, wrong = (
        _Form(auto_id="empty_%s"),
        _Form({"number": "-5", "note": HOSTILE["an element"]}, auto_id="wrong_%s"),
    )
    pages = Paginator(range(100), 10)
    minute = now - timedelta(minutes=3)
    start, end = now - timedelta(hours=3), now - timedelta(hours=2)
    frames = {
        "Live": Frame(as_of=minute, environments=["production"], ranges=RANGES),
        "A range, and many environments": Frame(
            as_of=end,
            environment="staging",
            environments=["production", "staging", *HOSTILE.values()],
            range="1h",
            ranges=RANGES,
            is_live=False,
            is_pinned=True,
        ),
        "From and to": Frame(
            as_of=end,
            environment="x" * 200,
            environments=["x" * 200],
            ranges=RANGES,
            start=start,
            end=end,
            is_live=False,
            is_pinned=True,
        ),
    }
    framed = {name: {"frame": frame} for name, frame in frames.items()}
    texts = {**HOSTILE, "10 000 characters": LONG}
    messages = {
        "Done": ("success", "Saved. Test whether on-call works."),
        "Refused": ("error", "Not delivered. The receiver answered 500."),
    }
    return {
        "state": {state: {"state": state, "word": ""} for state in STATES}
        | {f"ok with {name}": {"state": "ok", "word": text} for name, text in texts.items()},
        "tile": {
            "Plain": {"label": "Achieved", "value": "99.25 %", "note": "119,100 good of 120,000"},
            "No data": {"label": "p99, last hour", "value": "–", "note": "nothing was measured"},
            **{name: {"label": text, "value": text, "note": text} for name, text in texts.items()},
        },
        "bullet": {
            name: {"bullet": bullet(value, limit, state, f"First token: {name}")}
            for name, (value, limit, state) in _BULLETS.items()
        },
        "sparkline": {
            "Calm": {"sparkline": sparkline(samples.hours(0.002), 0.01)},
            "Over what the objective allows": {"sparkline": sparkline(samples.hours(0.08), 0.01)},
        },
        "chart": {
            "Before it is drawn": {"chart": _chart("First token", "large", 240, "ok")},
            "Small, breached": {"chart": _chart("retrieval", "small", 120, "breached")},
            **{name: {"chart": _chart(text, "small", 120, "at_risk")} for name, text in HOSTILE.items()},
        },
        "copyable": {
            "A command": {
                "id": "command",
                "text": "curl http://127.0.0.1:8000/healthz",
                "label": "the command",
            },
            **{name: {"id": "text", "text": text, "label": "the text"} for name, text in HOSTILE.items()},
        },
        "empty": {
            "Nothing yet": {
                "title": "No channel yet",
                "text": "Nobody is told of this team's incidents.",
                "action_url": "#",
                "action_label": "New channel",
            },
            "No match": {
                "title": "No incident matches",
                "text": "There are incidents, and none with these filters.",
                "action_url": "#",
                "action_label": "Show all incidents",
            },
            "All clear": {
                "title": "All clear",
                "text": "No incident is in this state.",
                "action_url": "#",
                "action_label": "Show all incidents",
            },
            **{
                name: {"title": text, "text": text, "action_url": "#", "action_label": text[:60]}
                for name, text in HOSTILE.items()
            },
        },
        "breadcrumb": {
            "Three steps": {"crumbs": [("Overview", "#"), ("Support chat", "#"), ("Edit", "")]},
            **{
                name: {"crumbs": [("Overview", "#"), (text, "#"), ("Edit", "")]}
                for name, text in HOSTILE.items()
            },
        },
        "environment": framed,
        "range": framed,
        "freshness": framed,
        "pages": {f"Page {n} of 10": {"page": pages.page(n)} for n in (1, 5, 10)},
        "messages": {
            **{name: {"messages": [_message(level, text)]} for name, (level, text) in messages.items()},
            **{name: {"messages": [_message("error", text)]} for name, text in texts.items()},
        },
        "field": {
            **{f"{field.label}, empty": {"field": field} for field in empty},
            **{f"{field.label}, refused": {"field": field} for field in wrong},
        },
        "form_errors": {"Refused": {"form": wrong}},
        **{name: {"As on every page": {}} for name in ("account", "theme", "zone", "shortcuts")},
    }


def _regions(now: datetime) -> dict[str, dict[str, dict[str, Any]]]:
    """Template of a region → what a state of it is called → its variables."""
    statuses, view = samples.statuses(now), samples.view(now)
    features = {name: samples.feature(name) for name in statuses}
    by_feature = {features[name].pk: {str(Milestone.FIRST_TOKEN): one} for name, one in statuses.items()}
    hours = {
        (features[name].pk, str(Milestone.FIRST_TOKEN)): samples.hours(one.counts.bad / 100_000)
        for name, one in statuses.items()
        if one.counts.judged
    }

    def listed(names: list[str], state: str = "") -> dict[str, Any]:
        chosen = [features[name] for name in names]
        return {
            "overview": overview(chosen, by_feature, hours, {}, view=view, chosen_state=state),
            "can_create": True,
        }

    overviews = {
        "Every state, and names that mean harm": listed(list(features)),
        "All clear": listed(["Keeps its promise"], "breached"),
        "No match": listed(["Keeps its promise"], "no_data"),
    }
    pages = {
        name: {
            "page": feature_page(features[name], by_feature[features[name].pk], one, view=view),
            "is_waiting": name == "No data",
            "can_edit": True,
        }
        for name, one in statuses.items()
    }
    lines = [
        IncidentLine(
            incident,
            "#",
            target_name(incident),
            incident.resolved_at or now,
            Hold("silence “Index rebuild” of ada@example.com", now + timedelta(hours=1))
            if name == "Open"
            else None,
        )
        for name, incident in samples.incidents(now).items()
    ]
    incidents = {
        name: {
            "page": replace(
                incident_page(incident, can_edit=name != "Acknowledged", now=now),
                log=_log(now, "Opened", incident.summary),
            ),
            "note_form": NoteForm(auto_id=f"note_{incident.pk}_%s"),
        }
        for name, incident in samples.incidents(now).items()
    }
    teams = [SimpleNamespace(slug="assistants", name="Assistants")]
    root, nobody = (
        SimpleNamespace(is_superuser=is_root, email="ada@example.com") for is_root in (True, False)
    )
    start = {"address": "http://127.0.0.1:8000"}
    return {
        "budgets/overview/verdict.html": overviews,
        "budgets/overview/features.html": overviews,
        "budgets/overview/start.html": {
            "An editor": {**start, "teams": teams, "can_create": True},
            "A viewer": {**start, "teams": teams, "can_create": False},
            "The first person": {**start, "teams": (), "request": SimpleNamespace(user=root)},
            "Somebody without a team": {**start, "teams": (), "request": SimpleNamespace(user=nobody)},
        },
        "budgets/feature/verdict.html": pages,
        "budgets/feature/tiles.html": {name: pages[name] for name in list(pages)[:7]},
        "budgets/feature/tabs.html": {name: pages[name] for name in ("At risk", "No data")},
        "budgets/feature/components.html": pages,
        "budgets/feature/burn_rates.html": {
            name: pages[name] for name in ("Keeps its promise", "At risk", "Breached", "No data")
        },
        "budgets/annotation_lines.html": {
            "Of each kind, and texts that mean harm": {
                "annotations": samples.marks(now),
                "feature": features["At risk"],
                "can_edit": True,
                "as_of": now,
            }
        },
        "budgets/annotation_form.html": {
            "Empty": {
                "form": AnnotationForm(initial={"environment": "production"}),
                "feature": features["At risk"],
            },
            "Refused": {"form": AnnotationForm({"text": ""}), "feature": features["At risk"]},
        },
        "budgets/start/arrival.html": {
            name: {
                "feature": features["At risk"],
                "arrival": arrival(features["At risk"], one),
                "frame": Frame(as_of=now),
            }
            for name, one in samples.arrivals(now).items()
        },
        "alerts/lines.html": {"Every state, and summaries that mean harm": {"lines": lines, "as_of": now}},
        "alerts/open_incidents.html": {"Some": {"lines": lines[:2], "has_more": True, "as_of": now}},
        "alerts/feature_incidents.html": {
            "None": {"feature": features["At risk"], "lines": [], "as_of": now},
            "Some": {"feature": features["At risk"], "lines": lines[:3], "has_more": True, "as_of": now},
        },
        **{
            f"alerts/incident/{name}.html": incidents
            for name in ("verdict", "actions", "facts", "cause", "told", "log")
        },
        "alerts/incidents/verdict.html": {
            "Nothing yet": {"list": _incidents([], now, total=0)},
            "Some are open": {"list": _incidents(lines, now, total=len(lines))},
        },
        "alerts/incidents/list.html": {
            "Every state, and summaries that mean harm": {"list": _incidents(lines, now, total=len(lines))},
            "Nothing yet": {"list": _incidents([], now, total=0)},
            "All clear": {"list": _incidents([], now, total=3, state="open")},
            "No match": {"list": _incidents([], now, total=3, state="resolved")},
        },
    }


def _chart(title: str, size: Size, height: int, state: str) -> ChartPlace:
    return ChartPlace("pattern", title, f"{title} over time", "#", "#", height, size, state)


def _message(level: str, text: str) -> Any:
    class Message(str):
        level_tag = level

    return Message(text)


def _incidents(lines: list[IncidentLine], now: datetime, *, total: int, state: str = "") -> IncidentList:
    numbers = Counter(line.incident.state for line in lines)
    return IncidentList(
        page=Paginator([line.incident for line in lines], 25).get_page(1),
        lines=lines,
        states=[(str(one), str(one.label), numbers[one]) for one in Incident.State],
        chosen_state=state,
        features=[line.incident.feature for line in lines],
        chosen_feature=None,
        total=total,
        as_of=now,
    )


def _log(now: datetime, *texts: str) -> Log[LogEntry]:
    """The opening, hundreds of steps between, and the latest."""
    entries = [
        LogEntry("✕", text, now, note=text, decided_by="1 hour: burn rate 15.2× over 13.4×") for text in texts
    ]
    return Log(entries[:1], 240, entries[1:])
