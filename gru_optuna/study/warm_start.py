"""The first trials of a study: what its file says to try, and the best ones of another study.

What is usually good, or was good for a similar task, is tried first, and the sampler continues from
there. A trial takes the values that this study can have; what isn't searched here stays as the
study file says, and a value outside the ranges or choices is left to the sampler.

The study's user attribute ``warm_start`` records what was taken, by source, and the attribute of
the same name of each such trial names its origin.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from gru_optuna.attributes import WARM_START
from gru_optuna.errors import StorageError, StudyError
from gru_optuna.formatting import format_list, format_value
from gru_optuna.search import space
from gru_optuna.storage.database.open import open_storage, shown_url
from gru_optuna.storage.optuna_private import enqueued_parameters, may_have
from gru_optuna.study import budget
from gru_optuna.study.confirmation import ranked, read_decision
from gru_optuna.study.study import load_study
from gru_optuna.study.trial_attributes import best_reached
from gru_optuna.urls import given_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from gru_optuna.hyperparameters import Value
    from gru_optuna.study_file import Specification

MOST_TRIALS = 5
"""Trials taken from a source. More than one, because the best may have been lucky and a similar
task isn't the same; and half of the sampler's start-up trials stay random, so that it sees more of
the space than what was good there."""

FILE = "the study file"
"""The source of the configurations that the study file says to try."""

_FEW_VALUES = 3  # values listed one by one


@dataclass(frozen=True)
class Source:
    """Another study to start from."""

    label: str  # NAME, or URL#NAME without a password where it is in another database
    study: Study
    spec: Specification


@dataclass
class WarmStart:
    """What a study took from its file, or from another study.

    Parameters
    ----------
    source
        As `Source.label`, or `FILE`.
    metric
        The other study's metric, in which the values of its trials are given.
    trials
        For each trial that was taken: its ``number`` and ``value`` there, its ``params`` here.
        Tables of the study file are numbered from 1 and have no values.
    left
        Hyperparameters whose values weren't taken, and why.
    """

    source: str
    metric: str | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What was taken and what was left, in sentences for the terminal."""
        if not self.trials:
            why = "because everything was tried or the budget is spent"
            return [f"from {self.source}: nothing taken, {why}"]
        taken = dict.fromkeys(name for trial in self.trials for name in trial["params"])
        numbers = format_list(trial["number"] for trial in self.trials)
        what = "configuration" if self.metric is None else "trial"
        which, whose = f"{what} {numbers} is", "its"
        if len(self.trials) > 1:
            which, whose = f"{what}s {numbers} are", "their"
        lines = [f"from {self.source}: {which} tried first, with {whose} {', '.join(taken)}"]
        if self.left:
            lines.append(f"not taken: {'; '.join(f'{k}: {why}' for k, why in self.left.items())}")
        return lines


def find_source(given: str, url: str, spec: Specification) -> Source | None:
    """The study that another one starts from; None if it has already done so.

    Parameters
    ----------
    given
        Its name, or ``URL#NAME`` if it is in another database.
    url
        The database of the study that starts.
    spec
        The specification of the study that starts.

    Raises
    ------
    StudyError
        If there is no such study, it is the study that starts, or it holds nothing that could be
        taken; or the study that starts is a grid.
    StorageError
        If its database can't be opened.
    """
    if spec.sampler.name == "grid":
        raise StudyError(
            f'study "{spec.name}": sampler grid tries each configuration of its lists once, so it '
            f"can't start from another study. Drop --from, or choose another sampler."
        )
    other, _, name = given.rpartition("#")
    other = given_url(other)
    here = not other or shown_url(other) == shown_url(url)
    if here and name == spec.name:
        raise StudyError(
            f'study "{name}" can\'t start from itself. The same command without --from resumes it.'
        )
    label = name if here else f"{shown_url(other)}#{name}"
    with suppress(StorageError, StudyError):  # neither has been created yet
        if label in load_study(open_storage(url), spec.name)[0].user_attrs.get(WARM_START, {}):
            return None
    source = Source(label, *load_study(open_storage(other or url), name))
    best = _best(source, spec)
    if not best:
        raise StudyError(
            f'study "{label}" has no trial that has trained an epoch and ended, so there is '
            f"nothing to start from."
        )
    if not any(_translate(_values(trial, source.spec), spec)[0] for trial in best):
        raise StudyError(
            f'study "{label}" holds no value that "{spec.name}" searches. Drop --from, or name '
            f"another study."
        )
    return source


def begin_from_file(study: Study, spec: Specification) -> WarmStart | None:
    """Enqueues the configurations that the study file says to try, each once.

    The caller must hold the study's creation lock, as for `begin_from`.

    Returns
    -------
    WarmStart or None
        What was taken; None if the file names no table that hasn't been enqueued before.
    """
    noted: dict[str, Any] = study.user_attrs.get(WARM_START, {})
    before: list[dict[str, Value]] = noted.get(FILE, [])
    new = [_Candidate(FILE, n, t) for n, t in enumerate(spec.tries, 1) if t not in before]
    if not new:
        return None
    start = _enqueue(study, spec, WarmStart(FILE), new)
    if start.trials:
        taken = {trial["number"] for trial in start.trials}
        tables = [table for n, table in enumerate(spec.tries, 1) if table in before or n in taken]
        study.set_user_attr(WARM_START, noted | {FILE: tables})
    return start


def begin_from(study: Study, spec: Specification, source: Source) -> WarmStart | None:
    """Enqueues the best trials of another study, once.

    The caller must hold the study's creation lock, so that no other process does the same at the
    same time. If a caller dies half-way, the next one enqueues the rest.

    Parameters
    ----------
    study, spec
        The study that starts.
    source
        The study it starts from.

    Returns
    -------
    WarmStart or None
        What was taken; None if that happened before.
    """
    noted: dict[str, Any] = study.user_attrs.get(WARM_START, {})
    if source.label in noted:
        return None
    best = [
        _Candidate(
            source.label,
            trial.number,
            _values(trial, source.spec),
            best_reached(trial, source.spec),
        )
        for trial in _best(source, spec)
    ]
    start = _enqueue(study, spec, WarmStart(source.label, source.spec.metric), best)
    if start.trials:
        content = {"metric": start.metric, "trials": start.trials, "left": start.left}
        study.set_user_attr(WARM_START, noted | {source.label: content})
    return start


@dataclass(frozen=True)
class _Candidate:
    """A configuration that may become one of the first trials."""

    source: str
    number: int
    values: dict[str, Value]
    value: float | None = None  # of its trial

    @property
    def mark(self) -> str:
        """Names it in an attribute of its trial."""
        return f"{self.source}, {'table' if self.source == FILE else 'trial'} {self.number}"


def _enqueue(
    study: Study, spec: Specification, start: WarmStart, candidates: Sequence[_Candidate]
) -> WarmStart:
    """Enqueues as many candidates as there is room for, and notes them in `start`."""
    existing = study.get_trials(deepcopy=False)
    marks = {trial.user_attrs.get(WARM_START) for trial in existing}
    tried = [_tried(trial) for trial in existing]
    begun = len(marks & {candidate.mark for candidate in candidates})
    room = _room(study, spec) + begun
    if start.source != FILE:
        room = min(MOST_TRIALS, room)
    left: dict[str, dict[str, list[Value]]] = {}
    for candidate in candidates:
        if len(start.trials) >= room:
            break
        params, reasons = _translate(candidate.values, spec)
        if candidate.mark not in marks:
            if not params or params in tried:
                continue
            study.enqueue_trial(params, user_attrs={WARM_START: candidate.mark})
            tried.append(params)
        noted = {"number": candidate.number, "value": candidate.value, "params": params}
        start.trials.append(noted)
        for name, (reason, value) in reasons.items():
            values = left.setdefault(name, {}).setdefault(reason, [])
            if value not in values:
                values.append(value)
    start.left = {name: _why(reasons) for name, reasons in left.items()}
    return start


def _best(source: Source, spec: Specification) -> list[FrozenTrial]:
    """All trained trials of a source: its confirmed winner first, then the others.

    These are in the order of the study that starts: by its metric alone, or by the front.
    """
    confirmed = read_decision(source.study)
    winner = None if confirmed is None else confirmed.winner
    order = ranked(source.study, source.spec.with_goals_of(spec))
    return sorted(order, key=lambda trial: trial.number != winner)


def _room(study: Study, spec: Specification) -> float:
    """How many trials may still be enqueued within the budget."""
    waiting = len(study.get_trials(deepcopy=False, states=[TrialState.WAITING]))
    return max(0.0, budget.trials_left(study, spec) - waiting)


def _tried(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial has, or will have once it no longer waits."""
    if trial.state == TrialState.WAITING:
        return enqueued_parameters(trial) or {}
    return trial.params


def _values(trial: FrozenTrial, its_spec: Specification) -> dict[str, Value]:
    """All hyperparameters of another study's trial, those that weren't searched too."""
    return dict(space.hyperparameters(trial.params, its_spec).configuration())


def _translate(
    values: Mapping[str, Value], spec: Specification
) -> tuple[dict[str, Value], dict[str, tuple[str, Value]]]:
    """The values that are possible here; for each other one, the reason and the value."""
    distributions, here = space.searched(spec), dict(spec.searchable())
    params: dict[str, Value] = {}
    reasons: dict[str, tuple[str, Value]] = {}
    for name, value in values.items():
        if name not in distributions:
            if name not in here:
                reasons[name] = "not used here", value
            elif here[name] != value:
                reasons[name] = f"fixed at {here[name]} here", value
        elif not may_have(distributions[name], value):
            reasons[name] = f"not {_range_of(distributions[name])}", value
        else:
            params[name] = value
    decay = params.get("decay", here["decay"])
    return {n: v for n, v in params.items() if space.applies(n, decay)}, {
        n: reason for n, reason in reasons.items() if space.applies(n, values.get("decay", decay))
    }


def _range_of(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"among {', '.join(map(str, distribution.choices))}"
    return f"within {distribution.low:g} to {distribution.high:g}"  # type: ignore[attr-defined]


def _why(reasons: Mapping[str, list[Value]]) -> str:
    """
    >>> _why({"not among 8, 16": [32, 64]})
    '32 and 64 not among 8, 16'
    """
    return "; ".join(
        f"{format_list(map(format_value, values), _FEW_VALUES)} {reason}"
        for reason, values in reasons.items()
    )
