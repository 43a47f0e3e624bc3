"""docs/reference/commands.md tells of every command and of each of its options."""

from __future__ import annotations

import re
from argparse import _HelpAction
from pathlib import Path

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError

from tests.children import PROJECT

TEXT = (PROJECT / "docs/reference/commands.md").read_text()
OURS = {
    name: app
    for name, app in get_commands().items()
    if str(app) in ("budgets", "alerts", "latency_dashboard")
}


def synopsis(name: str) -> str:
    found = re.search(rf"^manage\.py {name} .*$", TEXT, re.MULTILINE)
    assert found, name
    return found[0]


def test_every_command_is_in_the_table_and_has_a_synopsis() -> None:
    assert OURS
    assert set(re.findall(r"^\| \[`(\w+)`\]", TEXT, re.MULTILINE)) == OURS.keys()
    assert set(re.findall(r"^manage\.py (\w+)", TEXT, re.MULTILINE)) == OURS.keys()


def test_every_link_of_the_table_leads_to_a_heading() -> None:
    headings = {heading.replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= headings


@pytest.mark.parametrize("name", OURS)
def test_the_synopsis_has_the_options_of_the_command(name: str) -> None:
    parser = load_command_class(str(OURS[name]), name).create_parser("manage.py", name)
    of_django = {
        option
        for action in BaseCommand().create_parser("manage.py", name)._actions
        for option in action.option_strings
    }
    options = {
        option
        for action in parser._actions
        if not isinstance(action, _HelpAction)
        for option in action.option_strings
        if option.startswith("--")
    }
    assert set(re.findall(r"--[\w-]+", synopsis(name))) == options - of_django


@pytest.mark.parametrize("name", OURS)
def test_the_help_of_a_command_says_what_it_does(name: str) -> None:
    command = load_command_class(str(OURS[name]), name)
    assert command.help.endswith(".")
    for action in command.create_parser("manage.py", name)._actions:
        assert action.help or action.dest in ("files", "file"), f"{name} {action.dest}"


def test_a_key_that_cannot_be_is_refused_with_the_reason(db: None) -> None:
    for arguments, said in (
        (("--team", "a b", "--name", "x"), "A team is named by letters"),
        (("--team", "a", "--name", " "), "A key needs a name"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("create_key", *arguments, "--scope", "read")
    with pytest.raises(CommandError, match="invalid choice: 'admin'"):
        call_command("create_key", "--team", "a", "--name", "x", "--scope", "admin")


def test_a_range_that_cannot_be_is_refused_with_the_reason(db: None) -> None:
    for start, end, said in (
        ("yesterday", "2026-11-21T20:00:00Z", "--from must be RFC 3339"),
        ("2026-11-21T20:00:00", "2026-11-21T21:00:00Z", "--from must be RFC 3339 with a zone"),
        ("2026-11-21T20:00:00Z", "2026-11-21T20:00:00Z", "--to must come after --from"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("rebuild_rollups", "--from", start, "--to", end)


def test_the_examples_of_the_documentation_are_documents_that_apply_takes(
    db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "T0")
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_" + "c2VjcmV0" * 4)
    examples = 0
    for page in ("docs/reference/commands.md", "docs/how-to/keep-budgets-in-git.md"):
        for example in re.findall(r"```yaml\n(apiVersion: .*?)```", (PROJECT / page).read_text(), re.DOTALL):
            file = tmp_path / "example.yaml"
            file.write_text(example)
            call_command("apply", str(file), "--dry-run")
            examples += 1
    assert examples == 3
