"""Finds a Chromium for the browser tests; as a script, installs one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC_APP = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


def find() -> Path | None:
    """The browser named by CHROMIUM, else one in PATH, else the one that playwright downloaded, else None."""
    if named := os.environ.get("CHROMIUM"):
        return Path(named)
    for name in _NAMES:
        if (program := shutil.which(name)) is not None:
            return Path(program)
    return _MAC_APP if _MAC_APP.exists() else _downloaded()


def _downloaded() -> Path | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = Path(playwright.chromium.executable_path)
    return program if program.exists() else None


def install() -> None:
    """Installs Debian's chromium where we may, else playwright's own. Raises CalledProcessError."""
    if os.geteuid() == 0 and shutil.which("apt-get") is not None:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", "chromium"]):
            subprocess.run(
                ["apt-get", "-y", *command], env=environment, check=True, stdout=subprocess.DEVNULL
            )
    else:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


def main() -> int:
    """Leaves with 0 where a browser is there in the end."""
    if find() is not None:
        return 0
    print("Installing Chromium for the browser tests …", flush=True)
    try:
        install()
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"It could not be installed: {error}", file=sys.stderr)
    if find() is None:
        print("Install Chromium or Chrome, or name its program in CHROMIUM.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
