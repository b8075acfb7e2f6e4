"""A copy of a study in memory, brought into line with the database in one transaction.

Through Optuna's own storage, a trial of 7 parameters and 20 epochs is 30 write transactions and
hundreds of reads, which costs more than training a small GRU. Here samplers and pruners work on
the copy, and `Mirror.sync` does everything at once: it writes what has changed in this worker's
trials, records their checkpoints, reads what other workers did, and claims trials.

Each transaction locks and compares this worker's leases first, so a worker never writes to a trial
that another one has taken over. One that claims trials also holds the study's lock, so two workers
never claim the same trial. What others did is known from the table of changes, so a look costs as
much as has changed, not as much as there is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import optuna
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gru_optuna.attributes import DESCRIBED_AT
from gru_optuna.errors import DatabaseLost, StudyError
from gru_optuna.storage.database import tables
from gru_optuna.storage.database.open import begin_writing, now
from gru_optuna.storage.mirror import dashboard_notes
from gru_optuna.storage.mirror.change_log import Position, read_changed, read_position
from gru_optuna.storage.mirror.in_memory import Memory
from gru_optuna.storage.mirror.optuna_rows import (
    Changes,
    Written,
    new_trial,
    read_study_attrs,
    read_trials,
)
from gru_optuna.storage.mirror.study_attributes import StudyAttrs
from gru_optuna.storage.paused_trials import UNTIL, epochs_granted, is_ending, is_paused
from gru_optuna.storage.workers.leases import end_leases

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from optuna import Study
    from sqlalchemy import Connection, Engine

    from gru_optuna.checkpoints.checkpoint import Saved
    from gru_optuna.storage.workers.leases import Claim, Registration


@dataclass(frozen=True)
class EpochLimit:
    """A budget of epochs, from which every trial that gets a slot takes some."""

    most: int  # of all trials together
    wanted: Callable[[FrozenTrial], int]  # how many more a trial should train in its slot


PausedChoice: TypeAlias = "Callable[[list[FrozenTrial]], tuple[list[int], list[int]]]"


@dataclass
class _HeldTrial:
    """A trial that this worker holds."""

    trial_id: int  # in the database
    token: int
    written: Written
    deaths: int
    saved: dict[int, str]  # the names of its checkpoints, by epoch

    def superseded_by(self, newest: Saved, *, paused: bool) -> list[int]:
        """Epochs of the checkpoints that a new one replaces: all but the one before it.

        That one stays in case that the newest is damaged. Later ones were damaged, and their
        epochs were trained again. Paused trials, of which there may be many, keep one.
        """
        if paused:
            return list(self.saved)
        before = max((epoch for epoch in self.saved if epoch < newest.epoch), default=None)
        return [epoch for epoch in self.saved if epoch != before]


@dataclass(frozen=True)
class Synced:
    """What `Mirror.sync` found out."""

    claims: tuple[tuple[int, Claim], ...] = ()  # trials that are now ours, by number
    lost: tuple[int, ...] = ()  # numbers of trials that another worker has now
    superseded: tuple[str, ...] = ()  # names of checkpoints that no row names any more
    others_running: int = 0  # trials that others train; paused ones wait for anybody
    worked_seconds: float = 0.0


@dataclass
class _Draft:
    """What a transaction found out. Memory takes it over after the commit, never before: a
    transaction that fails has changed nothing."""

    read: list[FrozenTrial] = field(default_factory=list)
    changed: list[FrozenTrial] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    attrs: StudyAttrs | None = None
    position: Position | None = None


class Mirror:
    """A copy of a study in memory, which follows the study in the database.

    Parameters
    ----------
    study
        The study in the database, with its sampler and pruner.
    engine
        The database's.
    registration
        The worker that writes; None for a mirror that only reads.
    note_writer
        Writes the notes that optuna-dashboard shows.
    without
        Attributes of trials that nothing here reads. They are left out of trials that this worker
        doesn't hold, or a study of many trials would fill the memory with them.

    Attributes
    ----------
    study : optuna.Study
        The copy in memory, for suggesting parameters, reporting and telling.
    transactions : int
        How many transactions were committed.
    """

    def __init__(
        self,
        study: Study,
        engine: Engine,
        registration: Registration | None = None,
        note_writer: dashboard_notes.NoteWriter = dashboard_notes.SILENT,
        without: Collection[str] = (),
    ) -> None:
        self._engine = engine
        self._without = without
        self._registration = registration
        self._note_writer = note_writer
        self._study_id = study._study_id  # in the database
        self._memory = Memory()
        self._id = self._memory.create_new_study(study.directions, study.study_name)
        # Not through the study: it would also read the notes of its trials.
        with engine.connect() as connection:
            attrs = read_study_attrs(connection, self._study_id)
        self._attrs = StudyAttrs(self._study_id, *attrs)
        self._trial_ids: list[int] = []  # in the database, by number
        self._foreign: set[int] = set()  # numbers of running trials that aren't ours
        self._given_back: set[int] = set()  # ids of trials whose last reports weren't written
        self._mine: dict[int, _HeldTrial] = {}
        self._unsure = False  # whether the last transaction may or may not have been committed
        self.transactions = 0
        self._take_attrs(self._attrs)
        self._read_all()
        self.study = optuna.load_study(
            study_name=study.study_name,
            storage=self._memory,
            sampler=study.sampler,
            pruner=study.pruner,
        )

    @property
    def user_attrs(self) -> Mapping[str, Any]:
        """The study's user attributes, as the database last had them."""
        return self._attrs.user

    def trial(self, number: int) -> optuna.Trial:
        """The trial with this number, in memory."""
        return optuna.Trial(self.study, self._memory.id_of(self._id, number))

    def reported(self, number: int) -> tuple[float, ...]:
        """The metric of each epoch that a trial has reported."""
        return tuple(self._memory.trial(self._id, number).intermediate_values.values())

    def token(self, number: int) -> int:
        """The fencing token of a trial that this worker holds."""
        return self._mine[number].token

    def over(self) -> set[int]:
        """Numbers of trials whose ends are committed."""
        finished = (
            t.number for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()
        )
        return set(finished) - self._mine.keys()

    def _read_all(self) -> None:
        with self._engine.connect() as connection:
            # First: what changes while the trials are read is read again with the next look.
            self._position = read_position(connection, self._study_id)
            ids = connection.scalars(
                select(tables.trials.c.trial_id).where(tables.trials.c.study_id == self._study_id)
            ).all()
            trials = read_trials(connection, ids, without=self._without)
        for trial in trials:
            self._take(trial)

    def pull(self) -> None:
        """Reads what other workers did, and writes nothing."""
        draft = _Draft()
        with self._engine.connect() as connection:
            self._read(connection, draft)
            user, system = read_study_attrs(connection, self._study_id)
            draft.attrs = replace(self._attrs, user=user, system=system)
        self._accept(draft, {})

    def save_to(self, copy: Engine) -> None:
        """Writes what isn't committed yet to a copy of the database, and uses that from now on."""
        self._engine, self._unsure = copy, True
        # A trial that still runs resumes in the copy at its last checkpoint.
        unsaved = [n for n in self._mine if not self._memory.trial(self._id, n).state.is_finished()]
        self.sync(unsaved=unsaved, leaving=True)

    def sync(
        self,
        wanted: int = 0,
        limit: int | None = None,
        saved: Mapping[int, Saved] | None = None,
        give_back: Collection[int] = (),
        epochs_per_second: float = 0.0,
        unsaved: Collection[int] = (),
        *,
        leaving: bool = False,
        choose_paused: PausedChoice | None = None,
        epochs: EpochLimit | None = None,
    ) -> Synced:
        """Writes, reads and claims in one transaction.

        Parameters
        ----------
        wanted
            How many trials to claim.
        limit
            How many trials the study may ever begin; None: no limit.
        saved
            New checkpoints, by trial number.
        give_back
            Numbers of trials to release.
        epochs_per_second
            This worker's speed, for `status`.
        unsaved
            Numbers of running trials whose reports wait for their next checkpoint: a worker
            that adopts them starts at the last one and would report the same epochs again.
        leaving
            Whether this is the last time, when the time worked must be counted to the end.
        choose_paused
            Says, from all trials as they are under the study's lock, the numbers of the paused
            ones that may be claimed, in this order, and of those that are to be ended.
        epochs
            The limit of epochs of all trials together; None: no limit.

        Raises
        ------
        StudyError
            If the study was deleted.
        sqlalchemy.exc.SQLAlchemyError
            If the database fails. Then nothing was written, or the next call finds out what was.
        """
        asked = (
            wanted, limit, saved or {}, give_back, epochs_per_second, unsaved, leaving,
            choose_paused, epochs,
        )  # fmt: skip
        try:
            return self._sync(*asked)
        except IntegrityError:
            # A program that knows no leases wrote to one of our trials, so a row that we insert
            # is there already. The second attempt reads what the database holds first.
            return self._sync(*asked)

    def _sync(
        self,
        wanted: int,
        limit: int | None,
        saved: Mapping[int, Saved],
        give_back: Collection[int],
        epochs_per_second: float,
        unsaved: Collection[int],
        leaving: bool,
        choose_paused: PausedChoice | None,
        epochs: EpochLimit | None,
    ) -> Synced:
        assert self._registration is not None, "a mirror without a worker only reads"
        draft, at = _Draft(), time.monotonic()
        # Before the lock is taken: drawing the figures may take long, and all others would wait.
        description = None if leaving else self._note_writer.if_due(self.study, self._attrs)
        # A commit whose answer is lost may have happened. Until this one has answered, what the
        # database holds is unknown.
        sure, self._unsure = not self._unsure, True
        user, system = self.study.user_attrs, self._memory.get_study_system_attrs(self._id)
        # Even if nothing is wanted: silence is only known after watching for a while.
        watches = self._registration.is_time_to_watch(at, wanted)
        with self._engine.begin() as connection:
            # Most of what others did is read before the lock is taken, and only the rest within.
            self._read(connection, draft)
            if sure and not leaving and not description:
                draft.attrs = self._attrs.look(connection, user, system, at)
            locks = wanted > 0 or watches or draft.attrs is None
            if not begin_writing(connection, self._study_id, lock=locks):
                raise StudyError(f'study "{self.study.study_name}" was deleted by someone else.')
            # Before anything is written: that would number new changes as if nothing had happened.
            self._refuse_older(connection)
            self._registration.beat(connection, epochs_per_second)
            if not sure:
                self._find_out(connection)
            self._write(connection, draft, saved, unsaved)
            if locks or draft.lost:
                self._read(connection, draft)
            if description:
                dashboard_notes.write_description(connection, self._study_id, description)
                system = system | {DESCRIBED_AT: now(connection).isoformat()}
            if draft.attrs is None:
                draft.attrs = self._attrs.write(connection, user, system, at)
            if give_back:
                ids = [self._mine[n].trial_id for n in give_back if n in self._mine]
                self._registration.give_back(connection, ids)
            if wanted > 0 or watches:
                self._claim(connection, draft, wanted, limit, at, watches, choose_paused, epochs)
        self._unsure = False  # whether the last transaction may or may not have been committed
        self.transactions += 1
        return self._accept(draft, saved, give_back, at)

    def _claim(
        self,
        connection: Connection,
        draft: _Draft,
        wanted: int,
        limit: int | None,
        at: float,
        watches: bool,
        choose_paused: PausedChoice | None,
        epochs: EpochLimit | None,
    ) -> None:
        """Claims trials; which of the paused ones, and how far each trains, is decided here."""
        assert self._registration is not None
        trials: list[FrozenTrial] = []
        ids: dict[int, int] = {}
        if wanted > 0 and (choose_paused or epochs):
            trials, ids = self._current(draft)
        paused, over = choose_paused(trials) if choose_paused and trials else ([], [])
        left = None if epochs is None else max(0, epochs.most - epochs_granted(trials))
        draft.claims = self._registration.claim(
            connection, wanted, limit, at,
            watches=watches,
            paused=[ids[number] for number in paused],
            over=[ids[number] for number in over],
            most_to_train=left,
        )  # fmt: skip
        old = [claim.trial_id for claim in draft.claims if claim.created is None]
        claimed = read_trials(connection, old)
        claimed += [new_trial(c.trial_id, *c.created) for c in draft.claims if c.created]
        if epochs is not None and left is not None:
            self._grant(connection, draft.claims, claimed, left, epochs)
        draft.read += claimed

    def _current(self, draft: _Draft) -> tuple[list[FrozenTrial], dict[int, int]]:
        """All trials as they are in this transaction, and their ids in the database by number."""
        trials = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        ids = dict(enumerate(self._trial_ids))
        # What this transaction has read isn't in memory yet.
        trials |= {trial.number: trial for trial in draft.read}
        ids |= {trial.number: trial._trial_id for trial in draft.read}
        return [trials[number] for number in sorted(trials)], ids

    @staticmethod
    def _grant(
        connection: Connection,
        claims: Sequence[Claim],
        claimed: Sequence[FrozenTrial],
        left: int,
        epochs: EpochLimit,
    ) -> None:
        """Notes how far each claimed trial may train, so that all together keep to the limit."""
        by_id = {trial._trial_id: trial for trial in claimed}
        # One that was taken over has what its worker was granted.
        begun = [
            trial
            for claim in claims
            if not is_ending(trial := by_id[claim.trial_id])
            and (UNTIL not in trial.user_attrs or not claim.taken_over)
        ]
        changes = Changes()
        for position, trial in enumerate(begun):
            have, others = len(trial.intermediate_values), len(begun) - position - 1
            granted = max(0, min(epochs.wanted(trial), left - others))  # leaves each of them one
            left -= granted
            before = dict(trial.user_attrs)
            trial.user_attrs[UNTIL] = have + granted
            owner = {"trial_id": trial._trial_id}
            changes.attrs(models.TrialUserAttributeModel, owner, before, trial.user_attrs)
        changes.write(connection)

    def _refuse_older(self, connection: Connection) -> None:
        """Raises DatabaseLost if the file was overwritten by an older copy of itself."""
        path = self._engine.url.database
        if self._engine.dialect.name != "sqlite" or path is None:
            return
        # The newest change is never removed, except together with the study that it belongs to.
        newest = connection.scalar(select(func.max(tables.changes.c.change))) or 0
        if newest < self._position.before - 1:
            raise DatabaseLost(Path(path))

    def _find_out(self, connection: Connection) -> None:
        """Reads what the database holds after a transaction that may have been committed."""
        by_id = {mine.trial_id: mine for mine in self._mine.values()}
        for trial in read_trials(connection, list(by_id)):
            by_id[trial._trial_id].written = Written.of(trial)
        for mine in by_id.values():
            rows = tables.checkpoints.c
            found = select(rows.epoch, rows.name).where(rows.trial_id == mine.trial_id)
            mine.saved = {row.epoch: row.name for row in connection.execute(found)}
        user, system = read_study_attrs(connection, self._study_id)
        self._attrs = replace(self._attrs, user=user, system=system)
        # Claims whose answer was lost: the database says that they are ours, and memory knows
        # nothing of them. Once released, they can be claimed again.
        assert self._registration is not None
        unknown = self._registration.held(connection).keys() - by_id.keys()
        self._registration.give_back(connection, unknown)

    def _write(
        self,
        connection: Connection,
        draft: _Draft,
        saved: Mapping[int, Saved],
        unsaved: Collection[int],
    ) -> None:
        """Writes what has changed in the trials whose leases are still ours."""
        assert self._registration is not None
        # First the leases, which this locks: what is held now is held until the commit.
        held = self._registration.held(connection)
        changes, over, advanced, notes = Changes(), [], [], {}
        for number, mine in self._mine.items():
            trial = self._memory.trial(self._id, number)
            if trial.state.is_finished() and mine.written.state == trial.state:
                draft.changed.append(trial)  # committed before, and the answer was lost
                continue
            if held.get(mine.trial_id) != mine.token:
                draft.lost.append(number)
                continue
            if number in unsaved:
                continue
            if mine.written.differs_from(trial):
                changes.trial(trial, mine.written, mine.trial_id)
                draft.changed.append(trial)
            if trial.state.is_finished():
                over.append(mine.trial_id)
                notes[mine.trial_id] = self._note_writer.words(self.study, trial)
            elif number in saved:
                draft.noted.append(number)
            # An epoch further than where its workers died: the trial is no longer to blame.
            reported = len(trial.intermediate_values) > len(mine.written.reports)
            if mine.deaths and (reported or number in saved):
                advanced.append(mine.trial_id)
        changes.write(connection)
        self._note(connection, saved, draft.noted)
        dashboard_notes.write_trial_notes(connection, self._study_id, notes)
        if advanced:
            mine_advanced = tables.leases.c.trial_id.in_(advanced)
            connection.execute(update(tables.leases).where(mine_advanced).values(deaths=0))
        if over:
            end_leases(connection, over)

    def _note(
        self, connection: Connection, saved: Mapping[int, Saved], noted: Collection[int]
    ) -> None:
        """Records new checkpoints of these trials, and deletes those that they replace."""
        rows, old, new = tables.checkpoints, [], []
        for number in noted:
            mine, newest = self._mine[number], saved[number]
            paused = is_paused(self._memory.trial(self._id, number))
            replaced = mine.superseded_by(newest, paused=paused)
            old += [{"id": mine.trial_id, "at": epoch} for epoch in replaced]
            new.append(
                {
                    "trial_id": mine.trial_id,
                    "epoch": newest.epoch,
                    "name": newest.name,
                    "sha256": newest.sha256,
                    "content": newest.content,
                }
            )
        if old:
            same = (rows.c.trial_id == bindparam("id")) & (rows.c.epoch == bindparam("at"))
            connection.execute(delete(rows).where(same), old)
        if new:
            connection.execute(insert(rows), new)

    def _read(self, connection: Connection, draft: _Draft) -> None:
        """Reads the trials of others that are new or have changed, and those just lost."""
        since = draft.position or self._position
        changed, draft.position = read_changed(connection, self._study_id, since)
        mine = {held.trial_id for number, held in self._mine.items() if number not in draft.lost}
        again = {self._trial_ids[number] for number in draft.lost} | self._given_back
        wanted = [*again, *(of for of in changed if of not in again)]
        read = [of for of in wanted if of not in mine]
        # Most changes are reports of running trials.
        known = {
            self._trial_ids[number]: self._memory.trial(self._id, number)
            for number in (self._foreign if read else ())
            if self._trial_ids[number] not in again
        }
        draft.read += read_trials(connection, read, without=self._without, known=known)

    def _accept(
        self,
        draft: _Draft,
        saved: Mapping[int, Saved],
        give_back: Collection[int] = (),
        at: float | None = None,
    ) -> Synced:
        """Takes over into memory what a committed transaction found out."""
        # A lost trial's new checkpoint got no row either.
        superseded = {saved[number].name for number in draft.lost if number in saved}
        for number in draft.noted:
            mine, newest = self._mine[number], saved[number]
            paused = is_paused(self._memory.trial(self._id, number))
            replaced = mine.superseded_by(newest, paused=paused)
            superseded |= {mine.saved.pop(epoch) for epoch in replaced}
            # It is among them if it was committed before, and the answer was lost.
            superseded.discard(newest.name)
            mine.saved[newest.epoch] = newest.name
            mine.deaths = 0
        for trial in draft.changed:
            if trial.state.is_finished():
                del self._mine[trial.number]
                for key in self._without:
                    trial.user_attrs.pop(key, None)
            else:
                self._mine[trial.number].written = Written.of(trial)
        if draft.position is not None:
            self._position = draft.position
        self._release(draft.lost, give_back)
        # First, by the database's ids: `_take` replaces them with the ids in memory.
        by_id = {trial._trial_id: trial for trial in draft.read}
        for trial in draft.read:
            self._take(trial)
        claims = tuple((by_id[claim.trial_id].number, claim) for claim in draft.claims)
        for number, claim in claims:
            written = Written.of(by_id[claim.trial_id])
            names = {checkpoint.epoch: checkpoint.name for checkpoint in claim.checkpoints}
            mine = _HeldTrial(claim.trial_id, claim.token, written, claim.deaths, names)
            self._mine[number] = mine
            self._foreign.discard(number)
        if draft.attrs is not None and draft.attrs is not self._attrs:
            self._attrs = draft.attrs
            self._take_attrs(draft.attrs)
        worked = self._attrs.worked_seconds(time.monotonic() if at is None else at)
        return Synced(claims, tuple(draft.lost), tuple(superseded), len(self._foreign), worked)

    def _release(self, lost: Collection[int], give_back: Collection[int]) -> None:
        """Takes note that these trials are held no more."""
        self._given_back.clear()
        for number in (*lost, *give_back):
            if held := self._mine.pop(number, None):
                if not is_paused(self._memory.trial(self._id, number)):
                    self._foreign.add(number)
                if number in give_back:
                    # Memory holds reports that waited for a checkpoint; the database doesn't.
                    self._given_back.add(held.trial_id)

    def _take_attrs(self, attrs: StudyAttrs) -> None:
        for key, value in attrs.user.items():
            self._memory.set_study_user_attr(self._id, key, value)
        for key, value in attrs.system.items():
            self._memory.set_study_system_attr(self._id, key, value)

    def _take(self, trial: FrozenTrial) -> None:
        """Puts a trial that was read from the database into memory."""
        if trial.number == len(self._trial_ids):
            self._trial_ids.append(trial._trial_id)
        self._memory.put(self._id, trial)
        running = trial.state == TrialState.RUNNING and not is_paused(trial)
        if running and trial.number not in self._mine:
            self._foreign.add(trial.number)
        else:
            self._foreign.discard(trial.number)
