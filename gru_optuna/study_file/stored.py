"""Specifications as studies and bundles store them, with every default written out.

A default that changes in `sections` must not change a study that exists. So a study stores its
specification complete, and with it the version of the defaults with which it was made. What
a version's defaults were is in ``defaults_VERSION.json``, which never changes again. Whoever
changes a default adds such a file, and raises `VERSION`; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gru_optuna.errors import StudyFileError
from gru_optuna.study_file.load import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.study_file.sections import Pruner, Specification

VERSION = 1
"""The version of the defaults in `sections`. Version 1 are those of gru-optuna 0.1.0, which didn't
store a version."""


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


def complete_pruner(spec: Specification) -> Pruner:
    """The pruner with the defaults that depend on its name and on the epochs, written out."""
    return parse_stored(spec.model_dump(mode="json"), spec.name, VERSION).pruner


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
