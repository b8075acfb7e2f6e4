"""Importance: what sets the best tenth of the trials apart, and what moves the metric at all."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from gru_optuna.report.figures.base import Panel, canvas, section
from gru_optuna.report.theme import BEST, COMPLETE, STYLES
from gru_optuna.report.trials import comparable

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.report.figures.base import Context, FigureSection


FEWEST_TRIALS = 4
"""PED-ANOVA compares the best tenth with all trials; among fewer there is nothing to compare."""
STEADY_TRIALS = 50
"""Below, the ranking is only a hint: Optuna advises five trials in the best tenth."""
FANOVA_TRIALS = 200
"""fANOVA grows a forest as large as the study, which takes three seconds for 200 trials of 12
parameters; a larger study is thinned evenly."""


@dataclass(frozen=True)
class Importance:
    """How much each parameter matters, as shares that sum to 1."""

    shares: dict[str, float]  # PED-ANOVA, largest first; empty where `missing` says why
    fanova: dict[str, float]  # only of parameters that all complete trials have; may be empty
    trials: int  # that are compared
    fanova_trials: int
    missing: str | None
    epoch: int | None = None  # after which trials are compared; None: complete ones


def measure_importance(study: Study) -> Importance:
    """Computes both measures with Optuna."""
    trials, epoch = comparable(study)
    missing = None
    if len(trials) < FEWEST_TRIALS:
        missing = (
            f"Importance needs at least {FEWEST_TRIALS} trials that can be compared, "
            f"and this study has {len(trials)}."
        )
    elif not any(trial.distributions for trial in trials):
        missing = "Nothing was searched: every hyperparameter is fixed."
    elif len({trial.value for trial in trials}) == 1:
        missing = (
            f"All {len(trials)} trials reached the same value, "
            f"so no parameter can be said to matter."
        )
    if missing:
        return Importance({}, {}, len(trials), 0, missing, epoch)
    # scikit-learn's forests take a second to import.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    one_goal = len(study.directions) == 1
    every = study if epoch is None and one_goal else _study_of(study, trials)
    selected = trials[:: -(-len(trials) // FANOVA_TRIALS)]
    few = every if len(selected) == len(trials) else _study_of(study, selected)
    with warnings.catch_warnings():
        # Optuna warns about few trials; the caption says so in its own words.
        warnings.simplefilter("ignore")
        shares = get_param_importances(every)
        fanova: dict[str, float] = {}
        # Optuna's fANOVA fails where no tree finds anything to split by.
        with suppress(RuntimeError):
            fanova = get_param_importances(few, evaluator=FanovaImportanceEvaluator(seed=0))
    return Importance(_ordered(shares), _ordered(fanova), len(trials), len(selected), None, epoch)


def _study_of(study: Study, trials: list[FrozenTrial]) -> Study:
    made = optuna.create_study(direction=study.directions[0])
    made.add_trials(trials)
    return made


def _ordered(shares: dict[str, float]) -> dict[str, float]:
    # Optuna leaves the order of equal shares to the hash seed.
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def draw_importance(numbers: Importance) -> go.Figure:
    """A thick bar for PED-ANOVA and a thin one for fANOVA, the most important parameter first."""
    names = list(numbers.shares)
    figure = canvas(92 + 34 * len(names), bargap=0.3, barmode="overlay")
    bars = (
        ("what sets the best tenth apart (PED-ANOVA)", numbers.shares, COMPLETE, -0.34, 0.36),
        ("what moves the metric (fANOVA)", numbers.fanova, BEST, 0.06, 0.2),
    )
    for name, shares, colour, offset, width in bars:
        known = [parameter for parameter in names if parameter in shares]
        figure.add_bar(
            x=[shares[parameter] for parameter in known],
            y=[names.index(parameter) for parameter in known],
            customdata=known,
            name=name,
            offset=offset,
            width=width,
            marker={"color": colour, "line": {"width": 0}},
            text=[_percent(shares[parameter]) for parameter in known],
            hovertemplate="%{customdata}: %{x:.1%}<extra>" + name + "</extra>",
            **STYLES["importance"],
        )
    room = 1.12 * max([*numbers.shares.values(), *numbers.fanova.values()])
    figure.update_xaxes(tickformat=".0%", range=[0, room], showgrid=True, ticks="")
    figure.update_yaxes(
        range=[len(names) - 0.45, -0.55],
        tickvals=list(range(len(names))),
        ticktext=names,
        **STYLES["importance_names"],
    )
    figure.update_layout(legend={"x": 0, "xanchor": "left"})
    return figure


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "< 1%"


def importance_section(context: Context, numbers: Importance) -> FigureSection:
    """Both measures, and why they differ."""
    alt = "Importance: " + ", ".join(
        f"{name} {share:.0%}" for name, share in numbers.shares.items() if share >= 0.01
    )
    return section(
        "importance",
        numbers,
        [] if numbers.missing else [Panel(draw_importance(numbers), alt)],
        {
            "caption": True,
            "first_goal": context.spec.two_goals,
            "common_epoch": numbers.epoch is not None,
            "hint": numbers.trials < STEADY_TRIALS,
            "fewer": numbers.fanova_trials < numbers.trials,
        },
        missing=numbers.missing,
        **context.words,
    )
