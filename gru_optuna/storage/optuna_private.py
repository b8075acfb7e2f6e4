"""What Optuna has no public name for, in one place, should an update of it change one.

A test sees that no file outside of ``storage/`` uses such a name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine


def study_id(study: Study) -> int:
    """A study's id in its storage."""
    return study._study_id


def engine_of(study: Study) -> Engine:
    """The engine of a study in a database."""
    return engine_behind(study._storage)


def engine_behind(storage: BaseStorage) -> Engine:
    """The engine of a storage in a database."""
    engine: Engine = storage._backend.engine  # type: ignore[attr-defined]
    return engine


def set_system_attribute(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Sets a system attribute of a trial that hasn't ended."""
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def report(trial: Trial, value: float, step: int) -> None:
    """Reports a value as `optuna.Trial.report` does, which refuses where a study has two goals."""
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)
    # Its copy is what pruners see.
    trial._cached_frozen_trial.intermediate_values[step] = value


def enqueued_parameters(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters that a trial was enqueued with; None if it wasn't enqueued."""
    return trial.system_attrs.get("fixed_params")


def may_have(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter of this distribution may have this value, whatever its type."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:  # a name where numbers are searched, "off" for example
        return False
