"""Every setting is documented, and everything that is documented is a setting."""

from __future__ import annotations

import re

from latency_dashboard import settings
from tests.children import PROJECT

# Read apart from settings.py, by what must not import it: the embedded servers and the commands that run them.
ELSEWHERE = {
    "latency_dashboard/embedded.py": {"REDIS_DATABASE"},
    "latency_dashboard/programs.py": {"POSTGRES_BIN", "VALKEY_SERVER"},
    "latency_dashboard/serve.py": {"LISTEN_ADDRESS"},
}


def read_by_settings() -> set[str]:
    source = (PROJECT / "latency_dashboard/settings.py").read_text()
    # A setting may be read under a name that is worked out, as long as this finds it: env.kind("NAME".
    assert not re.search(r"os\.environ|getenv|env\.\w+\([^\"\n)]", source)
    return set(re.findall(r"\benv\.\w+\(\s*\"([A-Z_]+)\"", source))


def documented() -> set[str]:
    lines = (PROJECT / "docs/reference/settings.md").read_text().splitlines()
    first_cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    return {name for cell in first_cells for name in re.findall(r"`([A-Z_]+)`", cell)}


def test_every_setting_is_documented_and_everything_documented_is_a_setting() -> None:
    elsewhere = set().union(*ELSEWHERE.values())
    assert read_by_settings() - documented() == set()
    assert documented() - read_by_settings() == elsewhere


def test_what_is_read_apart_from_settings_is_read_where_this_says() -> None:
    for path, names in ELSEWHERE.items():
        source = (PROJECT / path).read_text()
        assert all(re.search(rf"environ\S*[\[(]\"{name}\"", source) for name in names), path


def test_every_setting_is_documented_once() -> None:
    text = (PROJECT / "docs/reference/settings.md").read_text()
    listed = [
        name
        for cell in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
        for name in re.findall(r"`([A-Z_]+)`", cell)
    ]
    assert sorted(listed) == sorted(set(listed))


def test_passwords_are_hashed_by_argon2_as_strongly_as_django_proposes() -> None:
    """Whatever the tests themselves hash with."""
    assert settings.PASSWORD_HASHERS[0] == "django.contrib.auth.hashers.Argon2PasswordHasher"
