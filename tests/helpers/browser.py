"""A real browser for tests: the machine's own Chromium, driven by playwright. Nothing is
downloaded. Where there is no Chromium, tests that ask for it are skipped, and the run's end
says so.

A test asks for `visit` and opens pages with it:

    def test_the_page(visit, tmp_path):
        seen = visit(tmp_path / "index.html")
        assert seen.page.title() == "…"
        assert not seen.complaints and not seen.requests
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urldefrag

import pytest

from gru_optuna.report.page import render_report
from helpers.processes import DEADLINE
from helpers.report_studies import many_trials, specification

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_missing: list[str] = []


@dataclass
class Seen:
    """A page in the browser, and what happened on it since it was opened."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)  # console errors, uncaught exceptions
    requests: list[str] = field(default_factory=list)  # but for the page's own address


def chromium() -> str | None:
    """Where this machine's Chromium is."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window, one for all tests."""
    path = chromium()
    if path is None:
        _missing.append("")
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    # Its sandbox refuses root, which builds in containers often are.
    sandbox = not hasattr(os, "geteuid") or os.geteuid() != 0
    with sync_playwright() as playwright:
        # Software WebGL: machines that test have no graphics card.
        flags = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        running = playwright.chromium.launch(
            executable_path=path, chromium_sandbox=sandbox, args=flags
        )
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Seen]]:
    """Opens a file or an address in a fresh context; what was opened is closed at the end."""
    contexts = []

    def open_page(
        place: Path | str,
        width: int = 1200,
        height: int = 900,
        scheme: Literal["light", "dark"] = "light",
        **options: Any,
    ) -> Seen:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        contexts.append(context)
        context.set_default_timeout(1000 * DEADLINE)
        page = context.new_page()
        address = place.absolute().as_uri() if isinstance(place, Path) else place
        seen = Seen(page, address)

        def asked(url: str) -> None:
            # data: and blob: stay within the page.
            if urldefrag(url)[0] != urldefrag(address)[0] and not url.startswith(
                ("data:", "blob:")
            ):
                seen.requests.append(url)

        page.on("request", lambda request: asked(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                seen.complaints.append(message.text)
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.goto(address)
        return seen

    yield open_page
    for context in contexts:
        context.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A line that nobody overlooks."""
    if _missing:
        terminalreporter.section("NO CHROMIUM HERE: the browser tests were skipped", red=True)
        terminalreporter.write_line(f"None of {', '.join(_NAMES)} is on the path. Install one.")


def assert_accessible(seen: Seen) -> None:
    """axe-core finds nothing serious on a page, in light or dark colours."""
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("dark", "light"):
        seen.page.emulate_media(color_scheme=scheme)
        found = Axe().run(seen.page).response
        serious = [
            f"{scheme}: {each['help']}: {node['html']}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        assert serious == []
        assert found["testEngine"]["name"] == "axe-core"


def draw(seen: Seen, section: str = "") -> None:
    """Scrolls through the page, as a reader does; figures are drawn when they come near."""
    seen.page.wait_for_selector("html[data-ready]")
    plots = seen.page.locator(f"#{section} .plot" if section else ".plot")
    for index in range(plots.count()):
        plots.nth(index).scroll_into_view_if_needed()
        plots.nth(index).locator(".main-svg").first.wait_for()


def opens_at_once(visit: Callable[..., Seen], folder: Path, trials: int) -> None:
    """A report of so many trials is below 10 MB, soon to be read, and draws all it has."""
    index = render_report(many_trials(trials), specification(training={"epochs": 40}), folder)
    assert index.stat().st_size < 10_000_000
    seen = visit(index)
    seen.page.wait_for_selector("html[data-ready]")
    # The page's own thread takes 1.3 processor seconds for a thousand trials. Not by the clock,
    # because the machine may be shared.
    devtools = seen.page.context.new_cdp_session(seen.page)
    devtools.send("Performance.enable")
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    (seconds,) = (metric["value"] for metric in metrics if metric["name"] == "ThreadTime")
    assert seconds < 5
    draw(seen)
    assert not seen.complaints
