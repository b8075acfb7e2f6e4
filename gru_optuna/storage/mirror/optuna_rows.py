"""Optuna's tables, read and written many trials at a time.

Through Optuna's own storage each parameter, report and attribute is a transaction. Here a
trial's changes are the difference between what the database holds of it and what it is now.
"""

from __future__ import annotations

import gc
import json
import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import (
    Enum,
    Integer,
    String,
    any_,
    bindparam,
    func,
    insert,
    literal,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from sqlalchemy import ColumnElement, Connection, Select

_Part = TypeVar("_Part")
_ByTrial: TypeAlias = dict[int, list[_Part]]

_TOGETHER = 2000
"""Trials whose rows are in memory at the same time."""

_NOT_FINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}


@dataclass
class Written:
    """What the database holds of a trial, in copies: Optuna changes its own objects in place."""

    state: TrialState = TrialState.RUNNING
    params: set[str] = field(default_factory=set)
    reports: dict[int, float] = field(default_factory=dict)
    user_attrs: dict[str, Any] = field(default_factory=dict)
    system_attrs: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: FrozenTrial) -> Written:
        """A trial as it was just read or written."""
        return cls(
            trial.state,
            set(trial.params),
            dict(trial.intermediate_values),
            dict(trial.user_attrs),
            dict(trial.system_attrs),
        )

    def differs_from(self, trial: FrozenTrial) -> bool:
        """Whether the trial has changed since."""
        return (
            self.state != trial.state
            or self.params != trial.params.keys()
            or self.reports != trial.intermediate_values
            or self.user_attrs != trial.user_attrs
            or self.system_attrs != trial.system_attrs
        )


class Changes:
    """What a transaction is going to write, collected by table."""

    def __init__(self) -> None:
        self._inserts: dict[Any, list[dict[str, Any]]] = {}
        self._attrs: dict[tuple[Any, str], list[dict[str, Any]]] = {}
        self._endings: list[dict[str, Any]] = []

    def write(self, connection: Connection) -> None:
        """Writes everything, in at most two statements for each table."""
        for model, rows in self._inserts.items():
            connection.execute(insert(model.__table__), rows)
        for (model, owner), rows in self._attrs.items():
            table = model.__table__
            same = (table.c[owner] == bindparam("of")) & (table.c.key == bindparam("named"))
            connection.execute(update(table).where(same), rows)
        if self._endings:
            table = models.TrialModel.__table__
            same = table.c.trial_id == bindparam("of")
            connection.execute(update(table).where(same), self._endings)

    def trial(self, trial: FrozenTrial, written: Written, trial_id: int) -> None:
        """Adds what is new in a trial."""
        for name in trial.params.keys() - written.params:
            distribution = trial.distributions[name]
            self._add(
                models.TrialParamModel,
                trial_id=trial_id,
                param_name=name,
                param_value=distribution.to_internal_repr(trial.params[name]),
                distribution_json=distribution_to_json(distribution),
            )
        reports = models.TrialIntermediateValueModel
        for step in trial.intermediate_values.keys() - written.reports.keys():
            value, kind = reports.intermediate_value_to_stored_repr(trial.intermediate_values[step])
            self._add(
                reports,
                trial_id=trial_id,
                step=step,
                intermediate_value=value,
                intermediate_value_type=kind,
            )
        owner = {"trial_id": trial_id}
        self.attrs(models.TrialUserAttributeModel, owner, written.user_attrs, trial.user_attrs)
        self.attrs(
            models.TrialSystemAttributeModel, owner, written.system_attrs, trial.system_attrs
        )
        if trial.state.is_finished():
            self._ending(trial, trial_id)

    def attrs(
        self, model: Any, owner: dict[str, int], before: dict[str, Any], now: dict[str, Any]
    ) -> None:
        """Adds the attributes of one trial or study that are new or changed."""
        for key, value in now.items():
            if key not in before:
                self._add(model, **owner, key=key, value_json=json.dumps(value))
            elif before[key] != value:
                ((column, own),) = owner.items()
                row = {"of": own, "named": key, "value_json": json.dumps(value)}
                self._attrs.setdefault((model, column), []).append(row)

    def _add(self, model: Any, **row: Any) -> None:
        self._inserts.setdefault(model, []).append(row)

    def _ending(self, trial: FrozenTrial, trial_id: int) -> None:
        self._endings.append(
            {
                "of": trial_id,
                "state": trial.state,
                "datetime_complete": _utc(trial.datetime_complete),
            }
        )
        for objective, value in enumerate(trial.values or ()):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            self._add(
                models.TrialValueModel,
                trial_id=trial_id,
                objective=objective,
                value=stored,
                value_type=kind,
            )


def read_trials(
    connection: Connection,
    trial_ids: Sequence[int],
    *,
    without: Collection[str] = (),
    known: Mapping[int, FrozenTrial] | None = None,
) -> list[FrozenTrial]:
    """Trials as Optuna returns them, by number; ``_trial_id`` is the id in the database.

    Parameters
    ----------
    connection
        In any transaction.
    trial_ids
        Their ids in the database.
    without
        Attributes to leave out.
    known
        Running trials as they were before, by their ids in the database. Optuna adds parameters and
        reports and never changes any, so of a trial that still runs only the new ones are read.
    """
    found: list[FrozenTrial] = []
    collects = gc.isenabled()
    # The garbage collector would walk over everything that was read so far, again and again.
    gc.disable()
    try:
        if before := {of: known[of] for of in trial_ids if of in known} if known else {}:
            found += _read_running(connection, before, without)
            complete = {trial._trial_id for trial in found}
            trial_ids = [of for of in trial_ids if of not in complete]
        for start in range(0, len(trial_ids), _TOGETHER):
            found += _read(connection, trial_ids[start : start + _TOGETHER], without)
    finally:
        if collects:
            gc.enable()
    return sorted(found, key=lambda trial: trial.number)


def new_trial(trial_id: int, number: int, began: datetime) -> FrozenTrial:
    """A trial that has just begun (UTC), as `read_trials` would return it."""
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=_local(began),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )


def read_study_attrs(
    connection: Connection, study_id: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A study's user and system attributes, without those of optuna-dashboard."""
    user: dict[str, Any] = {}
    system: dict[str, Any] = {}
    attr_models: tuple[Any, ...] = (
        models.StudyUserAttributeModel,
        models.StudySystemAttributeModel,
    )
    both = union_all(
        *(
            select(literal(kind).label("kind"), model.key, model.value_json).where(
                model.study_id == study_id, model.key.not_like("dashboard:%")
            )
            for kind, model in enumerate(attr_models)
        )
    )
    for row in connection.execute(both):
        (user, system)[row.kind][row.key] = _decoded(row.value_json)
    return user, system


def _read(
    connection: Connection, trial_ids: Sequence[int], without: Collection[str]
) -> Iterator[FrozenTrial]:
    """Whole trials."""
    # Before the other rows: a trial that is over has all of them by then, and one that isn't is
    # read again next time.
    found = _rows(
        connection,
        models.TrialModel,
        ("number", "state", "datetime_start", "datetime_complete"),
        trial_ids,
    )
    params: _ByTrial[tuple[str, str, float]] = defaultdict(list)
    for trial_id, name, number, distribution in _rows(
        connection,
        models.TrialParamModel,
        ("param_name", "param_value", "distribution_json"),
        trial_ids,
        order=models.TrialParamModel.param_id,  # as they were suggested
    ):
        params[trial_id].append((name, distribution, number))
    values: _ByTrial[tuple[int, float]] = defaultdict(list)
    for trial_id, objective, number, kind in _rows(
        connection, models.TrialValueModel, ("objective", "value", "value_type"), trial_ids
    ):
        values[trial_id].append((objective, _number(number, kind)))
    reports: _ByTrial[tuple[int, float]] = defaultdict(list)
    for trial_id, step, number, kind in _rows(
        connection, models.TrialIntermediateValueModel, _REPORT, trial_ids
    ):
        reports[trial_id].append((step, _number(number, kind)))
    user = _attrs(connection, models.TrialUserAttributeModel, trial_ids, without)
    system = _attrs(connection, models.TrialSystemAttributeModel, trial_ids, without)
    for trial_id, number, state, started, completed in found:
        of_trial = params[trial_id]
        distributions = _distributions(tuple([(name, text) for name, text, _ in of_trial]))
        ended = TrialState[state].is_finished()
        yield FrozenTrial(
            number=number,
            state=TrialState[state],
            value=None,
            values=[v for _, v in sorted(values[trial_id])] or None,
            datetime_start=_local(started),
            datetime_complete=_local(completed),
            params={
                name: distributions[name].to_external_repr(stored) for name, _, stored in of_trial
            },
            # A handle on a trial that isn't over adds to its dictionaries in place.
            distributions=distributions if ended else dict(distributions),
            user_attrs=user[trial_id],
            system_attrs=system[trial_id],
            intermediate_values=dict(sorted(reports[trial_id])),
            trial_id=trial_id,
        )


def _read_running(
    connection: Connection, known: Mapping[int, FrozenTrial], without: Collection[str]
) -> Iterator[FrozenTrial]:
    """Known trials that still run with the same parameters; others are left out."""
    counted = connection.execute(
        _growth_query(connection.dialect.name), {"among": _listed(connection, list(known))}
    )
    reported = {
        of: reports for of, params, reports in counted.all() if params == len(known[of].params) > 0
    }
    more = {
        of: next(reversed(known[of].intermediate_values), -1)
        for of, count in reported.items()
        if count != len(known[of].intermediate_values)
    }
    new: _ByTrial[tuple[int, float]] = defaultdict(list)
    for of, step, number, kind in _reports_after(connection, more) if more else ():
        new[of].append((step, _number(number, kind)))
    # Otherwise a report of an earlier step was added, or one was deleted.
    complete = [
        of
        for of, count in reported.items()
        if len(known[of].intermediate_values) + len(new[of]) == count
    ]
    user = _attrs(connection, models.TrialUserAttributeModel, complete, without)
    system = _attrs(connection, models.TrialSystemAttributeModel, complete, without)
    for of in complete:
        before = known[of]
        yield FrozenTrial(
            number=before.number,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=before.datetime_start,
            datetime_complete=None,
            params=dict(before.params),
            distributions=dict(before.distributions),
            user_attrs=user[of],
            system_attrs=system[of],
            intermediate_values=before.intermediate_values | dict(sorted(new[of])),
            trial_id=of,
        )


_REPORT = ("step", "intermediate_value", "intermediate_value_type")


def _rows(
    connection: Connection,
    model: Any,
    names: tuple[str, ...],
    trial_ids: Sequence[int],
    unless: Collection[str] = (),
    order: Any = None,
) -> Sequence[Any]:
    """Rows of some trials: the trial's id, and these columns."""
    query = _rows_query(connection.dialect.name, model, names, tuple(unless), order)
    return connection.execute(query, {"among": _listed(connection, trial_ids)}).all()


def _reports_after(connection: Connection, steps: Mapping[int, int]) -> Sequence[Any]:
    """Each trial's reports after its step."""
    if connection.dialect.name == "postgresql":
        bound: dict[str, Any] = {"of": list(steps), "after": list(steps.values())}
    else:
        bound = {"pairs": json.dumps(list(steps.items()))}
    return connection.execute(_reports_query(connection.dialect.name), bound).all()


# Queries are made once: with hundreds of trials that have changed, making them took as long as
# what they read.
@cache
def _rows_query(
    dialect: str, model: Any, names: tuple[str, ...], unless: tuple[str, ...], order: Any
) -> Select[Any]:
    table = model.__table__.c
    query = select(table.trial_id, *_plain(model, names)).where(_among(dialect, table.trial_id))
    query = query.order_by(order)
    return query.where(table.key.not_in(unless)) if unless else query


@cache
def _growth_query(dialect: str) -> Select[Any]:
    """How many parameters and reports the running ones of some trials have."""
    trials = models.TrialModel.__table__
    parts: tuple[Any, ...] = (models.TrialParamModel, models.TrialIntermediateValueModel)
    counts = [
        select(func.count())
        .where(part.__table__.c.trial_id == trials.c.trial_id)
        .correlate(trials)
        .scalar_subquery()
        for part in parts
    ]
    running = trials.c.state == TrialState.RUNNING
    return select(trials.c.trial_id, *counts).where(_among(dialect, trials.c.trial_id), running)


@cache
def _reports_query(dialect: str) -> Select[Any]:
    table = models.TrialIntermediateValueModel.__table__.c
    trial_id: ColumnElement[int]
    after: ColumnElement[int]
    if dialect == "postgresql":
        listed = func.unnest(bindparam("of", type_=_INTEGERS), bindparam("after", type_=_INTEGERS))
        columns = listed.table_valued("of", "step").render_derived().c
        trial_id, after = columns.of, columns.step
    else:
        pair = func.json_each(bindparam("pairs")).table_valued("value").c.value
        trial_id, after = (func.json_extract(pair, f"$[{i}]") for i in (0, 1))
    query = select(table.trial_id, *_plain(models.TrialIntermediateValueModel, _REPORT))
    return query.where(table.trial_id == trial_id, table.step > after)


def _plain(model: Any, names: Sequence[str]) -> list[Any]:
    """Columns as the driver returns them: SQLAlchemy would look up each kind in its enum."""
    columns = [model.__table__.c[name] for name in names]
    return [type_coerce(c, String) if isinstance(c.type, Enum) else c for c in columns]


def _attrs(
    connection: Connection, model: Any, trial_ids: Sequence[int], without: Collection[str]
) -> dict[int, dict[str, Any]]:
    """User or system attributes of some trials."""
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    rows = _rows(connection, model, ("key", "value_json"), trial_ids, without)
    for (trial_id, key, _), value in zip(
        rows, decoded([row.value_json for row in rows]), strict=True
    ):
        found[trial_id][key] = value
    return found


def decoded(texts: Sequence[str]) -> list[Any]:
    """Attributes' values. One that isn't JSON stays a text: only another program can write it."""
    # All at once: a call of the decoder costs more than what it decodes.
    with suppress(ValueError, RecursionError):
        values = json.loads(f"[{','.join(texts)}]")
        if len(values) == len(texts):
            return list(values)
    return [_decoded(text) for text in texts]


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_INTEGERS = postgresql.ARRAY(Integer)


def _among(dialect: str, trial_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether an id is one of those in `_listed`."""
    if dialect == "postgresql":
        return trial_id == any_(bindparam("among", type_=_INTEGERS))
    listed = func.json_each(bindparam("among")).table_valued("value")
    return trial_id.in_(select(listed.c.value))


def _listed(connection: Connection, trial_ids: Sequence[int]) -> Any:
    """Ids as one parameter, however many there are."""
    ids = list(trial_ids)
    return ids if connection.dialect.name == "postgresql" else json.dumps(ids)


@lru_cache(maxsize=4096)
def _distributions(of: tuple[tuple[str, str], ...]) -> dict[str, BaseDistribution]:
    """Distributions by parameter, from their names and JSON.

    Trials that are over share the dictionary.
    """
    return {name: json_to_distribution(text) for name, text in of}


def _number(stored: float | None, kind: str) -> float:
    """A value or report, as Optuna's tables hold it."""
    return stored if kind == "FINITE" and stored is not None else _NOT_FINITE[kind]


def _utc(local: datetime | None) -> datetime | None:
    """A time as Optuna's tables hold it: in UTC, without a zone."""
    return local.astimezone(UTC).replace(tzinfo=None) if local else None


def _local(utc: datetime | None) -> datetime | None:
    """A time as Optuna's trials hold it: local, without a zone."""
    return utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if utc else None
