"""The loop: claim trials, train them together, report every epoch, end them, claim the next.

A worker may die at any instant. Any other worker then continues its trials, under the same
numbers, from the reports and checkpoints that it committed last. What a trial computes depends on
its parameters and seed alone, so its curve is the one that it would have had.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna import seeds
from gru_optuna.attributes import BUDGET
from gru_optuna.checkpoints.checkpoint import DamagedCheckpoint
from gru_optuna.errors import (
    Diverged,
    GRUOptunaError,
    OutOfMemory,
    StorageError,
    StudyFailed,
    TrialFailed,
)
from gru_optuna.search import space
from gru_optuna.search.constraints import ConstrainedSampler
from gru_optuna.search.samplers import SeededSampler
from gru_optuna.search.thaw import Thaw
from gru_optuna.storage.mirror.mirror import EpochLimit
from gru_optuna.storage.optuna_private import report
from gru_optuna.storage.paused_trials import (
    PAUSED,
    UNTIL,
    epochs_granted,
    is_ending,
    is_paused,
)
from gru_optuna.storage.workers.leases import MOST_DEATHS
from gru_optuna.study import budget
from gru_optuna.study.trial_attributes import (
    BEST_EPOCH,
    TrialAttributes,
    epochs_over,
    hours_over,
    paused_outcome,
    pruned_outcome,
)
from gru_optuna.study_file import SIZE
from gru_optuna.training.slot import EpochResult
from gru_optuna.worker.commits import LEAVE_SECONDS, STANDBY_SECONDS, Commits
from gru_optuna.worker.events import (
    BudgetChanged,
    CheckpointDamaged,
    EpochTrained,
    FewerSlots,
    LeaseLost,
    StandingBy,
    TrialEnded,
    TrialPaused,
    TrialStarted,
)
from gru_optuna.worker.trial import Admission, Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from optuna import Trial
    from optuna.trial import FrozenTrial

    from gru_optuna.checkpoints.checkpoint import Checkpoint
    from gru_optuna.checkpoints.study_checkpoints import StudyCheckpoints
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.storage.mirror.mirror import Mirror
    from gru_optuna.storage.workers.leases import Claim, Registration
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.pool import EpochOutcomes
    from gru_optuna.training.slot import Slot
    from gru_optuna.worker.events import WorkerEvent


@contextmanager
def short_turns() -> Iterator[None]:
    """Lets a thread that comes back from compiled code wait 0.2 ms for the interpreter, not 5.

    An epoch of a small GRU takes as long as Python's own turn, so bookkeeping would hold up
    every one of them.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


_POLL_SECONDS = 0.2

HOPELESS_TRIALS = 10
"""If this many trials are over and all of them failed, the next ones would fail as well."""


class EndOfTurn(threading.Event):
    """Ends a worker's turn at one study after the epoch in flight, which it may wait for.

    Parameters
    ----------
    leaving
        Ends the process, so that it also ends the turn, and a long epoch is abandoned.
    """

    def __init__(self, leaving: Event) -> None:
        super().__init__()
        self.leaving = leaving

    def is_set(self) -> bool:
        """Whether the turn or the process is to end."""
        return super().is_set() or self.leaving.is_set()


def await_epoch(training: Future[EpochOutcomes], stop: Event) -> EpochOutcomes | None:
    """The outcome of the epoch in flight; None if it takes too long once the process has to end.

    A process that goes on after `stop` (`EndOfTurn`) has the time: an abandoned epoch would train
    on behind its back.
    """
    hurries = stop.leaving if isinstance(stop, EndOfTurn) else stop
    waited = 0.0
    while waited < LEAVE_SECONDS:
        with suppress(TimeoutError):
            return training.result(timeout=_POLL_SECONDS)
        waited += _POLL_SECONDS if hurries.is_set() else 0.0
    return None


class Worker:
    """Trains trials of one study until nothing is left to do, or until it is stopped.

    Parameters
    ----------
    mirror
        The study.
    registration
        This worker, as the others see it.
    checkpoints
        The study's checkpoints.
    spec
        The study file that the study was made with.
    pool
        An empty pool, in which the trials train.
    slots
        How many trials train together.
    stop
        Set it to end the worker after the epoch in flight, or sooner if that takes long.
    on_event
        Called with every `WorkerEvent`, in order.

    Attributes
    ----------
    abandoned : bool
        Whether it left while a thread was still training an epoch.
    """

    def __init__(
        self,
        mirror: Mirror,
        registration: Registration,
        checkpoints: StudyCheckpoints,
        spec: Specification,
        pool: TrialPool,
        slots: int,
        stop: Event,
        on_event: Callable[[WorkerEvent], None] = lambda event: None,
    ) -> None:
        self.study = mirror.study
        self.spec = spec
        self.pool = pool
        self.slots = slots
        self.stop = stop
        self.on_event = on_event
        self.abandoned = False
        self.training_seconds = 0.0
        self._commits = Commits(mirror, registration, checkpoints, stop, on_event)
        self._name = f"{registration.host.name} {registration.host.process}"
        self._running: dict[Slot, Running] = {}
        self._thaw = Thaw.of(spec)
        if spec.constraints and isinstance(self.study.sampler, SeededSampler):
            self.study.sampler = ConstrainedSampler(self.study.sampler, spec, self._is_allowed)
        self._give_back: list[int] = []
        self._paused: dict[int, Checkpoint] = {}  # not yet committed
        self._ended: list[int] = []  # not yet committed
        self._kept = self._kept_cost = 0.0  # seconds
        self._kept_at = -math.inf
        self._hopeful = False  # whether any trial has ended without failing
        self._more = True  # whether the last commit claimed as many trials as it wanted
        self._started = time.monotonic()
        self._epochs = 0

    def run(self) -> None:
        """Works until nothing is left to do, the trials of other workers included.

        Raises
        ------
        StudyFailed
            If every trial fails.
        StorageError
            If the database or the disk fails for too long.
        """
        # The pool's threads train slots; threads within one operation would only compete with them.
        torch.set_num_threads(1)
        background = ThreadPoolExecutor(1, "pool")
        try:
            with short_turns(), self._commits.beating():
                self._work(background)
                # An abandoned epoch is still changing the slots: no snapshot of them is whole.
                self._commit({} if self.abandoned else self._snapshots(), leaving=True)
        except BaseException as error:
            self.stop.set()
            if not isinstance(error, StorageError):
                # Endings and reports, without the epoch in flight. If this fails as well, the first
                # error is the one to raise.
                with suppress(SQLAlchemyError, OSError, GRUOptunaError):
                    self._commit({}, leaving=True)
            raise
        finally:
            self._commits.leave()
            background.shutdown(wait=not self.abandoned)

    def _work(self, background: ThreadPoolExecutor) -> None:
        admissions = self._commit({})
        while not self.stop.is_set():
            if not admissions and not self._running:
                admissions = self._commit({})  # the last slots were freed a moment ago
            self._admit(admissions)
            admissions = []
            if not self._running:
                if self._ended or self._give_back or self._paused:
                    continue  # over before they began; there may be more
                if not self._commits.last.others_running:
                    return
                self._stand_by()
                continue
            if any(r.suspect and r.unsaved for r in self._all()):
                # The suspect survived an epoch. Commit that before training others, or its next
                # death would be blamed on them.
                admissions = self._commit(self._snapshots())
                continue
            saves = self._is_time_to_save()
            snapshots = self._snapshots() if saves else {}
            # A trial that pauses can make room for another at once, even after the last start.
            claims = (self._more or self._paused) and len(self._running) < self.slots
            training = background.submit(self._train_epoch)
            # Bookkeeping runs meanwhile. It knows the epochs before this one and no more, however
            # fast the machine is, so that the search is the same in every run.
            admissions = self._commit(snapshots) if saves or claims else []
            trained = await_epoch(training, self.stop)
            if trained is None:
                self.abandoned = True
                return
            self._after_epoch(trained)
            self._stop_if_hopeless()

    def _train_epoch(self) -> EpochOutcomes:
        began = time.monotonic()
        alone = [running.slot for running in self._all() if running.suspect]
        trained = self.pool.train_epoch(alone or None)
        self.training_seconds += time.monotonic() - began
        return trained

    def _is_time_to_save(self) -> bool:
        # An adopted trial's first epochs are saved at once: if this worker dies too, they need
        # not be trained a third time.
        return any(r.unproven and r.unsaved for r in self._all()) or self._commits.is_time_to_save()

    def _snapshots(self) -> dict[int, Checkpoint]:
        """Checkpoints of all slots that have trained since their last one, by trial number."""
        snapshots: dict[int, Checkpoint] = {}
        for running in self._all():
            if running.unsaved:
                snapshots[running.number] = self._snapshot(running)
        return snapshots

    def _snapshot(self, running: Running) -> Checkpoint:
        checkpoint = self.pool.snapshot(running.slot)
        return replace(checkpoint, state=checkpoint.state | {"seconds": running.seconds})

    def _commit(
        self, snapshots: dict[int, Checkpoint], *, leaving: bool = False
    ) -> list[Admission]:
        """Commits reports, endings and checkpoints; returns the trials that it claimed."""
        # Never negative: when memory runs out, more trials may be running than slots are left.
        wanted = 0 if self.stop.is_set() else max(0, self.slots - len(self._running))
        ended, self._ended = self._ended, []
        paused, self._paused = self._paused, {}
        give_back, self._give_back = [*self._give_back, *paused], []
        synced = self._commits.commit(
            wanted=wanted,
            # Once time is over no trial begins, but those that have begun must be ended.
            limit=0 if self._out_of_time() else budget.trial_limit(self.spec),
            checkpoints=snapshots | paused,
            unsaved={r.number for r in self._all() if r.unsaved and r.number not in snapshots},
            ended=ended,
            give_back=give_back,
            epochs_per_second=self._epochs / max(1.0, time.monotonic() - self._started),
            leaving=leaving,
            choose_paused=self._choose_paused if self._thaw else None,
            epochs=self._epoch_limit(),
        )
        self._more = len(synced.claims) == wanted
        self._renew_budget()
        for running in self._all():
            if running.number in synced.lost:
                self._drop(running)
                self.on_event(LeaseLost(running.number))
            elif running.number in snapshots:
                running.saved_epoch = len(snapshots[running.number].state["curve"])
                running.suspect = False
        return [self._ask(number, claim) for number, claim in synced.claims]

    def _renew_budget(self) -> None:
        stored = self._commits.mirror.user_attrs.get(BUDGET)
        if stored in (None, self.spec.budget.model_dump(mode="json")):
            return
        self.spec = budget.renewed(self.spec, {BUDGET: stored})
        limits = self.spec.budget
        if stored != (in_force := limits.model_dump(mode="json")):
            # A worker joined with a smaller budget. The next commit restores the larger one.
            self.study.set_user_attr(BUDGET, in_force)
        self.on_event(BudgetChanged(limits.trials, limits.hours, limits.epochs))

    def _hand_in(self) -> None:
        """Releases trials that entered before epochs were limited: a claim grants their share."""
        for running in [r for r in self._all() if r.until == math.inf]:
            self._paused[running.number] = self._snapshot(running)
            self._drop(running)

    def _ask(self, number: int, claim: Claim) -> Admission:
        """Suggests parameters for a trial; a trial that has some already keeps them."""
        trial = self._commits.mirror.trial(number)
        values = self._commits.mirror.reported(number)
        if claim.deaths >= MOST_DEATHS:
            died = f"{claim.deaths} workers in a row died in epoch {len(values) + 1}"
            return Admission(number, trial, TrialFailed(died), claim, values)
        try:
            hyperparameters = space.suggest(trial, self.spec)
        except Exception as error:  # a user enqueued values that the search doesn't allow
            failed = TrialFailed(f"its parameters can't be used: {error}")
            return Admission(number, trial, failed, claim, values)
        if not self._is_allowed(hyperparameters):  # someone enqueued it, or it is part of a grid
            size, most = self.pool.network(hyperparameters).size(), self.spec.most_parameters
            failed = TrialFailed(
                f"its network would learn {size:,} parameters, and the study's constraints allow "
                f"{most:,}"
            )
            return Admission(number, trial, failed, claim, values)
        return Admission(number, trial, hyperparameters, claim, values)

    def _is_allowed(self, hyperparameters: Hyperparameters) -> bool:
        """Whether the study's constraints allow a configuration."""
        most = self.spec.most_parameters
        return most is None or self.pool.network(hyperparameters).size() <= most

    def _admit(self, admissions: list[Admission]) -> None:
        """Gives claimed trials their slots; some end before they get admission."""
        for admission in admissions:
            if is_ending(admission.trial):
                admission.trial.set_user_attr(PAUSED, 0)
                self._end_without_slot(admission, paused_outcome(len(admission.reported)))
            elif self._until(admission) <= len(admission.reported):
                self._end_without_slot(admission, epochs_over(len(admission.reported)))
            elif isinstance(admission.hyperparameters, TrialFailed):
                self._fail(admission, admission.hyperparameters)
            elif admission.claim.taken_over and self._out_of_time():
                self._end_without_slot(admission, hours_over(len(admission.reported)))
            else:
                self._try_to_enter(admission, admission.hyperparameters)

    def _end_without_slot(self, admission: Admission, outcome: str) -> None:
        """Ends a trial that is not trained on; it counts with the epochs that it has."""
        reported = admission.reported
        values = [self.spec.as_loss(v) if math.isfinite(v) else math.inf for v in reported]
        if values and BEST_EPOCH not in admission.trial.user_attrs:
            best = values.index(min(values)) + 1
            TrialAttributes(best_epoch=best).write(admission.trial)
        self._tell(admission.trial, TrialState.PRUNED, None, outcome, len(reported))

    def _fail(self, admission: Admission, error: TrialFailed) -> None:
        """Ends a trial that can't get a slot."""
        epochs = len(admission.reported)
        self._tell(admission.trial, TrialState.FAIL, None, str(error), epochs)

    def _try_to_enter(self, admission: Admission, hyperparameters: Hyperparameters) -> None:
        """Gives a trial its slot, if memory suffices."""
        try:
            running = self._enter(admission, hyperparameters)
        except OutOfMemory as error:
            if not self._running:
                self._fail(admission, error)
                return
            self._give_back.append(admission.number)
            self._take_fewer(len(self._running), str(error))
        except TrialFailed as error:
            self._fail(admission, error)
        else:
            self._running[running.slot] = running
            if self.spec.two_goals:  # trials are compared by it, those that still run as well
                size = running.slot.network.size()
                TrialAttributes(network_parameters=size).write(admission.trial)
            epochs = running.slot.progress.epoch
            known = admission.reported[:epochs]
            claim = admission.claim
            self.on_event(
                TrialStarted(admission.number, claim.taken_over, epochs, known, claim.continued)
            )

    def _choose_paused(self, trials: list[FrozenTrial]) -> tuple[list[int], list[int]]:
        """Numbers of the paused trials to continue, in this order, and of those to end."""
        assert self._thaw is not None
        paused = [trial.number for trial in trials if is_paused(trial)]
        if not paused or self._out_of_time():
            return [], paused
        starts_more = self._starts_more(trials)
        waiting = self._thaw.to_continue(trials, starts_more=starts_more)
        idle = all(trial.state.is_finished() or is_paused(trial) for trial in trials)
        most = self.spec.budget.epochs
        is_spent = most is not None and epochs_granted(trials) >= most
        if idle and (is_spent or not (starts_more or waiting)):
            return [], paused  # nothing that is still to come could promote one
        return waiting, self._thaw.surplus(trials)

    def _epoch_limit(self) -> EpochLimit | None:
        most = self.spec.budget.epochs
        return None if most is None else EpochLimit(most, self._epochs_wanted)

    def _epochs_wanted(self, trial: FrozenTrial) -> int:
        """How many more epochs a trial trains before there is something to decide."""
        have, rungs = len(trial.intermediate_values), self._thaw.rungs if self._thaw else ()
        return next((rung for rung in rungs if rung > have), self.spec.training.epochs) - have

    def _until(self, admission: Admission) -> float:
        if self.spec.budget.epochs is None:
            return math.inf
        return float(admission.trial.user_attrs.get(UNTIL, math.inf))

    def _starts_more(self, trials: list[FrozenTrial]) -> bool:
        """Whether the budget has room for trials that haven't begun."""
        limit = budget.trial_limit(self.spec)
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        return limit is None or begun < limit

    def _enter(self, admission: Admission, hyperparameters: Hyperparameters) -> Running:
        """A slot for a trial, from the newest checkpoint that is intact, or from its start."""
        seed = seeds.trial_seed(self.spec.seed, admission.number)
        began, reported = time.monotonic(), len(admission.reported)
        adopted, suspect = admission.claim.taken_over, admission.claim.suspect
        for checkpoint in self._commits.checkpoints(admission.number, admission.claim):
            epoch = len(checkpoint.state.get("curve", ()))
            try:
                slot = self.pool.admit(hyperparameters, seed, checkpoint)
            except DamagedCheckpoint as error:
                self.on_event(CheckpointDamaged(admission.number, epoch, str(error)))
                continue
            before = float(checkpoint.state.get("seconds", 0.0))
            return Running(
                admission.trial, slot, reported, began, before, epoch, adopted, suspect,
                self._until(admission),
            )  # fmt: skip
        slot = self.pool.admit(hyperparameters, seed)
        return Running(
            admission.trial, slot, reported, began, 0.0, 0, adopted, suspect,
            self._until(admission),
        )  # fmt: skip

    def _after_epoch(self, trained: EpochOutcomes) -> None:
        # A lease may have been lost while its slot trained.
        results = [(self._running[slot], r) for slot, r in trained if slot in self._running]
        broken = [
            (running, result)
            for running, result in results
            if isinstance(result, TrialFailed) and not isinstance(result, Diverged)
        ]
        # If several slots broke together, the pool did. Each of them may train well alone, so they
        # are given back instead of failed.
        together = len(results) > 1 and (
            len(broken) == len(results) or any(isinstance(e, OutOfMemory) for _, e in broken)
        )
        for running, result in results:
            if isinstance(result, EpochResult):
                self._after_good_epoch(running, result)
            elif together and not isinstance(result, Diverged):
                self._drop(running)
                self._give_back.append(running.number)
            else:
                self._end(running, TrialState.FAIL, str(result))
        # Not before all have reported: who reaches a rung in the same epoch is compared there.
        for running in [r for r in self._all() if r.at_rung]:
            self._leave_rung(running)
        if self.spec.budget.epochs is not None:
            self._hand_in()
        if together:
            self._take_fewer(max(1, len(results) // 2), str(broken[0][1]))

    def _take_fewer(self, slots: int, reason: str) -> None:
        self.slots = slots
        self.on_event(FewerSlots(slots, reason))

    def _after_good_epoch(self, running: Running, result: EpochResult) -> None:
        trial, progress = running.trial, running.slot.progress
        self._epochs += 1
        self.on_event(EpochTrained(trial.number, progress.epoch, result.value))
        if is_new := progress.epoch > running.reported:
            report(trial, result.value, progress.epoch)
        if ending := progress.ending:
            self._end(running, TrialState.COMPLETE, ending)
        elif is_new and not self.spec.two_goals and trial.should_prune():
            self._end(running, TrialState.PRUNED, pruned_outcome(progress.epoch))
        elif self._out_of_time():
            self._end(running, TrialState.PRUNED, hours_over(progress.epoch))
        elif is_new and self._thaw and progress.epoch in self._thaw.rungs:
            losses = [
                progress.curve[r - 1].validation_loss
                for r in self._thaw.rungs
                if r <= progress.epoch
            ]
            TrialAttributes(rung_losses=[round(loss, 6) for loss in losses]).write(trial)
            running.at_rung = True
        elif progress.epoch >= running.until:
            if self._thaw:
                self._pause(running)  # until the budget has more
            else:
                self._end(running, TrialState.PRUNED, epochs_over(progress.epoch))

    def _leave_rung(self, running: Running) -> None:
        """Lets a trial train on, or pauses it."""
        assert self._thaw is not None
        running.at_rung = False
        trials = self.study.get_trials(deepcopy=False)
        starts_more = self._starts_more(trials)
        # With a limited budget of epochs, it takes more of them by being claimed again.
        is_spent = running.slot.progress.epoch >= running.until
        if is_spent or not self._thaw.continues(running.number, trials, starts_more=starts_more):
            self._pause(running)

    def _pause(self, running: Running) -> None:
        trial, progress = running.trial, running.slot.progress
        attributes = TrialAttributes.of(running.slot, running.seconds, worker=self._name)
        replace(attributes, paused=progress.epoch).write(trial)
        # The report, the checkpoint and the mark are committed together, and the lease is released.
        self._paused[running.number] = self._snapshot(running)
        self._drop(running)
        self.on_event(TrialPaused(trial.number, progress.epoch))

    def _end(self, running: Running, state: TrialState, outcome: str) -> None:
        slot = running.slot
        value = slot.progress.best.value if state == TrialState.COMPLETE else None
        TrialAttributes.of(slot, running.seconds, worker=self._name).write(running.trial)
        self._tell(running.trial, state, value, outcome, slot.progress.epoch)
        self._drop(running)

    def _tell(
        self, trial: Trial, state: TrialState, value: float | None, outcome: str, epochs: int
    ) -> None:
        TrialAttributes(outcome=outcome, epochs=epochs).write(trial)
        values = None if value is None else [value]
        if values and self.spec.two_goals:
            values.append(trial.user_attrs[SIZE])
        self.study.tell(trial, values=values, state=state)
        self._ended.append(trial.number)
        self.on_event(TrialEnded(trial.number, state, value, outcome, epochs))

    def _drop(self, running: Running) -> None:
        self.pool.release(running.slot)
        del self._running[running.slot]

    def _all(self) -> list[Running]:
        return list(self._running.values())

    def _stand_by(self) -> None:
        """Waits a moment for the trials of other workers to end."""
        self.on_event(StandingBy(self._commits.last.others_running))
        self.stop.wait(STANDBY_SECONDS)

    def _out_of_time(self) -> bool:
        worked = self._commits.last.worked_seconds + self._commits.seconds_since_commit()
        if self.spec.budget.hours is None:
            return False
        at = time.monotonic()
        # After every epoch of every trial; in a large study, finding the time that is to be kept
        # free takes longer than a small GRU's epoch.
        if at - self._kept_at >= 100 * self._kept_cost:
            self._kept = budget.seconds_for_confirmation(self.study, self.spec, self.slots)
            self._kept_at = time.monotonic()
            self._kept_cost = self._kept_at - at
        return budget.is_over(self.spec, worked + self._kept)

    def _stop_if_hopeless(self) -> None:
        if not self._ended or self._hopeful:
            return
        ended = [t for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()]
        self._hopeful = any(t.state != TrialState.FAIL for t in ended)
        if len(ended) >= HOPELESS_TRIALS and not self._hopeful:
            reason = TrialAttributes.read(ended[-1]).outcome or "unknown"
            for running in self._all():
                self._end(running, TrialState.FAIL, "given up: every trial before it failed")
            raise StudyFailed(
                f"all {len(ended)} trials failed, the last one: {reason}. "
                f"Check the scale of the data and the range of the learning rate."
            )
