"""The report: one page that opens without a network, and each of its figures by itself.

Everything is made in memory, then every file is written beside its place and moved into it:
a reader sees the old report or the new one, never half of one.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from gru_optuna.errors import UserError
from gru_optuna.hyperparameters import Range
from gru_optuna.report import figures, numbers
from gru_optuna.report.scales import label
from gru_optuna.report.summary import Summary, Winner, summarize
from gru_optuna.report.table import metric_text, trial_table
from gru_optuna.storage.attributes import WORKED_SECONDS

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study

    from gru_optuna.hyperparameters import Searchable
    from gru_optuna.spec import Specification


@dataclass(frozen=True)
class _Panel:
    """One plot, as the template embeds it."""

    id: str
    alt: str
    height: int
    min_width: int
    json: Markup


@dataclass(frozen=True)
class _Section:
    """One figure of the report, or the reason why it isn't there."""

    id: str
    title: str
    caption: str
    numbers: Any
    missing: str | None
    panels: list[_Panel]


def render_report(study: Study, spec: Specification, folder: Path) -> Path:
    """Renders a study's report, replacing an earlier one.

    Writes ``index.html``, and for each figure ``figures/<figure>.html`` and its numbers,
    ``figures/<figure>.json``. A figure that lacks data has no files; the page says why.

    Parameters
    ----------
    study, spec
        The study and the specification it was made with.
    folder
        Where to; made if it isn't there. Other files in it are left alone.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        If the folder can't be written.
    """
    summary = summarize(study, spec)
    sections = _sections(study, spec, summary.best)
    templates = _templates()
    plotly_js = Markup(get_plotlyjs())  # noqa: S704 (plotly's own bundle)
    page = templates.get_template("page.html").render(
        summary=summary,
        facts=_facts(study, spec, summary),
        best=summary.best,
        has_test=spec.data.test is not None,
        configuration=_configuration(summary.best, spec) if summary.best else [],
        sections=sections,
        plotly_js=plotly_js,
        version=version("gru-optuna"),
        **trial_table(study, spec),
    )
    files = {}
    for section in sections:
        place = folder / "figures" / section.id
        alone = templates.get_template("figure_page.html").render(
            section=section, study=study.study_name, plotly_js=plotly_js
        )
        plain = json.dumps(numbers.as_json(section.numbers), indent=1, allow_nan=False)
        drawn = section.missing is None
        files[place.with_suffix(".html")] = alone if drawn else None
        files[place.with_suffix(".json")] = plain if drawn else None
    # The page last: who sees the new one finds its figures.
    index = folder / "index.html"
    files[index] = page
    try:
        for path, text in files.items():
            _write(path, text)
    except OSError as error:
        raise UserError(
            f"{folder}: can't write the report there: {error.strerror}. "
            f"Free the place, or choose another folder with --out."
        ) from None
    return index


def _sections(study: Study, spec: Specification, best: Winner | None) -> list[_Section]:
    shares = numbers.importance(study)
    lines = numbers.parallel_coordinates(study, spec)
    points = numbers.history(study)
    curves = numbers.curves(study, spec)
    slices = numbers.slices(study, spec)
    none_complete = None if lines.numbers else "No trial is complete yet."
    if not none_complete and len(lines.columns) == 1:
        none_complete = "Nothing was searched: every hyperparameter is fixed."
    width = figures.AXIS_WIDTH * len(lines.columns)
    best_number = best.number if best else None
    hint = (
        f" Among {shares.trials} trials the best tenth is only a few, so take it as a hint."
        if shares.trials < numbers.STEADY_TRIALS
        else ""
    )
    thinned = (
        f" Of more than {figures.SLICE_POINTS:,} trials, an even selection is drawn."
        if len(lines.numbers) > figures.SLICE_POINTS
        else ""
    )
    better = "higher" if spec.direction == "maximize" else "lower"
    return [
        _section(
            "importance",
            "Hyperparameter importance",
            f"The longer a bar, the more this parameter decided whether a trial came among the "
            f"best tenth (PED-ANOVA over {shares.trials} complete trials); together the bars make "
            f"100 %.{hint}",
            shares,
            shares.missing,
            lambda: [figures.draw_importance(shares)],
        ),
        _section(
            "parallel_coordinates",
            "Parallel coordinates",
            f"Each line is a complete trial; the darker it is on a light page, the brighter on a "
            f"dark one, the better its {spec.metric}. Drag along an axis to keep only the trials "
            f"that pass there, click the axis to let go, drag a name to move its axis. "
            f"A line through “{numbers.ABSENT}” has no such parameter: its decay is "
            f"another one.",
            lines,
            none_complete,
            lambda: [figures.draw_parallel_coordinates(lines, spec)],
            min_width=width,
        ),
        _section(
            "optimization_history",
            "Optimization history",
            f"Each mark is a trial, in the order they began; {better} is better. A pruned trial "
            f"(cross) stands at its last epoch's value, a failed one (triangle) has none. The "
            f"line is the best complete trial so far.",
            points,
            None if points else "No trial is over yet.",
            lambda: [figures.draw_history(points, spec)],
        ),
        _section(
            "learning_curves",
            "Learning curves",
            f"The {spec.metric} on validation rows after each epoch; {better} is better. A cross "
            f"marks where a trial was pruned. Click a name in the legend to hide its curves.",
            curves,
            None if curves else "No trial has reported an epoch yet.",
            lambda: [figures.draw_curves(curves, spec)],
        ),
        _section(
            "slices",
            "Slices",
            f"Each panel sets one parameter against the validation {spec.metric} of the complete "
            f"trials; the diamond is the best one. Trials of one category are spread sideways, to "
            f"be seen. A slope or a hill says that the parameter matters, a good value at the "
            f"edge that the range may be too narrow.{thinned}",
            slices,
            none_complete,
            lambda: [
                figures.draw_slice(panel, lines.columns[-1].scale, best_number) for panel in slices
            ],
        ),
    ]


def _section(
    name: str,
    title: str,
    caption: str,
    data: Any,
    missing: str | None,
    draw: Any,
    min_width: int = 0,
) -> _Section:
    drawn: list[go.Figure] = [] if missing else draw()
    panels = [
        _Panel(
            id=f"{name}-{index}" if len(drawn) > 1 else f"{name}-plot",
            alt=title,
            height=figure.layout.height,
            min_width=min_width,
            json=_embedded(figure),
        )
        for index, figure in enumerate(drawn)
    ]
    return _Section(name, title, caption, data, missing, panels)


def _embedded(figure: go.Figure) -> Markup:
    """A figure as JSON inside a script element, where no text may end that element."""
    text: str = figure.to_json()
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704


def _part(rows: float | str) -> str:
    """What a study file says of a part, in words."""
    if isinstance(rows, str):
        return rows
    return f"the last {rows} rows" if isinstance(rows, int) else f"{rows:.0%} of these rows"


def _facts(study: Study, spec: Specification, summary: Summary) -> list[tuple[str, str]]:
    better = "higher" if spec.direction == "maximize" else "lower"
    counts = [f"{count} {state}" for state, count in summary.trials.items() if count]
    limits = [f"{spec.budget.trials} trials"] if spec.budget.trials else []
    limits += [f"{spec.budget.hours:g} hours"] if spec.budget.hours else []
    return [
        ("Task", spec.task),
        ("Metric", f"{spec.metric} on validation rows, {better} is better"),
        ("Training data", f"{spec.data.train}, validation: {_part(spec.data.validation)}"),
        *([("Test data", _part(spec.data.test))] if spec.data.test else []),
        *(
            [("To beat", ", ".join(f"{n} {v:.4f}" for n, v in summary.baselines.items()))]
            if summary.baselines
            else []
        ),
        ("Trials", ", ".join(counts) or "none yet"),
        ("Budget", " and ".join(limits)),
        ("Time worked", _duration(float(study.user_attrs.get(WORKED_SECONDS, 0.0)))),
        (
            "Search",
            f"sampler {spec.sampler.name}, pruner {spec.pruner.name}, "
            f"up to {spec.training.epochs} epochs a trial, seed {spec.seed}",
        ),
    ]


def _configuration(best: Winner, spec: Specification) -> list[tuple[str, str, str]]:
    searched = dict(spec.searchable())
    return [
        (name, label(value), _space(searched[name])) for name, value in best.configuration().items()
    ]


def _space(value: Searchable) -> str:
    if isinstance(value, Range):
        log = ", log scale" if value.log else ""
        step = f", steps of {label(value.step)}" if value.step else ""
        return f"{label(value.low)} to {label(value.high)}{log}{step}"
    if isinstance(value, list):
        return ", ".join(label(choice) for choice in value)
    return "fixed"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )
    environment.filters["number"] = metric_text
    return environment


def _write(path: Path, text: str | None) -> None:
    """Writes a file whole or not at all; None removes it."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
