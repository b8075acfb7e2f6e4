"""Trains the best configurations again on fresh seeds, chooses the winner, looks at the test once.

Every finished run is written to the study when it ends: whoever goes on after a crash or Ctrl-C
trains the others alone. A run is a function of its configuration and seed, so it doesn't matter
who trained which.
"""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from gru_optuna import seeds
from gru_optuna.attributes import CONFIRMATION, CONFIRMATION_RUNS, PREDICTIONS, TEST
from gru_optuna.data.intervals import metric_interval
from gru_optuna.data.metrics import combined, mean_metric
from gru_optuna.errors import OutOfMemory, StudyFailed, TrialFailed
from gru_optuna.report.notes import describe_at
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.study import confirmation
from gru_optuna.study.confirmation import (
    Candidate,
    Confirmation,
    Run,
    TestValue,
    decide,
    finalists,
    is_current,
    read,
    read_runs,
    runs_as_json,
)
from gru_optuna.study.predictions import describe_predictions
from gru_optuna.study.study import load_study
from gru_optuna.training.pool_factory import choose_device, make_pool
from gru_optuna.tuning.retrain import Abandoned, Training, train_again, warn_if_other
from gru_optuna.worker.commits import LEAVE_SECONDS, tells_of_storage
from gru_optuna.worker.events import Confirming, ConfirmingElsewhere
from gru_optuna.worker.loop import short_turns
from gru_optuna.worker.run import WorkerSettings, load_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.data.metrics import Predictions
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.slot import EpochResult, Slot
    from gru_optuna.tuning.retrain import Networks
    from gru_optuna.worker.events import WorkerEvent


_KEPT_BYTES = 256 * 2**20
"""Weights of finished runs that are kept for the test; what is more is trained again."""

_POLL_SECONDS = 0.2

_LOOK_SECONDS = 1.0
"""Between two looks whether another process is done."""

EpochOutcomes: TypeAlias = "list[tuple[Slot, EpochResult | TrialFailed]]"


@dataclass
class _Kept:
    """Networks of finished runs, as many as there is room for."""

    networks: dict[tuple[int, int], Networks] = field(default_factory=dict)
    bytes: int = 0

    def put(self, key: tuple[int, int], networks: Networks) -> None:
        size = sum(weight.nbytes for one in networks for weight in one.values())
        if self.bytes + size <= _KEPT_BYTES:
            self.networks[key] = networks
            self.bytes += size


def confirm(
    study: Study,
    url: str,
    spec: Specification,
    pool: TrialPool,
    slots: int,
    stop: Event,
    on_event: Callable[[WorkerEvent], None] = lambda event: None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> Confirmation | None:
    """The decision about the trials that are the best ones now, made if it isn't there yet.

    Parameters
    ----------
    study, url
        The study, and its database's.
    spec
        The study file; its ``confirmation`` says how many candidates and seeds.
    pool
        Empty; where runs train.
    slots
        How many train together.
    stop
        Set it to leave after the epoch in flight; the next call goes on.
    on_event
        Told how far it is.
    out_of_time
        Once true, no seed is begun any more: the decision is about those that all candidates
        have had.

    Returns
    -------
    Confirmation or None
        None if it was stopped, if there is no candidate, or if not even one seed was had in time.

    Raises
    ------
    StudyFailed
        If every run fails.
    Abandoned
        If the epoch in flight would take too long; the process is to end at once.
    """
    with _alone(study, url, stop, on_event) as entered:
        if not entered:
            return None
        # Another process may have done it meanwhile.
        found = read(study)
        if is_current(found, study, spec):
            return found
        work = _Work(study, spec, pool, stop, on_event, out_of_time)
        return work.run(slots)


class _Work:
    def __init__(
        self,
        study: Study,
        spec: Specification,
        pool: TrialPool,
        stop: Event,
        on_event: Callable[[WorkerEvent], None],
        out_of_time: Callable[[], bool],
    ) -> None:
        self.study, self.spec, self.pool = study, spec, pool
        self.stop, self.on_event, self.out_of_time = stop, on_event, out_of_time
        self.finalists = finalists(study, spec)
        self.runs = read_runs(study)
        self.begun = {index for _, index in self.runs}  # seeds
        self.kept = _Kept()

    def run(self, slots: int) -> Confirmation | None:
        if not self.finalists:
            return None
        # A thread more within one operation costs more than it brings.
        torch.set_num_threads(1)
        with short_turns():
            self._train(slots)
        if self.stop.is_set():
            return None
        count, before = self._seeds_had(), read(self.study)
        numbers = [trial.number for trial, _ in self.finalists]
        if not count:
            return None
        if before and (before.seeds, [one.number for one in before.candidates]) == (count, numbers):
            return before  # there was no time for more
        candidates = [
            Candidate.of(
                trial,
                [self.runs[trial.number, index] for index in range(count)],
                self.spec.metric,
            )
            for trial, _ in self.finalists
        ]
        decision = decide(candidates, self.spec)
        if decision is None:
            raise StudyFailed(
                f"all {count * len(candidates)} runs that were to confirm the winner failed. "
                f"Look at the best trials' learning rates."
            )
        winner, tied = decision
        uses = before.test_uses if before else 0
        if before and (before.seeds, before.winner) == (count, winner.number):
            test = before.test  # the same networks: nothing new to be seen
        else:
            test = self._test(winner, slots)
            uses += test is not None
        made = Confirmation(
            candidates=candidates,
            winner=winner.number,
            test=test,
            seeds=count,
            asked_candidates=self.spec.confirmation.candidates,
            asked_seeds=self.spec.confirmation.seeds,
            tied=tied,
            test_uses=uses,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        # The look at the test first: that it was made is never forgotten.
        if test is not None:
            self._write(TEST, {"number": winner.number, "value": test.value})
        self._write(CONFIRMATION, made.as_json())
        return made

    def _train(self, slots: int) -> None:
        """Trains the runs that are not finished, the first seed of all candidates first."""
        wanted = self._wanted()
        waiting = deque(one for one in wanted if one.key not in self.runs)
        running: dict[Slot, Training] = {}
        best: dict[Slot, Networks] = {}
        self._tell(wanted, begins=True)
        background = ThreadPoolExecutor(1, "confirm")
        try:
            while not self.stop.is_set():
                while waiting and len(running) < slots and not self._in_a_hurry(waiting[0]):
                    one = waiting.popleft()
                    running[self.pool.admit(one.hyperparameters, one.seed)] = one
                    self.begun.add(one.index)
                if not running:
                    return
                trained = self._await(background.submit(self.pool.train_epoch))
                if len(running) > 1 and any(isinstance(r, OutOfMemory) for _, r in trained):
                    # All of them from their start: each may well train with fewer beside it.
                    slots = len(running) // 2
                    waiting.extendleft(self._let_go(running, slot) for slot in list(running))
                    best.clear()
                    continue
                ended = [slot for slot, result in trained if self._note(slot, result, best)]
                for slot in ended:
                    self._finish(self._let_go(running, slot), slot, best.pop(slot, []))
                if ended:
                    self._write(CONFIRMATION_RUNS, runs_as_json(self.runs))
                    self._tell(wanted)
        finally:
            background.shutdown(wait=False)
            for slot in list(running):
                self._let_go(running, slot)

    def _let_go(self, running: dict[Slot, Training], slot: Slot) -> Training:
        self.pool.release(slot)
        return running.pop(slot)

    def _note(
        self, slot: Slot, result: EpochResult | TrialFailed, best: dict[Slot, Networks]
    ) -> bool:
        """Keeps what was best so far; whether the run is over."""
        progress = slot.progress
        if isinstance(result, TrialFailed):
            best.pop(slot, None)
            return True
        if progress.best_epoch == progress.epoch:
            best[slot] = self.pool.networks(slot)
        return progress.finished or progress.out_of_patience

    def _finish(self, one: Training, slot: Slot, networks: Networks) -> None:
        progress = slot.progress
        if not networks:
            self.runs[one.key] = Run(None, 0, progress.epoch)
            return
        self.runs[one.key] = Run(progress.best.value, progress.best_epoch, progress.epoch)
        self.kept.put(one.key, networks)

    def _wanted(self) -> list[Training]:
        return [
            Training.of(self.spec, trial.number, index, hyperparameters)
            for index in range(self.spec.confirmation.seeds)
            for trial, hyperparameters in self.finalists
        ]

    def _in_a_hurry(self, following: Training) -> bool:
        """Whether time is over; a seed that was begun is had by all candidates."""
        return following.index not in self.begun and self.out_of_time()

    def _seeds_had(self) -> int:
        """How many seeds all candidates have had."""
        for index in range(self.spec.confirmation.seeds):
            if any((trial.number, index) not in self.runs for trial, _ in self.finalists):
                return index
        return self.spec.confirmation.seeds

    def _test(self, winner: Candidate, slots: int) -> TestValue | None:
        """The one look at the test rows, with all the winner's networks."""
        networks = self._networks(winner, slots)
        hyperparameters = next(h for t, h in self.finalists if t.number == winner.number)
        if self.spec.data.test is None:
            if not self.spec.data.folds:  # whose rows differ, so that no row has one prediction
                tell = partial(self.pool.tell, hyperparameters, part="validation")
                self._keep(winner.number, "validation", [_on_host(tell(one)) for one in networks])
            return None
        told = [_on_host(self.pool.tell(hyperparameters, one, "test")) for one in networks]
        kept = self._keep(winner.number, "test", told)
        together = [combined(told)]
        value = mean_metric(self.spec.metric, together)
        both = {"value": value, "interval": self._interval(together)}
        return TestValue(
            value=kept["value"],
            interval=kept["interval"],
            ensemble=both if len(networks) > 1 and math.isfinite(value) else None,
        )

    def _keep(
        self, number: int, part: Literal["validation", "test"], trainings: list[Predictions]
    ) -> dict[str, Any]:
        """Describes the winner's predictions, and keeps them for the report, which draws them."""
        classes = getattr(self.pool, "pools", [self.pool])[0].dataset.classes
        described = {
            "value": mean_metric(self.spec.metric, trainings),
            "interval": self._interval(trainings),
            **describe_predictions(classes, [pair for pairs in trainings for pair in pairs]),
        }
        self.study.set_user_attr(PREDICTIONS, {"number": number, part: described})
        return described

    def _interval(self, trainings: list[Predictions]) -> list[float] | None:
        block = None
        if self.spec.kind == "series":
            pools = getattr(self.pool, "pools", [self.pool])
            season = max(int(pool.dataset.preprocessing["season"]) for pool in pools)
            block = max(season, self.spec.data.horizon or 1)
        seed = seeds.seed_for(self.spec.seed, "bootstrap")
        return metric_interval(self.spec.metric, trainings, block, seed)

    def _networks(self, winner: Candidate, slots: int) -> list[Networks]:
        """Of the winner's runs, trained again where they are not at hand."""
        hyperparameters = next(h for t, h in self.finalists if t.number == winner.number)
        found: dict[int, Networks] = {}
        missing: list[tuple[Training, int]] = []
        for index, value in enumerate(winner.values):
            if value is None:
                continue
            key = winner.number, index
            if key in self.kept.networks:
                found[index] = self.kept.networks[key]
            else:
                again = Training.of(self.spec, *key, hyperparameters)
                missing.append((again, winner.best_epochs[index]))
        trained = train_again(self.pool, missing, slots, self.stop)
        for (one, _), (networks, value) in zip(missing, trained, strict=True):
            warn_if_other(self.spec, one, winner.values[one.index], value)
            found[one.index] = networks
        return [found[index] for index in sorted(found)]

    def _await(self, training: Future[EpochOutcomes]) -> EpochOutcomes:
        waited = 0.0
        while True:
            with suppress(NotYet):
                return training.result(timeout=_POLL_SECONDS)
            waited += _POLL_SECONDS if self.stop.is_set() else 0.0
            if waited >= LEAVE_SECONDS:
                raise Abandoned

    def _write(self, key: str, content: object) -> None:
        with_retries(
            lambda: self.study.set_user_attr(key, content),
            self.stop,
            tells_of_storage(self.on_event),
        )

    def _tell(self, wanted: Sequence[Training], *, begins: bool = False) -> None:
        done = sum(one.key in self.runs for one in wanted)
        seeds_asked = self.spec.confirmation.seeds
        self.on_event(Confirming(done, len(wanted), len(self.finalists), seeds_asked, begins))


def _on_host(told: Predictions) -> Predictions:
    cpu = torch.device("cpu")
    return [(outputs.cpu(), split.to(cpu, outputs.dtype)) for outputs, split in told]


@contextmanager
def _alone(
    study: Study, url: str, stop: Event, on_event: Callable[[WorkerEvent], None]
) -> Iterator[bool]:
    """No other process confirms this study meanwhile; False if told to stop while waiting."""
    database, told = locate(url), False
    while not stop.is_set():
        with ExitStack() as held:
            try:
                name = f"confirm-{study_id(study)}"
                held.enter_context(database.exclusively(name, _LOOK_SECONDS))
            except TimeoutError:
                if not told:
                    on_event(ConfirmingElsewhere())
                    told = True
                continue
            yield True
            return
    yield False


@dataclass(frozen=True)
class Place:
    """Where a study is, and where it trains."""

    url: str  # of the database
    folder: Path  # what the paths of its data are relative to
    settings: WorkerSettings


def confirm_study(
    name: str,
    place: Place,
    candidates: int | None,
    seeds: int | None,
    stop: Event,
    on_event: Callable[[WorkerEvent], None] = lambda event: None,
) -> tuple[Study, Specification, Confirmation | None]:
    """The decision about the best trials of a study, made if it isn't there yet.

    Parameters
    ----------
    name
        The study's.
    place
        Where it is.
    candidates, seeds
        In place of the last decision's, or the study file's. None: as those say; where that is
        none, the default.
    stop, on_event
        As `confirm`.

    Raises
    ------
    UserError
        If the study or its data aren't there.
    StudyFailed
        If every run fails.
    """
    study, spec = load_study(open_storage(place.url), name)
    found = confirmation.read(study)
    if found is not None:
        candidates, seeds = candidates or found.asked_candidates, seeds or found.asked_seeds
    spec = with_confirmation(spec, candidates, seeds)
    if confirmation.is_current(found, study, spec) or not confirmation.finalists(study, spec):
        return study, spec, found
    device = choose_device(place.settings.device)
    datasets = [data.to(device) for data in load_data(study, spec, place.folder)]
    pool, size = make_pool(spec, datasets, place.settings.threads, place.settings.slots)
    found = confirm(study, place.url, spec, pool, size.slots, stop, on_event)
    describe_at(study, place.url)
    return study, spec, found


def with_confirmation(
    spec: Specification, candidates: int | None, seeds: int | None
) -> Specification:
    """The specification with so many candidates and seeds, one candidate at least."""
    asked = spec.confirmation
    count = candidates or asked.candidates or type(asked)().candidates
    changed = asked.model_copy(update={"candidates": count, "seeds": seeds or asked.seeds})
    return spec.model_copy(update={"confirmation": changed})
