"""Trials by their places, for samplers that model one value of complete trials.

Optuna's multi-objective TPE can't rank trials that were pruned, and its GP passes them over. Where
trials are paused, that leaves hardly any. A place in one order shows how good each trial is,
however many epochs it has trained and goals the study has.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.search import fronts
from gru_optuna.storage.paused_trials import is_paused
from gru_optuna.study_file import SIZE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

    from gru_optuna.study_file import Specification


def as_places(spec: Specification, trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    """The trials with every ended or paused one as complete, with its place as its value.

    Complete trials come first, then those that were trained longer, as Optuna's TPE ranks pruned
    trials; among them the lower value is better, or with two goals the order of `search.fronts`.
    """
    groups: dict[float, list[int]] = defaultdict(list)
    for position, trial in enumerate(trials):
        if trial.state == TrialState.COMPLETE:
            groups[math.inf].append(position)
        elif trial.state == TrialState.PRUNED or is_paused(trial):
            groups[trial.last_step or 0].append(position)
    seen, place = list(trials), 0
    for step in sorted(groups, reverse=True):
        points = {position: _point(trials[position], spec) for position in groups[step]}
        distinct = list(dict.fromkeys(points.values()))
        places = {distinct[n]: place + k for k, n in enumerate(fronts.order(distinct))}
        for position, point in points.items():
            ranked = copy.copy(trials[position])
            ranked.state, ranked.values = TrialState.COMPLETE, [float(places[point])]
            seen[position] = ranked
        place += len(distinct)
    return seen


def _point(trial: FrozenTrial, spec: Specification) -> tuple[float, float]:
    """What a trial reached in each goal; lower is better, and NaN is the worst."""
    if trial.state == TrialState.COMPLETE and trial.values:
        value = trial.values[0]
    else:
        value = trial.intermediate_values.get(trial.last_step or 0, math.nan)
    size = trial.user_attrs.get(SIZE, math.inf) if spec.two_goals else 0.0
    return math.inf if math.isnan(value) else spec.as_loss(value), size
