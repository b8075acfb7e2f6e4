"""What stands out in a study, in sentences that name their counts.

A pattern that chance could have produced is left out (see `significance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

from optuna.trial import TrialState

from gru_optuna.formatting import format_metric, format_value
from gru_optuna.report.axes import parameter_scale
from gru_optuna.report.figures.history import list_history
from gru_optuna.report.figures.importance import STEADY_TRIALS
from gru_optuna.report.significance import FEWEST, Side, where_it_happens, where_the_best_lie
from gru_optuna.report.trials import (
    ENDED,
    best_first,
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

ALWAYS_CLIPPED = 0.9


@dataclass(frozen=True)
class StudyFinding:
    """One or two sentences, and how to take them."""

    kind: Literal["good", "bad", "note"]
    text: str
    about: str  # the id of the section that shows it


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
        _fit(study),
        _clipped(health),
        _ties(study, result),
        _pruned_too_soon(study, spec, result) or _progress(study),
        _pruned(numbers.pruning),
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
    mean, searched = format_metric(won.mean), format_metric(won.search_value)
    text = f"On {seeds} fresh seeds, trial {won.number} reaches {mean} on average"
    if is_better(won.search_value, won.mean, spec):
        text += f", compared with {searched} in the search, which was partly luck."
    else:
        text += f", no worse than its {searched} in the search."
    if search_best.search_value != won.search_value and search_best.mean is not None:
        text += (
            f" The best trial of the search, trial {search_best.number}, reaches "
            f"{format_metric(search_best.mean)}."
        )
    return StudyFinding("note", text, "result")


def _divergence(ended: list[FrozenTrial]) -> list[StudyFinding]:
    lost = [diverged(trial) for trial in ended]
    count = sum(lost)
    if not count:
        return []
    split = where_it_happens([trial.params for trial in ended], lost)
    if split:
        text = (
            f"With {_side(split)}, {split.hits} of {split.trials} trials diverged; elsewhere "
            f"{split.other_hits} of {split.other_trials}."
        )
    elif count < FEWEST:
        return []  # one or two can be an accident
    else:
        text = (
            f"{count} of {len(ended)} trials diverged, and no single hyperparameter clearly sets "
            f"them apart."
        )
    return [StudyFinding("bad", text, "health")]


def _chance(ended: list[FrozenTrial], health: Health) -> StudyFinding | None:
    if health.chance is None or len(health.at_chance) < FEWEST:
        return None
    name, value = health.chance
    text = (
        f"{len(health.at_chance)} of {len(ended)} trials never beat the {name} "
        f"({format_metric(value)})"
    )
    split = where_it_happens(
        [trial.params for trial in ended], [t.number in health.at_chance for t in ended]
    )
    tail = f"; with {_side(split)}, {split.hits} of {split.trials} didn't." if split else "."
    return StudyFinding("bad", text + tail, "health")


def _best_trials(study: Study, spec: Specification, ended: list[FrozenTrial]) -> list[StudyFinding]:
    """What the best trials share and the others don't."""
    sign = 1 if spec.direction == "minimize" else -1
    ranked = sorted(
        (t for t in ended if t.state != TrialState.FAIL and last_value(t) is not None),
        key=lambda t: (t.state != TrialState.COMPLETE, sign * (last_value(t) or 0.0), t.number),
    )
    count = max(BEST_TRIALS, len(ranked) // 10)
    if len(ranked) < ENOUGH_TRIALS or len(complete(study)) < count:
        return []
    params = [trial.params for trial in ranked]
    found = [
        StudyFinding(
            "good",
            f"All of the best {count} trials have {narrow.name} between {format_value(narrow.low)} "
            f"and {format_value(narrow.high)}, as do only {narrow.inside} of all {narrow.trials}.",
            "slices",
        )
        for narrow in where_the_best_lie(params, count)[:2]
    ]
    choices = [
        {name: value for name, value in chosen.items() if not is_number(value)} for chosen in params
    ]
    split = where_it_happens(choices, [place < count for place in range(len(ranked))], shares=0.0)
    if split:
        found.append(
            StudyFinding(
                "good",
                f"{split.hits} of the best {count} trials use {_side(split)}, but only "
                f"{split.trials} of all {len(ranked)} do.",
                "slices",
            )
        )
    return found


def _edges(study: Study, spec: Specification) -> list[StudyFinding]:
    """Ranges at whose ends the best trials lie."""
    ranked = best_first(study, spec)
    best = ranked[: max(BEST_TRIALS, len(ranked) // 10)]
    if len(ranked) < 2 * BEST_TRIALS:
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
                found.append(
                    StudyFinding(
                        "bad",
                        f"{near} of the best {len(best)} trials have {name} at the {way} end of "
                        f"its range ({format_value(end)}): values beyond it may be better still.",
                        "slices",
                    )
                )
    return found


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
            f"or more epochs may do better.",
            "health",
        )
    return None


def _clipped(health: Health) -> StudyFinding | None:
    clipping = [trial for trial in health.clipping if trial.clip_norm is not None]
    always = [trial for trial in clipping if trial.share > ALWAYS_CLIPPED]
    if len(always) < max(BEST_TRIALS, 0.2 * len(clipping)):
        return None
    return StudyFinding(
        "note",
        f"In {len(always)} of {len(clipping)} trials more than {ALWAYS_CLIPPED:.0%} of the updates "
        f"were clipped: there, the clip norm acts as a second learning rate.",
        "health",
    )


def _ties(study: Study, result: Result | None) -> StudyFinding | None:
    # Fresh seeds have separated what one value on the validation rows can't.
    if result is None or result.confirmation:
        return None
    ties = sum(trial.value == result.winner.value for trial in complete(study))
    if ties < 2:
        return None
    rows = result.validation.rows
    few = f" {rows} validation rows can't separate them;" if rows else ""
    return StudyFinding(
        "bad",
        f"{ties} trials share the best validation value, {format_metric(result.winner.value)}:"
        f"{few} the lowest validation loss decided.",
        "optimization_history",
    )


def _progress(study: Study) -> StudyFinding | None:
    points = list_history(study)
    finished = sum(point.state == "complete" for point in points)
    if len(points) < ENOUGH_TRIALS or finished < 2 * BEST_TRIALS or points[-1].best is None:
        return None
    last = next(n for n, point in enumerate(points) if point.best == points[-1].best)
    since = len(points) - 1 - last
    if last < 0.5 * len(points):
        return StudyFinding(
            "note",
            f"The best value came with trial {points[last].number}; none of the {since} trials "
            f"after it was better. More trials in this space will hardly improve it.",
            "optimization_history",
        )
    if last >= 0.75 * len(points):
        quarter = points[int(0.75 * len(points)) - 1].best
        before = (
            f", from {format_metric(quarter)} to {format_metric(points[-1].best)}"
            if quarter
            else ""
        )
        return StudyFinding(
            "good",
            f"The search still improved in its last quarter{before}: more trials may help.",
            "optimization_history",
        )
    return None


def _pruned_too_soon(
    study: Study, spec: Specification, result: Result | None
) -> StudyFinding | None:
    """Pruned trials that had been better than any complete trial."""
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
        f"{trials} had been better than any complete one: trial {number} reached "
        f"{format_metric(best)} before it was pruned, the best complete one {format_metric(seen)}. "
        f"The pruner may be too eager: raise its {advice}.",
        "learning_curves",
    )


def _pruned(savings: PruningSavings) -> StudyFinding | None:
    if not savings.comparable:
        return None
    return StudyFinding(
        "good",
        f"Pruning saved about {savings.saved:.0%} of the epochs: {savings.run:,} were run "
        f"instead of about {savings.unpruned:,.0f}.",
        "pruning",
    )


def _importance(importance: Importance) -> StudyFinding | None:
    if importance.trials < STEADY_TRIALS or not importance.shares:
        return None
    name, share = next(iter(importance.shares.items()))
    if share < 2 / len(importance.shares):
        return None
    return StudyFinding(
        "note",
        f"{name} matters most for a good trial: it has {share:.0%} of the importance.",
        "importance",
    )


def _failures(ended: list[FrozenTrial]) -> StudyFinding | None:
    failed = [t for t in ended if t.state == TrialState.FAIL and not diverged(t)]
    if not failed:
        return None
    reason = outcome(failed[-1]) or "no reason is known"
    trials = "1 trial failed" if len(failed) == 1 else f"{len(failed)} trials failed, the last one"
    return StudyFinding("bad", f"{trials}: {reason}.", "trials")


def _side(split: Side) -> str:
    return f"{split.name} {split.side} {format_value(split.at)}"
