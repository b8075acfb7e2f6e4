"""Specifications as studies and bundles store them, with every default written out.

A default that changes in `sections` must not change a study that exists. So a study stores its
specification complete, and with it the version of the defaults with which it was made. What
a version's defaults were is in ``defaults_VERSION.json``, which never changes again. Whoever
changes a default adds such a file, and raises `VERSION`; a test compares the two.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from gru_optuna.errors import StudyFileError
from gru_optuna.study_file.load import parse
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.study_file.searchable import Searchable
    from gru_optuna.study_file.sections import Pruner, Specification

VERSION = 1
"""The version of the defaults in `sections`. Version 1 are those of gru-optuna 0.1.0, which didn't
store a version."""


_THAW_FACTOR = 4
_ENOUGH_UPDATES = 7
"""Before this many updates, what a trial has reached says little about it."""


def parse_stored(content: Mapping[str, Any], source: str, version: int = 1) -> Specification:
    """Reads a stored specification; what it lacks has the defaults of its own version.

    Parameters
    ----------
    content
        The specification as it was stored.
    source
        Names it in messages.
    version
        The version of the defaults with which it was made.

    Raises
    ------
    StudyFileError
        If it isn't a specification, or was stored by a newer version of this package.
    """
    return parse(_completed(content, version, source), source, stored=True)


def with_defaults_of(version: int, spec: Specification, source: str) -> Specification:
    """A study file whose left-out keys have the defaults of this version."""
    given = spec.model_dump(mode="json", exclude_unset=True)
    return parse_stored(given, source, version)


def complete_pruner(spec: Specification, rows: int | None = None) -> Pruner:
    """The pruner with the defaults that depend on its name, on the epochs and on the data.

    Parameters
    ----------
    spec
        The study file.
    rows
        How many training rows there are; None: unknown, or no matter.
    """
    pruner = parse_stored(spec.model_dump(mode="json"), spec.name, VERSION).pruner
    if pruner.name != "thaw" or spec.pruner.first_rung or rows is None:
        return pruner
    updates = math.ceil(rows / _usual(spec.search.batch_size))
    # Of short trainings a quarter at most, or hardly any trial would be paused.
    latest = max(1, spec.training.epochs // (pruner.reduction_factor or _THAW_FACTOR))
    first_rung = min(math.ceil(_ENOUGH_UPDATES / updates), latest)
    return pruner.model_copy(update={"first_rung": first_rung})


def _usual(batch_size: Searchable) -> float:
    """The middle of the batch sizes that are searched."""
    if isinstance(batch_size, list):
        return median(float(size) for size in batch_size)
    if isinstance(batch_size, Range):
        return math.sqrt(batch_size.low * batch_size.high)
    return float(batch_size)


def _completed(content: Mapping[str, Any], version: int, source: str) -> dict[str, Any]:
    defaults = _read_defaults(version, source)
    metric, first_rung = defaults.pop("metric"), defaults.pop("first_rung")
    reduction_factor, budget = defaults.pop("reduction_factor"), defaults.pop("budget")
    whole = defaults | {**content}
    for section, keys in defaults.items():
        if isinstance(keys, dict) and isinstance(written := whole[section], dict):
            whole[section] = keys | written
    whole.setdefault("metric", metric.get(whole["task"]))
    # Not key by key: a budget of hours alone has no limit of trials.
    whole["budget"] = whole.get("budget") or budget
    pruner = whole["pruner"]
    if pruner["name"] in reduction_factor:
        first = max(1, round(first_rung * whole["training"]["epochs"]))
        pruner["min_resource"] = pruner["min_resource"] or first
        pruner["reduction_factor"] = pruner["reduction_factor"] or reduction_factor[pruner["name"]]
    if pruner["name"] == "thaw":
        pruner["first_rung"] = pruner.get("first_rung") or 1
        pruner["reduction_factor"] = pruner["reduction_factor"] or _THAW_FACTOR
    return whole


def _read_defaults(version: int, source: str) -> dict[str, Any]:
    if not 1 <= version <= VERSION:
        raise StudyFileError(
            f"{source}: stored by a newer version of gru-optuna, whose defaults this one doesn't "
            f"know. Upgrade gru-optuna."
        )
    table = Path(__file__).with_name(f"defaults_{version}.json")
    defaults: dict[str, Any] = json.loads(table.read_text(encoding="utf-8"))
    return defaults
