"""Every point of docs/reference/ux-checklist.md has a proof that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "reference" / "ux-checklist.md"
_ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_PROOF = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
# Where only an eye can tell: the page, and the widths at which it was looked at.
_LOOKED_AT = re.compile(r"looked at: .* at \d{3,4}")

ROWS = [(int(number), point, proof) for number, point, proof in _ROW.findall(TABLE.read_text())]


def test_there_are_forty_points_in_their_order() -> None:
    assert [number for number, _, _ in ROWS] == [*range(1, 41)]


@pytest.mark.parametrize(("point", "proof"), [(point, proof) for _, point, proof in ROWS])
def test_a_point_is_proved_by_tests_that_exist_or_by_a_look_at_a_page(point: str, proof: str) -> None:
    tests = _PROOF.findall(proof)
    assert tests or _LOOKED_AT.search(proof) or proof.startswith("Not met:"), point
    missing = [
        f"{path}::{name}"
        for path, name in tests
        if not re.search(rf"^\s*def {name}\(", (TESTS / path).read_text(), re.MULTILINE)
    ]
    assert missing == []
