"""The study in the database: made, found again, compared with its file.

What a study needs to go on stands in its user attributes: ``specification`` (the study file),
``fingerprint`` (of the data), ``budget``, and ``checkpoints`` (where they are kept) if that was
said. Nothing else of it depends on the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection

from gru_optuna import study_file
from gru_optuna.checkpoints.locations import CHECKPOINTS, own_place
from gru_optuna.errors import StudyError, did_you_mean
from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna import Study
    from optuna.storages import BaseStorage

    from gru_optuna.study_file import Specification


BASELINES = "baselines"
"""User attribute of a study: what the metric is without a GRU, by name."""

_DIRECTIONS = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}


def create_or_resume(
    storage: BaseStorage,
    spec: Specification,
    fingerprint: str,
    *,
    checkpoints: str | None = None,
    baselines: Mapping[str, float] | None = None,
) -> Study:
    """The study of a study file, made if it isn't there.

    Parameters
    ----------
    storage
        The database.
    spec
        The study file.
    fingerprint
        Of its data.
    checkpoints
        The folder or ``s3://BUCKET/PREFIX`` below which this study's checkpoints are kept from
        now on, in a place of its own; None: where they were.
    baselines
        What simpler predictions of the same rows reach, by name; those of the file come to them.

    Raises
    ------
    StudyError
        If a study of this name is there with another specification or other data, naming
        every field that differs; or if it wasn't made by this package.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=spec.name,
        direction=spec.direction,
        sampler=make_sampler(spec),
        pruner=make_pruner(spec),
        load_if_exists=True,
    )
    attributes = study.user_attrs
    if "specification" not in attributes:
        if study.get_trials(deepcopy=False) or study.directions != [_DIRECTIONS[spec.direction]]:
            raise _not_ours(spec.name)
        # New, or its maker died before it could write this.
        study.set_user_attr("fingerprint", fingerprint)
        study.set_user_attr("specification", spec.model_dump(mode="json"))
    else:
        _refuse_changes(stored_specification(study), spec)
        if attributes["fingerprint"] != fingerprint:
            raise StudyError(
                f'study "{spec.name}": the data differ from those it was made with '
                f"({spec.data.train}). Put the old files back, or give the study a new name."
            )
    if attributes.get("budget") != (budget := spec.budget.model_dump(mode="json")):
        study.set_user_attr("budget", budget)
    to_beat = {**(baselines or {}), **spec.baselines}
    if attributes.get(BASELINES, {}) != to_beat:
        study.set_user_attr(BASELINES, to_beat)
    if checkpoints is not None:
        study.set_user_attr(
            CHECKPOINTS, own_place(checkpoints, spec.name, attributes.get(CHECKPOINTS))
        )
    return study


def load(storage: BaseStorage, name: str) -> tuple[Study, Specification]:
    """A study by its name, ready to be looked at.

    Raises
    ------
    StudyError
        If there is none of this name, or it wasn't made by this package.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        known = [study.study_name for study in storage.get_all_studies()]
        raise StudyError(f'no study "{name}" here. {did_you_mean(name, known)}') from None
    if "specification" not in study.user_attrs:
        raise _not_ours(name)
    return study, stored_specification(study)


def load_to_work(storage: BaseStorage, name: str) -> tuple[Study, Specification]:
    """A study by its name, with the sampler and the pruner it was made with.

    Raises
    ------
    StudyError
        As `load`.
    """
    study, spec = load(storage, name)
    study.sampler, study.pruner = make_sampler(spec), make_pruner(spec)
    return study, spec


def load_all(storage: BaseStorage) -> Iterator[tuple[Study, Specification]]:
    """Every study in a database that was made by this package, by name."""
    for name in sorted(study.study_name for study in storage.get_all_studies()):
        study = optuna.load_study(storage=storage, study_name=name)
        if "specification" in study.user_attrs:
            yield study, stored_specification(study)


def stored_specification(study: Study) -> Specification:
    """The specification a study was made with, and the budget it was last given."""
    attributes = study.user_attrs
    content = attributes["specification"] | {"budget": attributes.get("budget", {})}
    source = f'study "{study.study_name}" in the database'
    return study_file.parse(content, source, stored=True)


def _not_ours(name: str) -> StudyError:
    return StudyError(
        f'study "{name}" was not made by gru-optuna: it holds no specification. '
        f"Choose another name."
    )


def _refuse_changes(stored: Specification, given: Specification) -> None:
    before, now = (
        _flat(one.model_dump(mode="json", exclude={"baselines"})) for one in (stored, given)
    )
    changed = [
        f"  {key}: {before[key]} in the database, {now[key]} now"
        for key in before
        if before[key] != now[key] and not _may_change(key, before[key], now[key])
    ]
    if changed:
        raise StudyError(
            f'study "{given.name}" was made with another specification:\n'
            + "\n".join(changed)
            + "\nUndo the change, or give the study a new name."
        )


def _may_change(key: str, before: object, now: object) -> bool:
    """The budget may, how winners are confirmed, and where a file lies: whether its content
    changed, the fingerprint tells."""
    is_path = key in ("data.train", "data.test", "data.validation")
    return key.startswith(("budget.", "confirmation.")) or (
        is_path and isinstance(before, str) and isinstance(now, str)
    )


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"search": {"l1": 0}}`` as ``{"search.l1": 0}``; a range stays one value."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and not prefix:
            flat |= _flat(value, f"{key}.")
        else:
            flat[prefix + key] = value
    return flat
