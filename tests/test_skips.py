"""Which tests may be skipped where every check must pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import PROJECT

MARKED = "@pytest.mark.{marker}\ndef test_it():\n    pytest.skip('there is none here')\n"


@pytest.mark.parametrize(("marker", "status"), [("peer", 0), ("browser", 1)])
def test_a_test_of_a_peer_may_be_skipped_and_one_of_a_browser_may_not(
    tmp_path: Path, marker: str, status: int
) -> None:
    (tmp_path / "test_one.py").write_text("import pytest\n\n" + MARKED.format(marker=marker))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    peer: x\n    browser: x\n")
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "tests.plugins.no_skips", "--no-skips", f"--rootdir={tmp_path}"),
            *("-c", str(tmp_path / "pytest.ini"), str(tmp_path)),
        ],
        cwd=PROJECT,
        # Neither Django nor a fuzzer takes part, and both take seconds to load.
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 skipped" in done.stdout, done.stdout + done.stderr
    assert done.returncode == status, done.stdout
