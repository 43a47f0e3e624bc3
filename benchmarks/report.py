"""What benchmarks return, as a table for people and as JSON for comparisons."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

_COMPARISONS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value. `samples` are what it was condensed from."""

    value: float
    unit: str
    samples: Sequence[float] = ()

    @classmethod
    def median_of(cls, samples: Sequence[float], unit: str) -> Figure:
        return cls(statistics.median(samples), unit, tuple(samples))

    @property
    def text(self) -> str:
        return f"{number(self.value)} {self.unit}".strip()

    def document(self) -> dict[str, Any]:
        samples = {"samples": [_rounded(sample) for sample in self.samples]} if self.samples else {}
        return {"value": _rounded(self.value), "unit": self.unit, **samples}


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure is to reach."""

    label: str
    value: float
    comparison: Literal["≥", "≤", "<"]
    bound: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        return bool(_COMPARISONS[self.comparison](self.value, self.bound))

    @property
    def text(self) -> str:
        return f"{number(self.value)} {self.unit}".strip()

    @property
    def wanted(self) -> str:
        return f"{self.comparison} {number(self.bound)} {self.unit}".strip()

    def document(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "value": _rounded(self.value),
            "aim": self.comparison,
            "bound": self.bound,
            "unit": self.unit,
            "is_met": self.is_met,
        }


@dataclass(frozen=True, slots=True)
class Section:
    """One benchmark's figures: `rows` by label, each with its figures by column."""

    title: str
    rows: Mapping[str, Mapping[str, Figure]]
    aims: Sequence[Aim] = ()
    notes: Sequence[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        rows = [
            {"label": label, "figures": {name: figure.document() for name, figure in figures.items()}}
            for label, figures in self.rows.items()
        ]
        return {
            "title": self.title,
            "rows": rows,
            "aims": [aim.document() for aim in self.aims],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """The section as text, columns aligned."""
        columns = list(dict.fromkeys(name for figures in self.rows.values() for name in figures))
        table = [["", *columns]] if any(columns) else []
        for label, figures in self.rows.items():
            table.append([label, *(figures[name].text if name in figures else "" for name in columns)])
        verdicts = [
            [aim.label, aim.text, f"aim {aim.wanted}", "reached" if aim.is_met else "MISSED"]
            for aim in self.aims
        ]
        return [self.title, *_aligned(table), *_aligned(verdicts), *(f"  {note}" for note in self.notes)]


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that so many percent of all do not exceed.

    >>> percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 95)
    (2.0, 3.0)
    """
    return float(np.percentile(samples, percent, method="inverted_cdf"))


def number(value: float) -> str:
    """Three digits that mean something, thousands apart.

    >>> number(1234567), number(0.3456), number(12.34), number(3)
    ('1 234 567', '0.346', '12.3', '3')
    """
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def missed(sections: Mapping[str, Section]) -> list[str]:
    """A sentence for each aim that was missed."""
    return [
        f"{aim.label}: {aim.text}, the aim is {aim.wanted}"
        for section in sections.values()
        for aim in section.aims
        if not aim.is_met
    ]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the first column to the left and the others to the right."""
    if not table:
        return []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  " + "   ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in table
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
