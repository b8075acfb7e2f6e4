"""What stands out in a study, in sentences that name their counts.

A pattern that chance could have produced is left out (see `significance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from optuna.trial import TrialState

from gru_optuna.formatting import format_value
from gru_optuna.report.axes import parameter_scale
from gru_optuna.report.figures.history import list_history
from gru_optuna.report.figures.importance import STEADY_TRIALS
from gru_optuna.report.significance import FEWEST, Side, where_it_happens, where_the_best_lie
from gru_optuna.report.texts import fill, read_texts
from gru_optuna.report.trials import (
    ENDED,
    complete,
    diverged,
    is_number,
    last_value,
    outcome,
    trials_in,
    value_of,
)
from gru_optuna.search import space
from gru_optuna.study.confirmation import ranked
from gru_optuna.study.trial_attributes import best_reached
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.report.contents import StudyNumbers
    from gru_optuna.report.figures.base import Context
    from gru_optuna.report.figures.health import Health
    from gru_optuna.report.figures.importance import Importance
    from gru_optuna.report.figures.pruning import PruningSavings
    from gru_optuna.report.result import Result
    from gru_optuna.study_file import Specification

BEST_TRIALS = 5
"""At least this many trials are "the best"; in a large study, a tenth."""

ENOUGH_TRIALS = 20
"""A search of fewer trials has no findings about its progress, or about its best trials."""

OVERFITS, FITS = 1.5, 1.1
"""Ratios of validation loss to training loss: above the first the network has memorized rows, below
the second it hardly has. Dropout raises the training loss, so the ratio is optimistic."""

ENOUGH_ROWS = 30
"""On fewer independent validation rows, a loss says nothing about overfitting."""

ALWAYS_CLIPPED = 0.9

MUCH_SAVED, LITTLE_SAVED = 0.25, 0.05
"""Shares of the epochs that pruning saved: from the first on it is praised, below the second it
isn't mentioned."""

_TEXTS = read_texts("findings.toml")


@dataclass(frozen=True)
class StudyFinding:
    """One or two sentences, and how to take them."""

    kind: Literal["good", "bad", "note"]
    text: str
    about: str  # the id of the section that shows it

    @classmethod
    def of(cls, *names: str, **values: Any) -> StudyFinding:
        """The finding that ``templates/findings.toml`` has under the first name.

        The sentences under the other names follow; all are filled with `values`.
        """
        first = _TEXTS[names[0]]
        text = " ".join(fill(_TEXTS[name]["text"], **values) for name in names)
        return cls(first["kind"], text, first["about"])


def find_findings(context: Context, numbers: StudyNumbers) -> list[StudyFinding]:
    """Everything that stands out, beginning with what calls for action."""
    study, spec = context.study, context.spec
    result, health = numbers.result, numbers.health
    ended = [t for t in trials_in(study, *ENDED) if t.params]
    found = [
        _confirmed(result, spec),
        *_divergence(ended),
        _chance(ended, health),
        *_best_trials(study, spec, ended),
        *_edges(study, spec),
        _fit(health, result.independent_rows(spec) if result else None),
        _clipped(health),
        _ties(study, spec, result),
        (too_soon := _pruned_too_soon(study, spec, result)) or _progress(study),
        _pruned(numbers.pruning, too_soon is not None),
        _importance(numbers.importance),
        _failures(ended),
    ]
    order = {"bad": 0, "good": 1, "note": 2}
    return sorted(filter(None, found), key=lambda finding: order[finding.kind])


def _confirmed(result: Result | None, spec: Specification) -> StudyFinding | None:
    if result is None or result.confirmation is None:
        return None
    seeds, won = result.confirmation.seeds, result.confirmation.won
    assert won.mean is not None, "the winner has a mean"
    search_best, *_ = result.confirmation.candidates
    names = ["confirmed_as_good"]
    if spec.as_loss(won.search_value) < spec.as_loss(won.mean):
        names = ["confirmed_lower"]
    if search_best.search_value != won.search_value and search_best.mean is not None:
        names.append("search_best")
    return StudyFinding.of(*names, seeds=seeds, won=won, best=search_best)


def _divergence(ended: list[FrozenTrial]) -> list[StudyFinding]:
    lost = [diverged(trial) for trial in ended]
    count = sum(lost)
    if not count:
        return []
    split = where_it_happens([trial.params for trial in ended], lost)
    if split:
        return [StudyFinding.of("divergence_on_one_side", side=_side(split), split=split)]
    if count < FEWEST:
        return []  # one or two can be an accident
    return [StudyFinding.of("divergence", count=count, trials=len(ended))]


def _chance(ended: list[FrozenTrial], health: Health) -> StudyFinding | None:
    if health.chance is None or len(health.at_chance) < FEWEST:
        return None
    name, value = health.chance
    split = where_it_happens(
        [trial.params for trial in ended], [t.number in health.at_chance for t in ended]
    )
    values = {"count": len(health.at_chance), "trials": len(ended), "name": name, "value": value}
    if split is None:
        return StudyFinding.of("chance", **values)
    return StudyFinding.of("chance_on_one_side", side=_side(split), split=split, **values)


def _best_trials(study: Study, spec: Specification, ended: list[FrozenTrial]) -> list[StudyFinding]:
    """What the best trials share and the others don't."""
    by_value = sorted(
        (t for t in ended if t.state != TrialState.FAIL and last_value(t) is not None),
        key=lambda t: (
            t.state != TrialState.COMPLETE,
            spec.as_loss(last_value(t) or 0.0),
            t.number,
        ),
    )
    count = max(BEST_TRIALS, len(by_value) // 10)
    if len(by_value) < ENOUGH_TRIALS or len(complete(study)) < count:
        return []
    params = [trial.params for trial in by_value]
    found = [
        StudyFinding.of("narrow", count=count, narrow=narrow)
        for narrow in where_the_best_lie(params, count)[:2]
    ]
    choices = [
        {name: value for name, value in chosen.items() if not is_number(value)} for chosen in params
    ]
    split = where_it_happens(choices, [place < count for place in range(len(by_value))], shares=0.0)
    if split:
        values = {"count": count, "side": _side(split), "split": split, "trials": len(by_value)}
        found.append(StudyFinding.of("choice", **values))
    return found


def _edges(study: Study, spec: Specification) -> list[StudyFinding]:
    """Ranges at whose ends the best trials lie."""
    order = ranked(study, spec)
    best = order[: max(BEST_TRIALS, len(order) // 10)]
    if len(order) < 2 * BEST_TRIALS:
        return []
    found = []
    searched = dict(spec.searchable())
    for name, distribution in space.searched(spec).items():
        if not isinstance(searched[name], Range):
            continue
        scale = parameter_scale(name, distribution)
        places = [scale.position(t.params[name]) for t in best if name in t.params]
        if len(places) < len(best) or scale.high <= scale.low:
            continue
        share = [(place - scale.low) / (scale.high - scale.low) for place in places]
        limits = searched[name]
        assert isinstance(limits, Range)
        for end, near, way in (
            (limits.high, sum(part > 0.95 for part in share), "upper"),
            (limits.low, sum(part < 0.05 for part in share), "lower"),
        ):
            # By chance, a twentieth of the trials lies in this twentieth of the range.
            if near >= max(FEWEST, 0.6 * len(best)):
                values = {"near": near, "count": len(best), "name": name, "way": way, "end": end}
                found.append(StudyFinding.of("edge", **values))
    return found


def _fit(health: Health, rows: int | None) -> StudyFinding | None:
    if rows is not None and rows < ENOUGH_ROWS:
        return None
    ratios = [
        gap.validation_loss / gap.train_loss
        for gap in health.gaps
        if gap.state == "complete" and gap.train_loss > 0
    ]
    if len(ratios) < BEST_TRIALS:
        return None
    middle = median(ratios)
    if FITS < middle < OVERFITS:
        return None
    name = "overfits" if middle >= OVERFITS else "hardly_overfits"
    return StudyFinding.of(name, middle=middle, count=len(ratios))


def _clipped(health: Health) -> StudyFinding | None:
    clipping = [trial for trial in health.clipping if trial.clip_norm is not None]
    always = [trial for trial in clipping if trial.share > ALWAYS_CLIPPED]
    if len(always) < max(BEST_TRIALS, 0.2 * len(clipping)):
        return None
    return StudyFinding.of(
        "clipped", always=len(always), trials=len(clipping), share=ALWAYS_CLIPPED
    )


def _ties(study: Study, spec: Specification, result: Result | None) -> StudyFinding | None:
    # Fresh seeds have separated what one value on the validation rows can't.
    if result is None or result.confirmation:
        return None
    ties = sum(best_reached(t, spec) == result.winner.value for t in trials_in(study, *ENDED))
    if ties < 2:
        return None
    rows = result.validation.rows
    name = "ties_of_few_rows" if rows else "ties"
    return StudyFinding.of(name, ties=ties, rows=rows, value=result.winner.value)


def _progress(study: Study) -> StudyFinding | None:
    points = list_history(study)
    finished = sum(point.state == "complete" for point in points)
    if len(points) < ENOUGH_TRIALS or finished < 2 * BEST_TRIALS or points[-1].best is None:
        return None
    last = next(n for n, point in enumerate(points) if point.best == points[-1].best)
    since = len(points) - 1 - last
    if last < 0.5 * len(points):
        return StudyFinding.of("no_progress", number=points[last].number, since=since)
    if last >= 0.75 * len(points):
        quarter = points[int(0.75 * len(points)) - 1].best
        name = "progress_from" if quarter else "progress"
        return StudyFinding.of(name, before=quarter, best=points[-1].best)
    return None


def _pruned_too_soon(
    study: Study, spec: Specification, result: Result | None
) -> StudyFinding | None:
    """Pruned trials that had been better than any complete trial."""
    values = [value_of(trial) for trial in complete(study)]
    if result is None or not values:
        return None
    seen = min(values, key=spec.as_loss)
    reached = {
        trial.number: value
        for trial in trials_in(study, TrialState.PRUNED)
        if (value := best_reached(trial, spec)) is not None
        and spec.as_loss(value) < spec.as_loss(seen)
    }
    if not reached:
        return None
    number, best = min(reached.items(), key=lambda item: spec.as_loss(item[1]))
    trials = "1 pruned trial" if len(reached) == 1 else f"{len(reached)} pruned trials"
    halves = spec.pruner.name in ("asha", "hyperband")
    advice = "min_resource, or take reduction_factor = 2" if halves else "n_warmup_steps"
    return StudyFinding.of(
        "pruned_too_soon", trials=trials, number=number, best=best, seen=seen, advice=advice
    )


def _pruned(savings: PruningSavings, too_soon: bool) -> StudyFinding | None:
    if not savings.comparable or savings.saved < LITTLE_SAVED:
        return None
    praised = savings.saved >= MUCH_SAVED and not too_soon
    return StudyFinding.of("pruned" if praised else "pruned_without_praise", savings=savings)


def _importance(importance: Importance) -> StudyFinding | None:
    if importance.trials < STEADY_TRIALS or not importance.shares:
        return None
    name, share = next(iter(importance.shares.items()))
    if share < 2 / len(importance.shares):
        return None
    return StudyFinding.of("importance", name=name, share=share)


def _failures(ended: list[FrozenTrial]) -> StudyFinding | None:
    failed = [t for t in ended if t.state == TrialState.FAIL and not diverged(t)]
    if not failed:
        return None
    reason = outcome(failed[-1]) or "no reason is known"
    trials = "1 trial failed" if len(failed) == 1 else f"{len(failed)} trials failed, the last one"
    return StudyFinding.of("failures", trials=trials, reason=reason)


def _side(split: Side) -> str:
    return f"{split.name} {split.side} {format_value(split.at)}"
