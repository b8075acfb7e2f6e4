"""The search space of a study, and the values of a trial in it.

Only what is searched becomes an Optuna parameter, under its name in the study file. The
parameters of a decay exist in a trial only under that decay.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gru_optuna.errors import StudyError
from gru_optuna.hyperparameters import DECAY_PARAMETERS, OFF, Hyperparameters
from gru_optuna.study_file import section_of
from gru_optuna.study_file.searchable import Range, Searchable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import optuna

    from gru_optuna.hyperparameters import Value
    from gru_optuna.study_file import Specification

_OWNER = {name: decay for decay, names in DECAY_PARAMETERS.items() for name in names}


def searched(spec: Specification) -> dict[str, BaseDistribution]:
    """Every searched hyperparameter, conditional ones too, as an Optuna distribution."""
    return {
        name: _distribution(value)
        for name, value in spec.searchable()
        if isinstance(value, list | Range)
    }


def suggest(trial: optuna.Trial, spec: Specification) -> Hyperparameters:
    """Asks Optuna for a trial's values; conditional parameters only where they apply."""
    distributions = searched(spec)
    return _resolve(spec, lambda name: _ask(trial, name, distributions[name]))


def hyperparameters(params: Mapping[str, Any], spec: Specification) -> Hyperparameters:
    """The values of a trial whose parameters are known.

    Raises
    ------
    StudyError
        If a parameter is missing: another program made the trial.
    """
    try:
        return _resolve(spec, params.__getitem__)
    except KeyError as error:
        raise StudyError(
            f'study "{spec.name}": a trial has no parameter {error}, which the study searches. '
            f"Another program made or changed it: delete it there, or restore a backup."
        ) from None


def sections(space: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sorts hyperparameters into the sections of a study file, which check them.

    Parameters
    ----------
    space
        By name: a value, a list or tuple of choices, a table of ``low`` and ``high``, a `Range`,
        or an Optuna distribution.

    >>> sections({"layers": 2, "dropout": FloatDistribution(0.0, 0.5)})["search"]
    {'dropout': {'low': 0.0, 'high': 0.5, 'log': False}}
    """
    found: dict[str, dict[str, Any]] = {"model": {}, "search": {}, "data": {}}
    for name, value in space.items():
        found[section_of(name)][name] = _as_written(value)
    return found


def _as_written(value: Any) -> Any:
    match value:
        case CategoricalDistribution(choices=choices) | tuple(choices):
            return list(choices)
        case IntDistribution() | FloatDistribution():
            table = {"low": value.low, "high": value.high, "log": value.log}
            # A step of 1 between whole numbers is no restriction; a study file leaves it out.
            stepped = value.step not in (None, 1) or isinstance(value, FloatDistribution)
            return table | ({"step": value.step} if stepped and value.step else {})
        case _:
            return value


def applies(name: str, decay: object) -> bool:
    """Whether a hyperparameter exists in a trial with this decay."""
    return name not in _OWNER or _OWNER[name] == decay


def grid(spec: Specification) -> list[dict[str, Value]]:
    """Every distinct configuration of a space of lists, each as Optuna parameters."""
    lists = {name: value for name, value in spec.searchable() if isinstance(value, list)}
    fixed_decay = spec.search.decay
    points: dict[tuple[tuple[str, Value], ...], None] = {}
    for values in product(*lists.values()):
        point = dict(zip(lists, values, strict=True))
        decay = point.get("decay", fixed_decay)
        # Points that differ only in the parameters of another decay are one configuration.
        points[tuple((k, v) for k, v in point.items() if applies(k, decay))] = None
    return [dict(point) for point in points]


def _resolve(spec: Specification, ask: Callable[[str], Any]) -> Hyperparameters:
    values: dict[str, Any] = {}
    for name, value in spec.searchable():
        # A study file's sections name the decay before its parameters.
        if not applies(name, values.get("decay")):
            continue
        values[name] = ask(name) if isinstance(value, list | Range) else value
        if isinstance(value, list) and values[name] in value:
            # As the study file writes it: someone may have enqueued 16.0 for the choice 16.
            values[name] = value[value.index(values[name])]
    if values["clip_norm"] == OFF:
        values["clip_norm"] = None
    return Hyperparameters(**values)


def _ask(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    try:
        return _suggest(trial, name, distribution)
    except ValueError as error:  # someone enqueued a value that the study doesn't have
        raise ValueError(f"{name}: {error}") from None


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
    raise AssertionError(distribution)


def _distribution(value: Searchable) -> BaseDistribution:
    if isinstance(value, list):
        return CategoricalDistribution(value)
    assert isinstance(value, Range)
    if isinstance(value.low, int):
        return IntDistribution(value.low, int(value.high), log=value.log, step=int(value.step or 1))
    return FloatDistribution(value.low, value.high, log=value.log, step=value.step)
