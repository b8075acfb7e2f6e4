"""The study in the database: created, found again, compared with its file.

A study carries what it needs to resume in its user attributes: ``specification`` (the study file,
every default written out), ``defaults_version`` (whose defaults), ``fingerprint`` (of the data),
``budget``, and ``checkpoints`` (where they are kept) if a place was named. Nothing else of it
depends on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import optuna
from optuna.study import StudyDirection
from pydantic import Field, ValidationError

from gru_optuna import study_file
from gru_optuna.attributes import (
    BASELINES,
    BUDGET,
    CALIBRATION,
    CHECKPOINTS,
    CONFIRMATION,
    CONFIRMATION_LEASES,
    CONFIRMATION_RUNS,
    CONFIRMATION_SECONDS,
    DATA_FILES,
    DEFAULTS_VERSION,
    FINGERPRINT,
    FITTED_BASELINES,
    FORMATS,
    FUTURE,
    PREDICTION_INTERVALS,
    PREDICTIONS,
    SPECIFICATION,
    TEST,
    WARM_START,
    WORKED_SECONDS,
    WORKED_UNTIL,
)
from gru_optuna.checkpoints.locations import own_place
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.errors import StudyError, UserError, did_you_mean
from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler
from gru_optuna.storage.database.open import owner_of
from gru_optuna.study.calibration import Calibration
from gru_optuna.study.confirmation import Decision
from gru_optuna.study.fitted_baselines import FittedBaselines
from gru_optuna.study.prediction_intervals import PredictionIntervals
from gru_optuna.study.records import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optuna import Study
    from optuna.storages import BaseStorage

    from gru_optuna.study_file import Specification

_T = TypeVar("_T")


def create_or_resume(
    storage: BaseStorage,
    spec: Specification,
    fingerprint: str,
    *,
    checkpoints: str | None = None,
    baselines: Mapping[str, float] | None = None,
    formats: Mapping[str, Any] | None = None,
    rows: int | None = None,
) -> Study:
    """The study of a study file, created if it doesn't exist.

    Parameters
    ----------
    storage
        The database.
    spec
        The study file; see `with_stored_defaults` for keys that it leaves out.
    fingerprint
        The fingerprint of its data.
    checkpoints
        The folder or ``s3://BUCKET/PREFIX`` below which this study's checkpoints are kept from
        now on, in a separate place; None: where they were.
    baselines
        What simpler predictions of the same rows reach, by name; the study file's are added.
    formats
        How the columns of the data are written, as `TableFormats.as_json` has it.
    rows
        How many training rows there are.

    Raises
    ------
    StudyError
        If a study of this name exists with another specification or other data, naming every
        field that differs; or if it wasn't created by this package.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = study_file.complete_pruner(spec, rows)
    written, spec = spec, spec.model_copy(update={"pruner": pruner})
    study = optuna.create_study(
        storage=storage,
        study_name=spec.name,
        directions=spec.directions,
        sampler=make_sampler(spec),
        pruner=make_pruner(spec),
        load_if_exists=True,
    )
    attributes = study.user_attrs
    if SPECIFICATION not in attributes:
        directions = [StudyDirection[direction.upper()] for direction in spec.directions]
        if study.get_trials(deepcopy=False) or study.directions != directions:
            raise _not_ours(spec.name)
        # New, or its creator died before this. The specification comes last: a study that has
        # one is whole.
        study.set_user_attr(FINGERPRINT, fingerprint)
        if formats:
            study.set_user_attr(FORMATS, dict(formats))
        study.set_user_attr(DEFAULTS_VERSION, study_file.VERSION)
        study.set_user_attr(SPECIFICATION, spec.model_dump(mode="json"))
    else:
        _refuse_changes(stored_specification(study), spec, written)
        if attributes[FINGERPRINT] != fingerprint:
            raise StudyError(
                f'study "{spec.name}": the data differ from those it was made with '
                f"({spec.data.train}). {about_formats(study, formats)}"
                f"Restore the old files, or give the study a new name."
            )
    if attributes.get(BUDGET) != (budget := spec.budget.model_dump(mode="json")):
        study.set_user_attr(BUDGET, budget)
    to_beat = {**(baselines or {}), **spec.baselines}
    if attributes.get(BASELINES, {}) != to_beat:
        study.set_user_attr(BASELINES, to_beat)
    if checkpoints is not None:
        study.set_user_attr(
            CHECKPOINTS,
            own_place(checkpoints, spec.name, attributes.get(CHECKPOINTS), owner_of(study)),
        )
    return study


def about_formats(study: Study, formats: Mapping[str, Any] | None) -> str:
    """A sentence about columns that are read differently now; empty where all are read alike."""
    before, now = study.user_attrs.get(FORMATS) or {}, dict(formats or {})
    if before == now:
        return ""
    return (
        f"They are also read differently: then {TableFormats.from_json(before)}, "
        f"now {TableFormats.from_json(now)}. What was learned then stays usable: "
        f"its report, and the bundles that were exported. "
    )


def with_stored_defaults(spec: Specification, storage: BaseStorage) -> Specification:
    """A study file whose left-out keys mean what they meant when its study was created.

    Without a study of this name in the database, they have today's defaults.
    """
    try:
        attributes = optuna.load_study(storage=storage, study_name=spec.name).user_attrs
    except KeyError:
        return spec
    if SPECIFICATION not in attributes:
        return spec
    version = attributes.get(DEFAULTS_VERSION, 1)
    return study_file.with_defaults_of(version, spec, _place(spec.name))


def load_study(storage: BaseStorage, name: str) -> tuple[Study, Specification]:
    """A study by its name, to look at.

    Raises
    ------
    StudyError
        If there is no study of this name, or it wasn't created by this package.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        known = [study.study_name for study in storage.get_all_studies()]
        raise StudyError(f'no study "{name}" here. {did_you_mean(name, known)}') from None
    if SPECIFICATION not in study.user_attrs:
        raise _not_ours(name)
    return study, stored_specification(study)


def load_studies(storage: BaseStorage) -> Iterator[tuple[Study, Specification | UserError]]:
    """Every study in a database that was created by this package, in the order of their names.

    A specification that can't be read is replaced by the error that says why.
    """
    for name in sorted(study.study_name for study in storage.get_all_studies()):
        study = optuna.load_study(storage=storage, study_name=name)
        if SPECIFICATION in study.user_attrs:
            try:
                spec: Specification | UserError = stored_specification(study)
            except UserError as error:
                spec = error
            yield study, spec


def stored_specification(study: Study) -> Specification:
    """The specification that a study was created with, and the budget it was last given.

    What else a study records is checked here, too, for whatever reads it later.

    Raises
    ------
    UserError
        If another program changed what the database holds, or a newer version wrote it.
    """
    attributes, place = study.user_attrs, _place(study.study_name)
    for key, kind in _RECORDS.items():
        if key in attributes:
            _read_record(place, key, partial(checked, kind, attributes[key]))
    content = dict(attributes[SPECIFICATION])
    content |= {"budget": attributes[BUDGET]} if BUDGET in attributes else {}
    version = attributes.get(DEFAULTS_VERSION, 1)
    return _read_record(
        place, SPECIFICATION, lambda: study_file.parse_stored(content, place, version)
    )


@dataclass(frozen=True)
class _Tested:
    number: int
    value: float


_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_RECORDS: dict[str, Any] = {
    SPECIFICATION: dict[str, Any],
    DEFAULTS_VERSION: int,
    FINGERPRINT: str,
    FORMATS: dict[str, Any] | None,
    DATA_FILES: dict[str, str],
    BUDGET: dict[str, Any],
    BASELINES: dict[str, float],
    FITTED_BASELINES: FittedBaselines | None,
    CHECKPOINTS: str,
    WORKED_SECONDS: _Seconds,
    WORKED_UNTIL: datetime,
    CONFIRMATION: Decision | None,
    CONFIRMATION_SECONDS: _Seconds,
    CONFIRMATION_RUNS: dict[str, tuple[float | None, int, int]],
    CONFIRMATION_LEASES: dict[str, tuple[int, int]],
    TEST: _Tested,
    PREDICTIONS: dict[str, Any] | None,
    FUTURE: dict[str, Any] | None,
    PREDICTION_INTERVALS: PredictionIntervals | None,
    CALIBRATION: Calibration | None,
    WARM_START: dict[str, Any],
}
"""Of what type each of a study's attributes is; None says that there is none any more."""


def _read_record(place: str, key: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # Not of the types that the record has, anywhere in it.
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise StudyError(
            f"{place}: its {key} can't be read ({reason}). Restore a backup, or delete the study."
        ) from None


def _place(name: str) -> str:
    return f'study "{name}" in the database'


def _not_ours(name: str) -> StudyError:
    return StudyError(
        f'study "{name}" was not made by gru-optuna: it holds no specification. '
        f"Choose another name."
    )


def _refuse_changes(stored: Specification, given: Specification, written: Specification) -> None:
    """Compares a stored study with the study file, complete and as it was written."""
    before, now, file = (
        _flat(spec.model_dump(mode="json", exclude={"baselines", "fit_baselines", "tries"}))
        for spec in (stored, given, written)
    )
    changed = [
        key
        for key in before | now
        if before.get(key) != now.get(key) and not _may_change(key, before.get(key), now.get(key))
    ]
    if {"training.epochs", "pruner.name"} & set(changed):
        # The pruner's defaults follow from these; only what was written counts as a change.
        changed = [key for key in changed if not key.startswith("pruner.") or file[key] is not None]
    if changed:
        raise StudyError(
            f'study "{given.name}" was made with another specification:\n'
            + "\n".join(
                f"  {key}: {before.get(key)} in the database, {now.get(key)} now" for key in changed
            )
            + "\nUndo the change, or give the study a new name."
        )


def _may_change(key: str, before: object, now: object) -> bool:
    """Whether a study may resume with another value of this key.

    The budget, how winners are confirmed, and where a file lies may change: whether the content
    of a file has changed, the fingerprint shows.
    """
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
