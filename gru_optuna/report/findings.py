"""What stands out in a study, in plain sentences; each only where the trials bear it out.

A sentence names its counts. Thresholds stand beside their reason, and what chance could have
made isn't said (`report.evidence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from optuna.trial import TrialState

from gru_optuna.report.axes import label, parameter_scale
from gru_optuna.report.figures.history import history
from gru_optuna.report.significance import FEWEST, Side, where_it_happens, where_the_best_lie
from gru_optuna.report.trials import (
    ENDED,
    best_of,
    best_reached,
    complete,
    diverged,
    is_better,
    is_number,
    last_value,
    outcome,
    trials_in,
    value_of,
)
from gru_optuna.search import space
from gru_optuna.study.trial_attributes import TrialAttributes
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from collections.abc import Callable

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
"""At least so many are "the best"; of many trials, a tenth."""

ENOUGH_TRIALS = 20
"""Below, nothing is said about how a search went or what the best share."""

OVERFITS, FITS = 1.5, 1.1
"""Validation loss in training losses: above the first it has learned rows by heart, below the
second hardly. Dropout makes the training loss look worse than it is, so the ratio flatters."""

ALWAYS_CLIPPED = 0.9


@dataclass(frozen=True)
class StudyFinding:
    """One sentence or two, and whether it is good to hear."""

    kind: Literal["good", "bad", "note"]
    text: str
    about: str  # the section that shows it


def find_findings(context: Context, numbers: StudyNumbers) -> list[StudyFinding]:
    """Everything that stands out, beginning with what calls for action."""
    study, spec, show = context.study, context.spec, context.show
    result, health = numbers.result, numbers.health
    ended = [t for t in trials_in(study, *ENDED) if t.params]
    said = [
        _confirmed(result, spec, show),
        *_divergence(ended),
        _chance(ended, health, show),
        *_best_trials(study, spec, ended),
        *_edges(study, spec),
        _fit(study),
        _clipped(health),
        _ties(study, result, show),
        _pruned_too_soon(study, spec, result, show) or _progress(study, show),
        _pruned(numbers.pruning),
        _importance(numbers.importance),
        _failures(ended),
    ]
    order = {"bad": 0, "good": 1, "note": 2}
    return sorted((one for one in said if one), key=lambda finding: order[finding.kind])


def _confirmed(
    result: Result | None, spec: Specification, show: Callable[[float], str]
) -> StudyFinding | None:
    if result is None or result.confirmation is None:
        return None
    seeds, one = result.confirmation.seeds, result.confirmation.won
    assert one.mean is not None, "the winner has a mean"
    searched_best, *_ = result.confirmation.candidates
    said = f"On {seeds} fresh seeds trial {one.number} reaches {show(one.mean)} on average"
    if is_better(one.search_value, one.mean, spec):
        said += f", where the search had seen {show(one.search_value)}: luck was part of it."
    else:
        said += f", no worse than the {show(one.search_value)} that the search had seen."
    if searched_best.search_value != one.search_value and searched_best.mean is not None:
        said += (
            f" The search's own first, trial {searched_best.number}, comes to "
            f"{show(searched_best.mean)}."
        )
    return StudyFinding("note", said, "result")


def _divergence(ended: list[FrozenTrial]) -> list[StudyFinding]:
    lost = [diverged(trial) for trial in ended]
    count = sum(lost)
    if not count:
        return []
    split = where_it_happens([trial.params for trial in ended], lost)
    if split:
        text = f"{_side(split)} diverged in {split.hits} of {split.trials} trials; {_rest(split)}."
    else:
        # A few can be an accident; more need a look even if they share nothing that is sure.
        if count < FEWEST:
            return []
        text = (
            f"{count} of {len(ended)} trials diverged, and no single hyperparameter sets them "
            f"apart for sure."
        )
    return [StudyFinding("bad", text, "health")]


def _chance(
    ended: list[FrozenTrial], health: Health, show: Callable[[float], str]
) -> StudyFinding | None:
    if health.chance is None or len(health.at_chance) < FEWEST:
        return None
    name, value = health.chance
    text = (
        f"{len(health.at_chance)} of {len(ended)} trials never got past what the {name} alone "
        f"gives ({show(value)})"
    )
    split = where_it_happens(
        [trial.params for trial in ended], [t.number in health.at_chance for t in ended]
    )
    tail = f": {_side(split)} it was {split.hits} of {split.trials}." if split else "."
    return StudyFinding("bad", text + tail, "health")


def _best_trials(study: Study, spec: Specification, ended: list[FrozenTrial]) -> list[StudyFinding]:
    """What the best trials have in common that the others don't."""
    sign = 1 if spec.direction == "minimize" else -1
    ranked = sorted(
        (t for t in ended if t.state != TrialState.FAIL and last_value(t) is not None),
        key=lambda t: (t.state != TrialState.COMPLETE, sign * (last_value(t) or 0.0), t.number),
    )
    count = max(BEST_TRIALS, len(ranked) // 10)
    if len(ranked) < ENOUGH_TRIALS or len(complete(study)) < count:
        return []
    params = [trial.params for trial in ranked]
    said = [
        StudyFinding(
            "good",
            f"All of the best {count} trials have {narrow.name} between {label(narrow.low)} "
            f"and {label(narrow.high)}, where {narrow.inside} of all {narrow.trials} are.",
            "slices",
        )
        for narrow in where_the_best_lie(params, count)[:2]
    ]
    choices = [
        {name: value for name, value in one.items() if not is_number(value)} for one in params
    ]
    split = where_it_happens(choices, [place < count for place in range(len(ranked))], shares=0.0)
    if split:
        said.append(
            StudyFinding(
                "good",
                f"{split.hits} of the best {count} trials use {split.name} = {label(split.at)}, "
                f"and {split.trials} of all {len(ranked)}.",
                "slices",
            )
        )
    return said


def _edges(study: Study, spec: Specification) -> list[StudyFinding]:
    """Ranges that the best trials press against."""
    sign = 1 if spec.direction == "minimize" else -1
    ranked = sorted(complete(study), key=lambda trial: (sign * value_of(trial), trial.number))
    best = ranked[: max(BEST_TRIALS, len(ranked) // 10)]
    if len(ranked) < 2 * BEST_TRIALS:
        return []
    said = []
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
            # A twentieth of the range holds a twentieth by chance.
            if near >= max(FEWEST, 0.6 * len(best)):
                said.append(
                    StudyFinding(
                        "bad",
                        f"{near} of the best {len(best)} trials have {name} at the {way} end of "
                        f"its range ({label(end)}): what lies beyond may be better still.",
                        "slices",
                    )
                )
    return said


def _fit(study: Study) -> StudyFinding | None:
    ratios = []
    for trial in complete(study):
        attributes = TrialAttributes.read(trial)
        at, train = attributes.best_epoch - 1, attributes.train_loss
        validation = attributes.validation_loss
        if 0 <= at < min(len(train), len(validation)) and train[at] and train[at] > 0:
            ratios.append(validation[at] / train[at])
    if len(ratios) < BEST_TRIALS:
        return None
    middle = median(ratios)
    if middle >= OVERFITS:
        return StudyFinding(
            "bad",
            f"The networks overfit: at its best epoch, a complete trial's validation loss is "
            f"{middle:.1f} times its training loss (median of {len(ratios)}). More dropout or l2, "
            f"a smaller network, or more rows may help.",
            "health",
        )
    if middle <= FITS:
        return StudyFinding(
            "note",
            f"The networks hardly overfit: at its best epoch, a complete trial's validation loss "
            f"is {middle:.2f} times its training loss (median of {len(ratios)}). A larger network "
            f"or more epochs may find more.",
            "health",
        )
    return None


def _clipped(health: Health) -> StudyFinding | None:
    clipping = [one for one in health.clipping if one.clip_norm is not None]
    always = [one for one in clipping if one.share > ALWAYS_CLIPPED]
    if len(always) < max(BEST_TRIALS, 0.2 * len(clipping)):
        return None
    return StudyFinding(
        "note",
        f"In {len(always)} of {len(clipping)} trials more than {ALWAYS_CLIPPED:.0%} of the updates "
        f"were clipped: there the clip norm acts as a second learning rate.",
        "health",
    )


def _ties(study: Study, result: Result | None, show: Callable[[float], str]) -> StudyFinding | None:
    # Fresh seeds tell apart what one look at the validation rows can't.
    if result is None or result.confirmation:
        return None
    ties = sum(trial.value == result.winner.value for trial in complete(study))
    if ties < 2:
        return None
    rows = result.validation.rows
    few = f" {rows} validation rows can't tell them apart;" if rows else ""
    return StudyFinding(
        "bad",
        f"{ties} trials share the best validation value, {show(result.winner.value)}:{few} the "
        f"lower validation loss decided.",
        "optimization_history",
    )


def _progress(study: Study, show: Callable[[float], str]) -> StudyFinding | None:
    points = history(study)
    finished = sum(point.state == "complete" for point in points)
    if len(points) < ENOUGH_TRIALS or finished < 2 * BEST_TRIALS or points[-1].best is None:
        return None
    last = next(n for n, point in enumerate(points) if point.best == points[-1].best)
    since = len(points) - 1 - last
    if last < 0.5 * len(points):
        return StudyFinding(
            "note",
            f"The best value came with trial {points[last].number}; the {since} trials after it "
            f"brought nothing better. More trials in the same space will hardly pay.",
            "optimization_history",
        )
    if last >= 0.75 * len(points):
        quarter = points[int(0.75 * len(points)) - 1].best
        before = f", from {show(quarter)} to {show(points[-1].best)}" if quarter else ""
        return StudyFinding(
            "good",
            f"The search still improved in its last quarter{before}: more trials may pay.",
            "optimization_history",
        )
    return None


def _pruned_too_soon(
    study: Study, spec: Specification, result: Result | None, show: Callable[[float], str]
) -> StudyFinding | None:
    """Pruned trials that had been better than the winner ever was."""
    values = [value_of(trial) for trial in complete(study)]
    if result is None or not values:
        return None
    seen = best_of(values, spec)
    reached = {
        trial.number: value
        for trial in trials_in(study, TrialState.PRUNED)
        if (value := best_reached(trial, spec)) is not None and is_better(value, seen, spec)
    }
    if not reached:
        return None
    best = best_of(list(reached.values()), spec)
    number = next(n for n, value in reached.items() if value == best)
    trials = "1 pruned trial" if len(reached) == 1 else f"{len(reached)} pruned trials"
    halves = spec.pruner.name in ("asha", "hyperband")
    advice = "min_resource, or take reduction_factor = 2" if halves else "n_warmup_steps"
    return StudyFinding(
        "bad",
        f"{trials} had been better than any complete one: trial {number} reached {show(best)} "
        f"before it was ended, the best complete one {show(seen)}. The pruner may be too "
        f"eager here: raise its {advice}.",
        "learning_curves",
    )


def _pruned(savings: PruningSavings | None) -> StudyFinding | None:
    if savings is None:
        return None
    return StudyFinding(
        "good",
        f"Pruning saved about {savings.saved:.0%} of the epochs: {savings.run:,} were run, and "
        f"some {savings.unpruned:,.0f} would have been.",
        "savings",
    )


def _importance(importance: Importance) -> StudyFinding | None:
    # Five trials in the best tenth, or the ranking is a matter of luck.
    if importance.trials < 50 or not importance.shares:
        return None
    name, share = next(iter(importance.shares.items()))
    if share < 2 / len(importance.shares):
        return None
    return StudyFinding(
        "note",
        f"{name} decides most about a good trial: {share:.0%} of the importance.",
        "importance",
    )


def _failures(ended: list[FrozenTrial]) -> StudyFinding | None:
    failed = [t for t in ended if t.state == TrialState.FAIL and not diverged(t)]
    if not failed:
        return None
    reason = outcome(failed[-1]) or "no reason is known"
    trials = "trial" if len(failed) == 1 else "trials"
    return StudyFinding("bad", f"{len(failed)} {trials} failed, the last one: {reason}.", "trials")


def _side(split: Side) -> str:
    if split.side == "=":
        return f"{split.name} = {label(split.at)}"
    return f"{split.name} {split.side} {label(split.at)}"


def _rest(split: Side) -> str:
    return f"elsewhere in {split.other_hits} of {split.other_trials}"
