"""The front of a study with two goals: the trials that no other one beats in both.

Each member is a compromise between the metric and the size of the network, among which the user
chooses, with ``gru-optuna export --max-parameters N``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna.search import fronts
from gru_optuna.study.confirmation import ranked
from gru_optuna.study.trial_attributes import TrialAttributes, best_reached

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from gru_optuna.study.confirmation import Decision
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class FrontMember:
    """One compromise."""

    number: int  # of the trial
    value: float  # the metric in the search
    network_parameters: int
    mean: float | None  # the metric on fresh seeds; None: it isn't confirmed
    interval: list[float] | None


def find_front(study: Study, spec: Specification, decision: Decision | None) -> list[FrontMember]:
    """The members of the front by size, the smallest network first; none if there is one goal.

    Parameters
    ----------
    study, spec
        The study.
    decision
        If there is one that still holds, the front is that of its candidates, by their means on
        fresh seeds: the best values that were seen in the search owe more to luck. None: it is
        that of all trials in the search.
    """
    if not spec.two_goals:
        return []
    if decision is None:
        members = list_members(study, spec)
    else:
        members = [
            FrontMember(c.number, c.search_value, c.parameters, c.mean, c.interval)
            for c in decision.candidates
            if c.mean is not None
        ]
    return front_of(members, spec)


def list_members(study: Study, spec: Specification) -> list[FrontMember]:
    """Both goals of every trial that was trained, with its best epoch."""
    return [
        FrontMember(trial.number, value, size, None, None)
        for trial in ranked(study, spec)
        if (value := best_reached(trial, spec)) is not None
        and (size := TrialAttributes.read(trial).network_parameters)
    ]


def front_of(members: Sequence[FrontMember], spec: Specification) -> list[FrontMember]:
    """The members that no other one beats in both goals; the first one stands for equal ones."""
    points = {
        (spec.as_loss(m.value if m.mean is None else m.mean), m.network_parameters): m
        for m in reversed(members)
    }
    first, *_ = fronts.fronts(list(points)) or [[]]
    found = [list(points.values())[place] for place in first]
    return sorted(found, key=lambda member: member.network_parameters)
