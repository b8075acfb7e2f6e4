"""The figures as image files, drawn by an installed Chrome or Chromium through kaleido."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gru_optuna.errors import UserError
from gru_optuna.report.theme import LIGHT, resolved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.report.figures.base import FigureSection

Format = Literal["svg", "png"]

WIDTH, SMALL_WIDTH = 1000, 520
SHARPNESS = 2.0
"""Pixels of a PNG for each pixel of the figure: sharp on today's screens and on paper."""


def draw_images(sections: Sequence[FigureSection], kind: Format) -> dict[str, bytes]:
    """Every panel as an image on a light background, by the name of its file.

    Parameters
    ----------
    sections
        Sections without figures are left out.
    kind
        The format of the files.

    Raises
    ------
    UserError
        If Chrome isn't found, or can't draw.
    """
    import kaleido
    from choreographer.errors import BrowserFailedError, ChromeNotFoundError

    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for section in sections:
            for number, panel in enumerate(section.panels):
                figure = resolved(panel.figure, LIGHT)
                if panel.title:
                    figure.update_layout(title={"text": panel.title, "font": {"size": 14}})
                    figure.update_layout(margin={"t": (panel.figure.layout.margin.t or 40) + 40})
                name = section.id if len(section.panels) == 1 else f"{section.id}-{number}"
                width = panel.max_width or max(
                    SMALL_WIDTH if section.small else WIDTH, panel.min_width
                )
                size = {"width": width, "height": panel.figure.layout.height, "scale": SHARPNESS}
                drawn.append(
                    {
                        "fig": figure.to_dict(),
                        "path": Path(folder) / f"{name}.{kind}",
                        "opts": {"format": kind, **size},
                    }
                )
        try:
            # Without MathJax nothing is fetched from the network; plotly.js comes with the package.
            kaleido.write_fig_from_object_sync(drawn, kopts={"mathjax": False})
        except ChromeNotFoundError:
            raise UserError(
                "--images needs Chrome or Chromium, and neither was found. Install one of them "
                "(on Debian: apt install chromium), or set BROWSER_PATH to its path. Without "
                "--images, the camera above each figure of the report saves an image too."
            ) from None
        except (BrowserFailedError, RuntimeError, TimeoutError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"--images: Chrome can't draw the figures: {reason}") from None
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
