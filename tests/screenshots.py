"""`make screenshots`: the pictures of README.md and docs, taken of a demo of its own, in the light and in the dark."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

from tests.children import PROJECT, eventually
from tests.palettes import with_palette
from tests.plugins import chromium
from tests.plugins.servers import temporary_data_dir

IMAGES = PROJECT / "docs" / "images"
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTH = 1280
# Name → how high the picture is at most, in px of the page: what a reader needs of it, and no more.
HEIGHTS = {"overview": 800, "feature": 1500, "incident": 1300, "trace": 1200, "editor": 1500, "report": 1100}
_TEAM = "assistants"
_FEATURE = "support-chat"
_UP_SECONDS = 900.0
# The demo's component overruns two minutes into its traffic; the rest is what a busy machine takes longer.
_INCIDENT_SECONDS = 900.0
_EMAIL, _PASSWORD = "demo@example.com", "latency-demo"
# Whatever was set for another purpose; the demo takes what is its own.
_FOREIGN = ("DATABASE_URL", "REDIS_URL", "REDIS_DATABASE", "SECRET_KEY", "KEY_PEPPER", "PUBLIC_URL")
# A little below the last panel that ends in sight.
_WHOLE_PARTS_PX = """
(() => {
  const ends = [...document.querySelectorAll("main .panel, main .tiles, main .verdict, main figure")]
    .map((part) => part.getBoundingClientRect().bottom + 20)
    .filter((bottom) => bottom <= innerHeight);
  return Math.round(Math.max(innerHeight * 0.6, ...ends));
})()
"""
# The browser reads its own PNG, so that nothing else has to.
_PIXELS = """
async (shot) => {
  const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${shot}`)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const bytes = context.getImageData(0, 0, image.width, image.height).data;
  const reader = new FileReader();
  const text = await new Promise((done) => {
    reader.onload = () => done(reader.result);
    reader.readAsDataURL(new Blob([bytes]));
  });
  return [image.width, image.height, text.slice(text.indexOf(",") + 1)];
}
"""


def names() -> set[str]:
    """The files that `take` writes."""
    return {f"{name}-{theme}.png" for name in HEIGHTS for theme in THEMES}


@contextlib.contextmanager
def demo() -> Iterator[str]:
    """The address of a demo that ends with the block. Raises RuntimeError where none comes up."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    with temporary_data_dir() as folder:
        environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        output = folder / "demo.out"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "latency_dashboard.serve", "--demo", "--ends-with-parent"],
                cwd=PROJECT,
                env=environment | {"DATA_DIR": str(folder / "data"), "PORT": str(port)},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            up = eventually(
                lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, seconds=_UP_SECONDS
            )
            if not up or process.poll() is not None:
                raise RuntimeError(f"The demo did not come up:\n{output.read_text()}")
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait()


def take(browser: Browser, base: str, folder: Path) -> None:
    """Waits for an incident and writes every picture, twice as fine as the page."""
    context = browser.new_context(viewport={"width": WIDTH, "height": 900}, device_scale_factor=2)
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(f"{base}/login/")
    page.get_by_label("E-mail address").fill(_EMAIL)
    page.get_by_label("Password").fill(_PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.locator("#account-menu").wait_for()
    addresses = _addresses(page, base)
    for theme in THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for name, height in HEIGHTS.items():
            page.set_viewport_size({"width": WIDTH, "height": height})
            page.goto(f"{base}{addresses[name]}")
            _draw(page)
            path = folder / f"{name}-{theme}.png"
            path.write_bytes(_picture(page))
            print(f"{path.relative_to(PROJECT)}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def _addresses(page: Page, base: str) -> dict[str, str]:
    """Where each picture is taken. Waits until the demo's incident is open, and for a request that was slow in it."""
    deadline = time.monotonic() + _INCIDENT_SECONDS
    incident = trace = None
    while not (incident and trace):
        if time.monotonic() > deadline:
            raise RuntimeError("No incident opened, or none of its requests was kept.")
        page.goto(f"{base}/incidents/?state=open&feature={_FEATURE}")
        incident = _first_link(page, r"^/incidents/\d+/$")
        page.goto(f"{base}/features/{_FEATURE}/slow-requests/?window=1h&milestone=first_token")
        trace = _first_link(page, r"/traces/[0-9a-f]{32}/")
        page.wait_for_timeout(2_000)
    return {
        "overview": "/",
        "feature": f"/features/{_FEATURE}/?window=1d",
        "incident": incident,
        "trace": trace,
        "editor": f"/features/{_FEATURE}/edit/",
        "report": f"/teams/{_TEAM}/report/",
    }


def _first_link(page: Page, pattern: str) -> str | None:
    found = page.evaluate("[...document.querySelectorAll('main a[href]')].map(a => a.getAttribute('href'))")
    return next((href for href in found if re.search(pattern, href)), None)


def _draw(page: Page) -> None:
    """Waits for the charts in sight and for what the editor asks for by itself."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(
        """() => [...document.querySelectorAll("figure[data-chart]")]
        .filter((figure) => figure.getBoundingClientRect().top < innerHeight)
        .every((figure) => figure.dataset.state === "drawn")"""
    )


def _picture(page: Page) -> bytes:
    """What is in sight, down to the end of the last part that is whole."""
    height = page.evaluate(_WHOLE_PARTS_PX)
    clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": height}
    shot = base64.b64encode(page.screenshot(animations="disabled", clip=clip)).decode()
    reader = page.context.new_page()
    width, height, pixels = reader.evaluate(_PIXELS, shot)
    reader.close()
    return with_palette(base64.b64decode(pixels), width, height)


def main() -> int:
    program = chromium.find()
    if program is None:
        print("Install Chromium or Chrome, or name its program in CHROMIUM.", file=sys.stderr)
        return 1
    print("Starting a demo and waiting for its incident: some minutes …", flush=True)
    with demo() as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(program), args=["--no-sandbox", "--disable-background-networking"]
        )
        take(browser, base, IMAGES)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
