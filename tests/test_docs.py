"""The documentation leads somewhere: links, commands and snippets are checked against what exists."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests import screenshots

PROJECT = Path(__file__).parent.parent
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
NAMES = [str(page.relative_to(PROJECT)) for page in PAGES]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PICTURE = re.compile(r'(?:src|srcset)="([^"]+)"')
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_within_the_project_leads_to_a_file(page: Path) -> None:
    targets = [
        target.partition("#")[0]
        for target in _LINK.findall(page.read_text())
        if "://" not in target and not target.startswith(("#", "mailto:"))
    ]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_snippets_are_well_formed(page: Path) -> None:
    for text in blocks(page, "python"):
        ast.parse(text)
    for text in blocks(page, "json"):
        json.loads(text.replace("…", "x"))


def test_every_make_command_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {
        command
        for page in PAGES
        for text in [*blocks(page, "sh"), *re.findall(r"`(make [a-z]+)", page.read_text())]
        for command in re.findall(r"\bmake ([a-z]+)\b", text)
    }
    assert named
    assert named <= targets


def test_every_page_is_in_the_index() -> None:
    index = (PROJECT / "docs" / "README.md").read_text()
    pages = {
        str(page.relative_to(PROJECT / "docs"))
        for page in PAGES
        if page.is_relative_to(PROJECT / "docs") and "adr" not in page.parts and page.name != "README.md"
    }
    assert {page for page in pages if f"({page})" not in index} == set()


def test_pictures_are_those_that_the_script_takes_in_both_themes() -> None:
    shown = {
        (page.parent / target).resolve() for page in PAGES for target in _PICTURE.findall(page.read_text())
    }
    taken = {screenshots.IMAGES / name for name in screenshots.names()}
    assert shown == taken == set(screenshots.IMAGES.iterdir())
    assert [path.name for path in taken if path.read_bytes()[:8] != b"\x89PNG\r\n\x1a\n"] == []
    # Together they are fetched by whoever looks at the README.
    assert max(path.stat().st_size for path in taken) < 400_000
