"""Studies in the queue: submitted, listed, suspended, continued, given more budget, deleted.

A submission is a study file and the uploads that it reads (``storage/uploads.py``). `submit` checks
and stores it, and a worker of the queue does the rest: it creates Optuna's study, searches,
confirms and reports. `change` says what is wanted of it, and `delete` removes it. Nothing here
imports torch, so that a server can call all of it.

What is wanted of a study is stored: queued, suspended or cancelled. What it is doing is derived
from the database at each look, by `get` and `list_all`, also for studies that `tune` made:

queued      it waits for a worker
running     a worker trains its trials
suspended   it was suspended: its workers have left it, or leave after the epoch in flight
confirming  its search is over, and its winner is being confirmed, or will be
done        nothing is left to do
failed      a worker met an error, which is in `QueuedStudy.error`
cancelled   it was cancelled

A failed study that is changed to ``queued`` is tried again.

Files: a study file names each of its files, as ``train = "speakers.csv"``, and `submit` is told
which upload that is, as ``{"train": SHA256}``. A path of the form ``SHA256/NAME`` (`Upload.path`)
says so itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import optuna
from optuna.trial import TrialState
from pydantic import ValidationError
from sqlalchemy import func, insert, select, update

from gru_optuna import study_file
from gru_optuna.attributes import (
    BUDGET,
    CONFIRMATION,
    DATA_FILES,
    DEFAULTS_VERSION,
    SPECIFICATION,
    WORKED_SECONDS,
    WORKED_UNTIL,
)
from gru_optuna.errors import StudyError, StudyFileError, did_you_mean
from gru_optuna.storage.database.open import begin_queue_change, now, open_storage
from gru_optuna.storage.database.tables import (
    jobs,
    queue_workers,
    reports,
    studies,
    study_attributes,
    submissions,
    trials,
    uploads,
    workers,
)
from gru_optuna.storage.jobs import FAILED, Job, remove
from gru_optuna.storage.uploads import is_sha256, remove_contents
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS
from gru_optuna.study.budget import is_over, trial_limit
from gru_optuna.study.data_files import named_files
from gru_optuna.study_file import Budget
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn, Self

    from sqlalchemy import Connection, Engine, Row

    from gru_optuna.study_file import Specification

Wanted: TypeAlias = Literal["queued", "suspended", "cancelled"]

WANTED: tuple[Wanted, ...] = ("queued", "suspended", "cancelled")

_OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
_ATTRIBUTES = (
    SPECIFICATION, BUDGET, DEFAULTS_VERSION, WORKED_SECONDS, WORKED_UNTIL, CONFIRMATION, DATA_FILES
)  # fmt: skip
_LONGEST_KEY = 255


@dataclass(frozen=True)
class Submission:
    """What was submitted, and what is wanted of it."""

    name: str
    toml: str
    data: dict[str, str]  # sha256 of the upload, by part: train, validation, test
    state: Wanted
    budget: dict[str, Any] | None  # in place of the study file's
    error: str | None
    submitted_at: datetime  # UTC
    submitted_by: str | None
    version: int  # rises with every change

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """A submission from its row."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})

    def specification(self) -> Specification:
        """The study file, with the budget that is in force.

        Raises
        ------
        StudyFileError
            If this version refuses what an earlier one accepted.
        """
        spec = study_file.loads(self.toml, f'study file of "{self.name}"')
        if self.budget is not None:
            spec = spec.model_copy(update={"budget": Budget.model_validate(self.budget)})
        return spec


@dataclass(frozen=True)
class QueuedStudy:
    """A study at one moment, whether it was submitted or `tune` made it."""

    name: str
    state: str  # derived; see above
    error: str | None
    submission: Submission | None  # None: `tune` made it
    study_id: int | None  # Optuna's; None: no worker has created it yet, or only half of it
    trials: dict[str, int]  # by state: complete, pruned, running, waiting, fail
    workers: int
    worked_until: str | None  # when a worker last committed, the database's clock; None: never
    files: dict[str, str] = field(default_factory=dict)  # as `study.data_files` stores them
    spec: Specification | None = None  # None: it can't be read, which `error` explains

    @property
    def ended(self) -> int:
        """How many trials have ended."""
        return sum(self.trials[state.name.lower()] for state in _OVER)

    @property
    def waits_since(self) -> tuple[str, str, int]:
        """A key by which the study that waits longest comes first, new ones before all others."""
        since = self.submission.submitted_at.isoformat() if self.submission else ""
        return self.worked_until or "", since, self.study_id or 0

    @property
    def wants_work(self) -> bool:
        """Whether a worker should search."""
        return self.state in ("queued", "running")


def submit(
    engine: Engine,
    toml: str,
    data: Mapping[str, str] | None = None,
    by: str | None = None,
    key: str | None = None,
) -> Submission:
    """Puts a study into the queue.

    Parameters
    ----------
    engine
        The database's.
    toml
        The text of the study file, which also says its name.
    data
        The sha256 of the upload for each file that it names: by part (train, validation, test).
    by
        Who submits it.
    key
        An idempotency key: the same submission under the same key is made once, and returned
        again.

    Raises
    ------
    StudyFileError
        If the study file is wrong, with all mistakes and their places; or if a file that it names
        was not uploaded.
    StudyError
        If there is a study of this name, or the key was used for another submission.
    """
    spec = study_file.loads(toml, "study file")
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        raise StudyError(f"an idempotency key has 1 to {_LONGEST_KEY} characters.")
    found = _uploads_of(spec, data or {})
    body = hashlib.sha256(json.dumps([toml, found], sort_keys=True).encode()).hexdigest()
    with engine.begin() as connection:
        begin_queue_change(connection)
        if key is not None and (made := _under_key(connection, key, body)):
            return made
        # The same rows that `uploads.delete` looks at, under the same lock.
        known = set(connection.scalars(select(uploads.c.sha256)))
        for part, sha256 in found.items():
            if sha256 not in known:
                raise StudyFileError(
                    f"study file [data.{part}]: no file with the SHA-256 {sha256} is stored here. "
                    f"Upload it first."
                )
        if _exists(connection, spec.name):
            raise StudyError(
                f'there is already a study "{spec.name}" here. Give this one another name.'
            )
        row = {
            "name": spec.name,
            "toml": toml,
            "data": found,
            "state": "queued",
            "submitted_at": now(connection),
            "submitted_by": by,
            "idempotency_key": key,
            "body_sha256": body,
            "version": 1,
        }
        made_row = connection.execute(insert(submissions).values(row).returning(submissions)).one()
        return Submission.of(made_row)


def get(engine: Engine, name: str) -> QueuedStudy:
    """A study as it is now.

    Raises
    ------
    StudyError
        If there is none of this name.
    """
    with engine.connect() as connection:
        found = _look(connection, name)
        if found:
            return found[0]
        known = {*connection.scalars(select(submissions.c.name))}
        known |= {*connection.scalars(select(studies.c.study_name))}
    raise StudyError(f'no study "{name}" here. {did_you_mean(name, known)}')


def list_all(engine: Engine) -> list[QueuedStudy]:
    """Every study that was submitted or made by this package, in the order of their names."""
    with engine.connect() as connection:
        return sorted(_look(connection, None), key=lambda study: study.name)


def wanted_state(engine: Engine, name: str) -> str | None:
    """What is wanted of a submitted study; None if there is no such submission."""
    with engine.connect() as connection:
        state: str | None = connection.scalar(
            select(submissions.c.state).where(submissions.c.name == name)
        )
        return state


def change(
    engine: Engine,
    name: str,
    *,
    state: Wanted | None = None,
    budget: Mapping[str, Any] | None = None,
    version: int | None = None,
) -> Submission:
    """Changes what is wanted of a submitted study.

    Parameters
    ----------
    engine
        The database's.
    name
        The study's.
    state
        queued continues a suspended study and tries a failed one again; suspended lets its workers
        leave it after the epoch in flight; cancelled ends it for good.
    budget
        The keys of ``[budget]`` to change, as ``{"trials": 60}``; None removes a limit.
    version
        The version that the caller has seen; None: whichever it is.

    Raises
    ------
    StudyError
        If there is no such submission, it has another version (`OtherVersion`), it was cancelled,
        or the budget is wrong or below what was used.
    """
    with engine.begin() as connection:
        begin_queue_change(connection)
        row = connection.execute(select(submissions).where(submissions.c.name == name)).first()
        if row is None:
            _refuse_unsubmitted(connection, name)
        before = Submission.of(row)
        if version is not None and version != before.version:
            raise OtherVersion(
                f'study "{name}" has changed meanwhile: it has version {before.version} now, not '
                f"{version}. Read it again, and repeat the change."
            )
        values: dict[str, Any] = {}
        if state is not None:
            if state not in WANTED:
                raise StudyError(f'state = "{state}". {did_you_mean(state, WANTED)}')
            if before.state == "cancelled" and state != "cancelled":
                raise StudyError(f'study "{name}" was cancelled. Submit it under another name.')
            values["state"] = state
            if state == "queued":
                values["error"] = None
                # A confirmation that failed is tried again, too.
                connection.execute(
                    jobs.delete().where(
                        jobs.c.study == name,
                        jobs.c.kind == "confirm",
                        jobs.c.state == FAILED,
                    )
                )
        if budget is not None:
            values["budget"] = _set_budget(connection, before, budget)
        changed = connection.execute(
            update(submissions)
            .where(submissions.c.name == name)
            .values(version=before.version + 1, **values)
            .returning(submissions)
        ).one()
        return Submission.of(changed)


def delete(engine: Engine, name: str) -> None:
    """Deletes a submission, its jobs and Optuna's study; its workers leave it.

    What its jobs made is deleted, too. Its data stay until `uploads.delete` removes them.

    Raises
    ------
    StudyError
        If there is no such submission. A study that `tune` made is not deleted here.
    """
    # First, so that no worker begins anew with what is half deleted when this process dies.
    change(engine, name, state="cancelled")
    storage = open_storage(engine.url.render_as_string(hide_password=False))
    with suppress(KeyError):  # no worker has created it yet
        optuna.delete_study(study_name=name, storage=storage)
    with engine.begin() as connection:
        begin_queue_change(connection)
        own = select(jobs.c.job_id).where(jobs.c.study == name)
        contents = remove(connection, connection.scalars(own).all())
        connection.execute(submissions.delete().where(submissions.c.name == name))
    remove_contents(engine, contents)


def set_error(engine: Engine, name: str, error: str) -> None:
    """Notes why a submitted study failed; of any other nothing is noted."""
    with engine.begin() as connection:
        begin_queue_change(connection)
        connection.execute(
            update(submissions)
            .where(submissions.c.name == name)
            .values(error=error, version=submissions.c.version + 1)
        )


class OtherVersion(StudyError):  # noqa: N818 (what was found)
    """Somebody else has changed the study since the caller looked at it."""


def _uploads_of(spec: Specification, given: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of the upload for each part that names a file."""
    named = named_files(spec)
    for part, sha256 in given.items():
        if part not in named:
            raise StudyFileError(
                f'study file [data]: "{part}" names no file. {did_you_mean(part, named)}'
            )
        if not is_sha256(sha256):
            raise StudyFileError(
                f'study file [data.{part}]: "{sha256[:80]}" is not a SHA-256 in hexadecimal.'
            )
    found = {}
    for part, path in named.items():
        pieces = path.split("/")
        if not all(map(is_plain_name, pieces)):
            raise StudyFileError(
                f'study file [data.{part}]: "{path[:80]}" leads out of the study\'s own folder. '
                f"Give the name of an uploaded file."
            )
        sha256 = given.get(part, pieces[0] if len(pieces) == 2 else "")
        if not is_sha256(sha256):
            raise StudyFileError(
                f'study file [data.{part}]: "{path[:80]}" was not uploaded. Upload it, and name '
                f'its SHA-256, as {part} = "SHA256/{PurePosixPath(path).name[:80]}".'
            )
        found[part] = sha256
    return found


def _under_key(connection: Connection, key: str, body: str) -> Submission | None:
    row = connection.execute(
        select(submissions).where(submissions.c.idempotency_key == key)
    ).one_or_none()
    if row is None:
        return None
    if row.body_sha256 != body:
        raise KeyUsed(
            f'the idempotency key "{key}" was used for another submission (study "{row.name}"). '
            f"Choose a new key."
        )
    return Submission.of(row)


class KeyUsed(StudyError):  # noqa: N818 (what was found)
    """An idempotency key was used for something else."""


def _exists(connection: Connection, name: str) -> bool:
    submitted = select(submissions.c.name).where(submissions.c.name == name)
    made = select(studies.c.study_name).where(studies.c.study_name == name)
    return connection.scalar(submitted) is not None or connection.scalar(made) is not None


def _refuse_unsubmitted(connection: Connection, name: str) -> NoReturn:
    if _exists(connection, name):
        raise StudyError(
            f'study "{name}" was made with gru-optuna tune, which alone changes it: run tune again '
            f"with another budget."
        )
    known = connection.scalars(select(submissions.c.name))
    raise StudyError(f'no study "{name}" here. {did_you_mean(name, known)}')


def _set_budget(
    connection: Connection, submission: Submission, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The budget with these changes, also written to Optuna's study, where workers see it."""
    before = submission.specification().budget
    limits = before.model_dump() | dict(given)
    if all(limit is None for limit in limits.values()):
        raise StudyError("budget: no limit would be left. Give trials, epochs or hours.")
    try:
        after = Budget.model_validate(limits)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("budget", *detail["loc"])))
        if detail["type"] == "extra_forbidden":
            known = did_you_mean(str(detail["loc"][-1]), Budget.model_fields)
            raise StudyError(f"{place}: unknown key. {known}") from None
        raise StudyError(f"{place}: got {detail['input']!r}: {detail['msg']}.") from None
    (study,) = _look(connection, submission.name)
    content = after.model_dump(mode="json")
    if study.study_id is None:
        return content
    for key, used in _used(connection, study).items():
        limit = getattr(after, key)
        if limit is not None and limit < used:
            raise StudyError(
                f"budget.{key}: {limit:g} is below what was used already ({used:g}). Give at "
                f"least that, or suspend the study."
            )
    is_lower = any(
        new is not None and old is not None and new < old
        for new, old in ((getattr(after, key), getattr(before, key)) for key in content)
    )
    if is_lower and study.workers:
        # Workers that joined with the larger budget would restore it.
        raise StudyError(
            "budget: it can't be made smaller while workers use it. Suspend the study first."
        )
    connection.execute(
        update(study_attributes)
        .where(study_attributes.c.study_id == study.study_id, study_attributes.c.key == BUDGET)
        .values(value_json=json.dumps(content))
    )
    return content


def _used(connection: Connection, study: QueuedStudy) -> dict[str, float]:
    """How much of each limit of its budget a study has used."""
    assert study.study_id is not None
    begun = sum(study.trials.values()) - study.trials["waiting"]
    attrs = _attributes(connection, study.name).get(study.study_id, {})
    return {
        "trials": begun,
        "epochs": _epochs(connection, study.study_id),
        "hours": round(float(attrs.get(WORKED_SECONDS, 0.0)) / 3600, 3),
    }


def _epochs(connection: Connection, study_id: int) -> int:
    """How many epochs the trials of a study have reported."""
    query = select(func.count()).select_from(reports).join(trials)
    return connection.scalar(query.where(trials.c.study_id == study_id)) or 0


def _attributes(connection: Connection, name: str | None) -> dict[int, dict[str, Any]]:
    """The user attributes that matter here, by study."""
    columns = study_attributes.c
    query = select(columns.study_id, columns.key, columns.value_json).where(
        columns.key.in_(_ATTRIBUTES)
    )
    if name is not None:
        query = query.join(studies).where(studies.c.study_name == name)
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in connection.execute(query):
        found[row.study_id][row.key] = json.loads(row.value_json)
    return found


def _look(connection: Connection, name: str | None) -> list[QueuedStudy]:
    """One study, or all of them."""
    submitted = select(submissions)
    counts = (
        select(studies.c.study_id, studies.c.study_name, trials.c.state, func.count(trials.c.state))
        .outerjoin(trials)
        .group_by(studies.c.study_id, studies.c.study_name, trials.c.state)
    )
    confirming = select(jobs).where(jobs.c.kind == "confirm").order_by(jobs.c.job_id)
    if name is not None:
        submitted = submitted.where(submissions.c.name == name)
        counts = counts.where(studies.c.study_name == name)
        confirming = confirming.where(jobs.c.study == name)
    by_name = {row.name: Submission.of(row) for row in connection.execute(submitted)}
    trials_of: dict[str, Counter[str]] = {key: Counter() for key in by_name}
    ids: dict[str, int] = {}
    for study_id, study, state, count in connection.execute(counts):
        ids[study] = study_id
        trials_of.setdefault(study, Counter())[state.name.lower() if state else ""] += count
    attributes = _attributes(connection, name)
    last_job = {row.study: Job(**row._mapping) for row in connection.execute(confirming)}
    at_work = count_workers(connection)
    found = []
    for study, counted in trials_of.items():
        study_id = ids.get(study)
        own = attributes.get(study_id, {}) if study_id is not None else {}
        submission = by_name.get(study)
        if submission is None and SPECIFICATION not in own:
            continue  # another program's
        looked = QueuedStudy(
            study,
            "queued",
            submission.error if submission else None,
            submission,
            study_id if SPECIFICATION in own else None,
            {state.name.lower(): counted[state.name.lower()] for state in TrialState},
            at_work[study],
            own.get(WORKED_UNTIL),
            own.get(DATA_FILES, {}),
        )
        job = last_job.get(study)
        if job is not None and job.state == FAILED and job.request.get("ended") == looked.ended:
            looked = replace(looked, error=looked.error or job.error)
        found.append(_with_state(connection, looked, own, job))
    return found


def _with_state(
    connection: Connection, study: QueuedStudy, own: Mapping[str, Any], job: Job | None
) -> QueuedStudy:
    """The study with its specification and what it is doing."""
    try:
        study = replace(study, spec=_specification(study, own))
    except (StudyFileError, ValidationError, TypeError, LookupError, AttributeError) as error:
        return replace(study, state="failed", error=study.error or str(error))
    wanted = "queued" if study.submission is None else study.submission.state
    if wanted == "cancelled":
        state: str = wanted
    elif study.error is not None:
        state = "failed"
    elif _is_searched(connection, study, own) and _is_confirmed(study, own, job):
        state = "done"
    elif wanted == "suspended":
        state = wanted
    elif _is_searched(connection, study, own):
        state = "confirming"
    else:
        state = "running" if study.workers else "queued"
    return replace(study, state=state)


def _specification(study: QueuedStudy, own: Mapping[str, Any]) -> Specification:
    if SPECIFICATION not in own:
        assert study.submission is not None
        return study.submission.specification()
    content = own[SPECIFICATION] | ({"budget": own[BUDGET]} if BUDGET in own else {})
    return _parsed(json.dumps(content), study.name, own.get(DEFAULTS_VERSION, 1))


@lru_cache(maxsize=1024)  # of many studies, few change between two looks
def _parsed(content: str, name: str, version: int) -> Specification:
    return study_file.parse_stored(json.loads(content), f'study "{name}" in the database', version)


def _is_searched(connection: Connection, study: QueuedStudy, own: Mapping[str, Any]) -> bool:
    """Whether no trial is left to train; as `tune` sees it."""
    # Running ones that are paused, too: a worker has to end them.
    if study.spec is None or study.study_id is None or study.trials["running"]:
        return False
    spec, begun = study.spec, sum(study.trials.values()) - study.trials["waiting"]
    limit = trial_limit(spec)
    worked = float(own.get(WORKED_SECONDS, 0.0))
    return (
        (limit is not None and begun >= limit)
        or (spec.budget.hours is not None and is_over(spec, worked))
        or (
            spec.budget.epochs is not None
            and _epochs(connection, study.study_id) >= spec.budget.epochs
        )
    )


def _is_confirmed(study: QueuedStudy, own: Mapping[str, Any], job: Job | None) -> bool:
    """Whether nothing is left to do after the search."""
    if job is not None and (not job.is_over or job.request.get("ended") == study.ended):
        return job.is_over
    if study.submission is not None:
        return False  # its report is still to be made
    assert study.spec is not None
    if not study.spec.confirmation.candidates or study.ended == study.trials["fail"]:
        return True
    decision = own.get(CONFIRMATION) or {}
    made, until = decision.get("made_at"), own.get(WORKED_UNTIL)
    if made is None or until is None:
        return bool(decision)
    # Made after the last trial ended, or else the search has gone on since. A second, because a
    # decision's time is cut to whole seconds.
    made_at = datetime.fromisoformat(made).replace(tzinfo=None)
    return made_at + timedelta(seconds=1) >= datetime.fromisoformat(until)


def count_workers(connection: Connection) -> Counter[str]:
    """How many living workers each study has, by its name: of the queue, and with its name."""
    alive = now(connection) - timedelta(seconds=LEASE_SECONDS)
    counted: Counter[str] = Counter()
    of_queue = set()
    for row in connection.execute(select(queue_workers).where(queue_workers.c.beaten_at >= alive)):
        of_queue.add((row.host, row.process))
        if row.study is not None:
            counted[row.study] += 1
    named = select(studies.c.study_name, workers.c.host, workers.c.process).join(
        workers, workers.c.study_id == studies.c.study_id
    )
    for row in connection.execute(named.where(workers.c.beaten_at >= alive)):
        # A worker of the queue that trains is in both tables.
        counted[row.study_name] += (row.host, row.process) not in of_queue
    return counted
