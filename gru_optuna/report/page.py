"""The report: one page that opens without a network, and on demand a page for each figure.

Everything is rendered in memory before the first file is written, and each file is written whole.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from gru_optuna.attributes import WORKED_SECONDS
from gru_optuna.errors import UserError
from gru_optuna.files import written_whole
from gru_optuna.formatting import (
    format_duration,
    format_measured,
    format_metric,
    format_value,
)
from gru_optuna.report.axes import describe_range
from gru_optuna.report.contents import draw_sections, measure_study
from gru_optuna.report.figures.base import FIGURES, Context
from gru_optuna.report.findings import find_findings
from gru_optuna.report.images import draw_images
from gru_optuna.report.shown_trials import thinned
from gru_optuna.report.theme import DARK, LIGHT
from gru_optuna.report.trial_table import sort_key, trial_table
from gru_optuna.report.trials import as_json
from gru_optuna.report.verdict import write_verdict
from gru_optuna.study.summary import summarize

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.report.images import Format
    from gru_optuna.study_file import Specification

FORMER_FIGURES = ("standing", "savings")
"""Names of figures in reports of version 0.1.0, whose files are removed."""


def render_report(
    study: Study,
    spec: Specification,
    folder: Path,
    images: Format | None = None,
    *,
    pages: bool = False,
) -> Path:
    """Renders a study's report, replacing an earlier one.

    Writes ``index.html``, and the numbers of each figure to ``figures/<figure>.json``. A figure
    that lacks data has no files; the page says why.

    Parameters
    ----------
    study, spec
        The study and the specification it was made with.
    folder
        Where to write; created if missing. Other files in it are left alone.
    images
        The format of ``figures/<figure>``, drawn as an image too by an installed Chrome.
    pages
        Whether to write each figure as a page of its own, too: ``figures/<figure>.html``, of two
        megabytes each, because each opens without a network.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        If the folder can't be written, or there is no Chrome for images.
    """
    summary = summarize(study, spec)
    shown, left_out = thinned(study, spec)
    numbers = measure_study(study, spec, summary, shown)
    best = summary.best
    context = Context(shown, spec, best.number if best else None)
    sections = draw_sections(context, numbers)
    found = find_findings(context, numbers)
    templates = _templates()
    result = numbers.result
    page = templates.get_template("page.html").render(
        summary=summary,
        result=result,
        verdict=write_verdict(result, spec) if result else [],
        findings=found,
        spec=spec,
        searched=dict(spec.searchable()),
        worked_seconds=float(study.user_attrs.get(WORKED_SECONDS, 0.0)),
        sections=sections,
        left_out=left_out,
        pages=pages,
        **trial_table(study, spec, context.best),
    )
    figures = folder / "figures"
    # Figures of an earlier report that can't be drawn any more are removed.
    files: dict[Path, str | bytes | None] = {
        path: None
        for name in (*FIGURES, *FORMER_FIGURES)
        for path in figures.glob(f"{name}*")
        if re.fullmatch(r"(-\d+)?\.(html|json|svg|png)", path.name.removeprefix(name))
    }
    if images:
        drawn_images = draw_images(sections, images)
        files |= {figures / name: content for name, content in drawn_images.items()}
    for section in sections:
        if section.missing is not None:
            continue
        place = figures / section.id
        if pages:
            files[place.with_suffix(".html")] = templates.get_template("figure_page.html").render(
                section=section, study=study.study_name
            )
        plain = json.dumps(as_json(section.numbers), indent=1, allow_nan=False)
        files[place.with_suffix(".json")] = plain
    files[figures / "findings.json"] = json.dumps(as_json(found), indent=1)
    # The page comes last, so that whoever sees the new one finds its figures.
    index = folder / "index.html"
    files[index] = page
    try:
        for path, content in files.items():
            _write(path, content)
    except OSError as error:
        raise UserError(
            f"{folder}: the report can't be written there ({error.strerror}). "
            f"Make the folder writable, or choose another one with --out."
        ) from None
    return index


@cache
def _plotly() -> Markup:
    """plotly.js, compressed to a third of its size; every current browser can unpack it."""
    packed = gzip.compress(get_plotlyjs().encode(), mtime=0)
    return Markup(base64.b64encode(packed).decode())  # noqa: S704 (letters and digits)


def _embedded(figure: go.Figure) -> Markup:
    """A figure as JSON for a script element, escaped so that no text can end that element."""
    text: str = figure.to_json()
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704


@cache  # which compiles each template once, and not for every report
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "number": format_metric,
        "measured": format_measured,
        "value": format_value,
        "duration": format_duration,
        "range": describe_range,
        "sort_key": sort_key,
        "embedded": _embedded,
    }
    environment.globals |= {
        "light": LIGHT,
        "dark": DARK,
        "plotly": _plotly(),
        "version": version("gru-optuna"),
    }
    return environment


def _write(path: Path, content: str | bytes | None) -> None:
    """Writes a file whole or not at all; None removes it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
