"""Takes the README's screenshots from a real run of the demo: ``make screenshots``.

They show the terminal after two thirds of the trials, and the report at the end.
Needs Chromium.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.browser import chromium
from playwright.sync_api import sync_playwright
from rich.console import Console

import gru_optuna
from gru_optuna.cli.progress import LiveView
from gru_optuna.worker.events import TrialEnded

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ViewportSize

    from gru_optuna.worker.events import WorkerEvent

REPOSITORY = Path(__file__).parent.parent
STUDY = REPOSITORY / "studies" / "japanese-vowels.toml"
TERMINAL = REPOSITORY / "docs" / "terminal.png"
REPORT = REPOSITORY / "dashboards" / "example-report.png"

_TRIALS = 60
_COLUMNS, _LINES = 96, 26
_SHARPER = 1.5
"""Pixels of a screenshot per pixel of the page: a compromise between sharpness and file size."""


def main() -> None:
    """Runs the demo and takes the screenshots."""
    path = chromium()
    if path is None:
        sys.exit("Screenshots need Chromium, which was not found. On Debian: apt install chromium")
    folder = Path(tempfile.mkdtemp(prefix="gru-optuna-pictures-"))
    try:
        url = f"sqlite:///{folder / 'study.db'}"
        terminal = _tune(url, folder)
        with sync_playwright() as playwright:
            flags = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
            browser = playwright.chromium.launch(executable_path=path, args=flags)
            _picture(browser, terminal, TERMINAL, 1000, 500, element="svg")
            _picture(browser, (folder / "index.html").as_uri(), REPORT, 1200, 1000)
            browser.close()
    finally:
        shutil.rmtree(folder)


def _tune(url: str, folder: Path) -> str:
    """Tunes the demo; returns the address of a page that shows the terminal during the run."""
    view = LiveView(Console(file=io.StringIO(), width=_COLUMNS, height=_LINES))
    screenshots: list[str] = []
    ended = 0

    def happened(event: WorkerEvent) -> None:
        nonlocal ended
        view.happened(event)
        ended += isinstance(event, TrialEnded)
        if ended >= _TRIALS * 2 // 3 and not screenshots:
            paper = Console(file=io.StringIO(), record=True, width=_COLUMNS, height=_LINES)
            paper.print(view.picture())
            screenshots.append(paper.export_svg(title=f"gru-optuna tune studies/{STUDY.name}"))

    gru_optuna.tune(
        STUDY,
        trials=_TRIALS,
        storage=url,
        threads=2,  # as in README's text: what is proposed depends on how many slots there are
        report=folder,
        on_open=view.opened,
        on_event=happened,
    )
    view.close()
    # Rich's SVG would load its fonts from the network.
    svg = re.sub(r"@font-face\s*{.*?}", "", screenshots[0], flags=re.DOTALL)
    page = folder / "terminal.html"
    page.write_text(f"<body style='margin:0'>{svg.replace('Fira Code', 'DejaVu Sans Mono')}")
    return page.as_uri()


def _picture(
    browser: Browser,
    place: str,
    file: Path,
    width: int,
    height: int,
    *,
    element: str | None = None,
) -> None:
    size: ViewportSize = {"width": width, "height": height}
    page = browser.new_page(viewport=size, device_scale_factor=_SHARPER)
    page.goto(place)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)  # figures are drawn after the page has loaded
    target = page.locator(element).first if element else page
    content = target.screenshot(animations="disabled")
    draft = file.with_suffix(".part")
    draft.write_bytes(content)
    draft.rename(file)
    page.close()


if __name__ == "__main__":
    main()
