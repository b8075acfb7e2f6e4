"""Trains the best configurations on fresh seeds, chooses the winner, looks at the test rows once.

Every finished run is written to the study when it ends, so whoever resumes after a crash or
Ctrl-C trains only the others. A run is a function of its configuration and seed: it doesn't
matter which process trained which.
"""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from gru_optuna import seeds
from gru_optuna.attributes import (
    CALIBRATION,
    CONFIRMATION,
    CONFIRMATION_RUNS,
    PREDICTION_INTERVALS,
    PREDICTIONS,
    TEST,
    WORKED_SECONDS,
)
from gru_optuna.data.intervals import metric_interval
from gru_optuna.data.metrics import combined, mean_metric
from gru_optuna.errors import StudyFailed, TrialFailed
from gru_optuna.report.notes import describe_at
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.study.budget import expected_confirmation
from gru_optuna.study.calibration import (
    Calibration,
    Reliability,
    calibrated,
    fit_temperature,
)
from gru_optuna.study.confirmation import (
    Candidate,
    Decision,
    Run,
    TestValue,
    decide,
    finalists,
    is_current,
    read_decision,
    read_runs,
    runs_as_json,
    seeds_to_train,
)
from gru_optuna.study.ensemble import OWN_SEED, Ensemble, EnsembleBaseline, EnsembleNetwork
from gru_optuna.study.prediction_intervals import PredictionIntervals
from gru_optuna.study.predictions import ForecastSeries, describe_predictions
from gru_optuna.study.study import load_study
from gru_optuna.training.folded_pool import FoldedPool
from gru_optuna.training.pool_factory import make_pool
from gru_optuna.tuning.baselines import BaselineFits
from gru_optuna.tuning.ensemble_selection import (
    FEWEST_ROWS,
    blend,
    independent_rows,
    select_members,
)
from gru_optuna.tuning.retrain import FinishedRun, PlannedRun, train_again, train_runs
from gru_optuna.worker.commits import storage_events
from gru_optuna.worker.events import Confirming, ConfirmingElsewhere, TrainingOtherTrials
from gru_optuna.worker.run import WorkerSettings, load_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.data.metrics import Predictions
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.pool import Pool
    from gru_optuna.training.slot import EpochResult, Slot
    from gru_optuna.tuning.retrain import Networks
    from gru_optuna.worker.events import WorkerEvent


logger = logging.getLogger(__name__)

_Part: TypeAlias = Literal["validation", "test"]

_KEPT_BYTES = 256 * 2**20
"""Weights of finished runs that are kept for the test; what exceeds it is trained again."""

_MOST_OTHERS = 5
"""Trials beyond the confirmed ones whose networks may be members of the ensemble."""

_LOOK_SECONDS = 1.0
"""Between two looks whether another process has finished."""


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
) -> tuple[Study, Specification, Decision | None]:
    """Opens a study and confirms its winner, unless the last decision still holds.

    Parameters
    ----------
    name
        The study's name.
    place
        Where the study is.
    candidates, seeds
        In place of the last decision's, or the study file's. None: as those say, and the default
        where they ask for no confirmation.
    stop, on_event
        As in `confirm`.

    Raises
    ------
    UserError
        If the study or its data don't exist.
    StudyFailed
        If every run fails.
    """
    study, spec = load_study(open_storage(place.url), name)
    decision = read_decision(study)
    if decision is not None:
        candidates, seeds = candidates or decision.asked_candidates, seeds or decision.asked_seeds
    spec = _with_confirmation(spec, candidates, seeds)
    if is_current(decision, study, spec) or not finalists(study, spec):
        return study, spec, decision
    datasets = load_data(study, spec, place.folder, place.settings.device)
    pool, size = make_pool(spec, datasets, place.settings.threads, place.settings.slots)
    with closing(BaselineFits(study, place.url, spec, place.folder)) as baselines:
        baselines.start()
        decision = confirm(
            study, place.url, spec, pool, size.slots, stop, on_event, baselines=baselines
        )
    if not stop.is_set():
        describe_at(study, place.url)
    return study, spec, decision


def _with_confirmation(
    spec: Specification, candidates: int | None, seeds: int | None
) -> Specification:
    """The specification with these numbers of candidates, one at least, and of seeds."""
    asked = spec.confirmation
    count = candidates or asked.candidates or type(asked)().candidates
    changed = asked.model_copy(update={"candidates": count, "seeds": seeds or asked.seeds})
    return spec.model_copy(update={"confirmation": changed})


def confirm(
    study: Study,
    url: str,
    spec: Specification,
    pool: TrialPool,
    slots: int,
    stop: Event,
    on_event: Callable[[WorkerEvent], None] = lambda event: None,
    seconds_left: Callable[[], float] = lambda: math.inf,
    baselines: BaselineFits | None = None,
) -> Decision | None:
    """The decision about the trials that are the best ones now, made unless it exists.

    Parameters
    ----------
    study, url
        The study, and its database.
    spec
        The study file; its ``confirmation`` says how many candidates and seeds.
    pool
        An empty pool, to train the runs in.
    slots
        How many runs train together.
    stop
        Set it to leave after the epoch in flight; the next call resumes.
    on_event
        Called with the progress.
    seconds_left
        How much time is left. Once there is none, every run stops after the epoch in flight; the
        decision uses the seeds that every candidate has finished, or else the candidates that
        have finished one.
    baselines
        The simple models to compare the winner with; None: none.

    Returns
    -------
    Decision or None
        None if it was stopped, if there is no candidate, or if no seed was finished in time.

    Raises
    ------
    StudyFailed
        If every run fails.
    Abandoned
        If the epoch in flight would take too long; end the process at once.
    """
    with _alone(study, url, stop, on_event) as entered:
        if not entered:
            return None
        # Another process may have made it meanwhile.
        decision = read_decision(study)
        if is_current(decision, study, spec):
            return decision
        runs = _ConfirmingRuns(study, spec, pool, slots, stop, on_event, seconds_left, baselines)
        return runs.decide()


@contextmanager
def _alone(
    study: Study, url: str, stop: Event, on_event: Callable[[WorkerEvent], None]
) -> Iterator[bool]:
    """Keeps other processes from confirming this study; yields False if stopped while waiting."""
    database, was_reported = locate(url), False
    while not stop.is_set():
        with ExitStack() as held:
            try:
                name = f"confirm-{study_id(study)}"
                held.enter_context(database.exclusively(name, _LOOK_SECONDS))
            except TimeoutError:
                if not was_reported:
                    on_event(ConfirmingElsewhere())
                    was_reported = True
                continue
            yield True
            return
    yield False


@dataclass
class _ConfirmingRuns:
    """The finalists' runs on fresh seeds, and what follows from them."""

    study: Study
    spec: Specification
    pool: TrialPool
    slots: int
    stop: Event
    on_event: Callable[[WorkerEvent], None]
    seconds_left: Callable[[], float]
    baselines: BaselineFits | None = None
    kept: dict[tuple[int, int], Networks] = field(default_factory=dict)  # while there is room
    predicted: dict[tuple[tuple[int, int], _Part], Predictions] = field(default_factory=dict)
    simple: dict[_Part, dict[str, Predictions]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.finalists = finalists(self.study, self.spec)
        self.configurations = {trial.number: found for trial, found in self.finalists}
        self.runs = read_runs(self.study)

    def decide(self) -> Decision | None:
        if not self.finalists:
            return None
        # A thread more within one operation costs more than it brings.
        torch.set_num_threads(1)
        self._train()
        # One seed at least, which some candidates may lack.
        count, planned = max(1, self._finished_seeds()), self._planned_seeds()
        candidates = [
            Candidate.of(
                trial,
                [
                    self.runs[key]
                    for index in range(min(count, planned[trial.number]))
                    if (key := (trial.number, index)) in self.runs
                ],
                self.spec,
            )
            for trial, _ in self.finalists
        ]
        if self.stop.is_set() or not any(candidate.values for candidate in candidates):
            return None
        before = read_decision(self.study)
        if before and before.candidates == candidates:
            return before  # there was no time for more
        chosen = decide(candidates, self.spec)
        if chosen is None:
            raise StudyFailed(
                f"all {sum(len(c.values) for c in candidates)} runs to confirm the winner failed. "
                f"Look at the learning rates of the best trials."
            )
        winner, tied = chosen
        test_uses = before.test_uses if before else 0
        if before and before.won == winner:
            # The same networks: another look would show nothing new.
            ensemble, test = before.members, before.test
        else:
            ensemble = self._choose_ensemble(winner, candidates)
            if self.stop.is_set():  # simple models may be missing for that reason alone
                return None
            test = self._test(winner, ensemble)
            test_uses += test is not None
        decision = Decision(
            candidates=candidates,
            winner=winner.number,
            test=test,
            seeds=count,
            asked_candidates=self.spec.confirmation.candidates,
            asked_seeds=self.spec.confirmation.seeds,
            tied=tied,
            test_uses=test_uses,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ensemble=ensemble,
        )
        # The look at the test rows first: a crash must not hide that it happened.
        if test is not None:
            self._write(TEST, {"number": winner.number, "value": test.value})
        self._write(CONFIRMATION, decision.as_json())
        return decision

    def _train(self) -> None:
        """Trains the runs that are not finished, the first seed of all candidates first."""
        planned = [
            PlannedRun.of(self.spec, trial.number, index, hyperparameters)
            for index in range(self.spec.confirmation.seeds)
            for trial, hyperparameters in self.finalists
        ]
        best: dict[tuple[int, int], Networks] = {}
        seeds = self._planned_seeds()

        def is_over(run: PlannedRun, slot: Slot, outcome: EpochResult | TrialFailed) -> bool:
            progress = slot.progress
            if run.index >= seeds[run.number]:
                return True  # others have shown meanwhile that it can't win
            if isinstance(outcome, TrialFailed):
                self.runs[run.key] = Run(None, 0, progress.epoch)
            else:
                if progress.best_epoch == progress.epoch:
                    best[run.key] = self.pool.networks(slot)
                if not progress.ending:
                    return self.seconds_left() <= 0
                self.runs[run.key] = Run(progress.best.value, progress.best_epoch, progress.epoch)
                self._keep_weights(run, best.pop(run.key))
            self._write(CONFIRMATION_RUNS, runs_as_json(self.runs))
            seeds.update(self._planned_seeds())
            self._report(planned)
            return True

        self._report(planned, begins=True)
        unfinished = [
            run for run in planned if run.key not in self.runs and run.index < seeds[run.number]
        ]
        train_runs(
            self.pool, unfinished, self.slots, self.stop, is_over, lambda: self.seconds_left() > 0
        )

    def _keep_weights(self, run: PlannedRun, networks: Networks) -> None:
        kept = [*self.kept.values(), networks]
        weights = [w for nets in kept for network in nets for w in network.values()]
        if sum(weight.nbytes for weight in weights) <= _KEPT_BYTES:
            self.kept[run.key] = networks

    def _planned_seeds(self) -> dict[int, int]:
        """How many seeds each candidate is trained on, as far as the finished runs show."""
        values: dict[int, list[float | None]] = {trial.number: [] for trial, _ in self.finalists}
        for number, found in values.items():
            while (number, len(found)) in self.runs:
                found.append(self.runs[number, len(found)].value)
        return seeds_to_train(values, self.spec)

    def _finished_seeds(self) -> int:
        """How many seeds all candidates have finished that weren't left behind before."""
        planned = self._planned_seeds()
        for index in range(self.spec.confirmation.seeds):
            asked = [number for number, seeds in planned.items() if index < seeds]
            if any((number, index) not in self.runs for number in asked):
                return index
        return self.spec.confirmation.seeds

    def _choose_ensemble(self, winner: Candidate, candidates: Sequence[Candidate]) -> Ensemble:
        """Who predicts together; the test rows aren't looked at."""
        horizon = self.spec.data.horizon if self.spec.kind == "series" else None
        rows = sum(independent_rows(pool.dataset.validation, horizon) for pool in self._pools)
        # Whoever limits parameters, or wants few, wants one network.
        if self.spec.most_parameters is not None or self.spec.two_goals:
            return Ensemble([EnsembleNetwork(winner.number, winner.typical)], rows=rows)
        average = Ensemble.average(winner.number, winner.values, rows)
        if self.seconds_left() <= 0:
            return average
        few = rows < FEWEST_ROWS
        networks = [
            network
            for candidate in ([winner] if few else candidates)
            for network in Ensemble.average(candidate.number, candidate.values).networks
        ]
        predictions = self._predict(networks, "validation")
        others = [] if few else self._other_trials()
        try:
            predictions += self._predict(others, "validation")
            networks += others
        except StudyFailed as failed:  # they are a bonus, which must not cost the confirmation
            logger.warning("the ensemble has no networks of other trials: %s", failed)
        simple = self._simple_models("validation")
        found = self.baselines.found if self.baselines else None
        models = [
            EnsembleBaseline(model.family, model.name, model.settings)
            for model in (found.models if found else ())
            if model.exportable and model.family in simple
        ]
        if self.spec.data.test is not None and models:
            # Whatever keeps a model from predicting these rows: it can't be a member then.
            tested = self._simple_models("test")
            models = [model for model in models if model.family in tested]
        of_simple = [simple[model.family] for model in models]
        if few:
            counts, of_models = [1] * len(networks), blend(self.spec, predictions, of_simple, rows)
            if not any(of_models):
                return average
        else:
            own = [i for i, network in enumerate(networks) if network.number == winner.number]
            counts, of_models = select_members(self.spec, predictions, of_simple, own)
        return Ensemble(
            [replace(m, weight=n) for m, n in zip(networks, counts, strict=True) if n],
            [replace(m, weight=n) for m, n in zip(models, of_models, strict=True) if n],
            selected=True,
            rows=rows,
        )

    def _other_trials(self) -> list[EnsembleNetwork]:
        """The best trials after the candidates, as they were in the search.

        None where time is limited: they are trained once more.
        """
        if math.isfinite(self.seconds_left()):
            return []
        asked = self.spec.confirmation.candidates
        more = _with_confirmation(self.spec, asked + _MOST_OTHERS, None)
        others = finalists(self.study, more)[asked:]
        if others:
            self.on_event(TrainingOtherTrials(len(others)))
        for trial, hyperparameters in others:
            self.configurations[trial.number] = hyperparameters
            self.runs[trial.number, OWN_SEED] = Run.of(trial, self.spec)
        return [EnsembleNetwork(trial.number, OWN_SEED) for trial, _ in others]

    def _test(self, winner: Candidate, ensemble: Ensemble) -> TestValue | None:
        """The one look at the test rows, with the winner's networks and with the ensemble."""
        number, folds = winner.number, self.spec.data.folds
        part: _Part = "validation" if self.spec.data.test is None else "test"
        raw = self._together(ensemble, part)
        temperature = self._temperature(self._together(ensemble, "validation"))
        shown = calibrated(raw, temperature)
        if part == "test" or not folds:  # whose validation rows differ
            self._keep(number, part, shown)
            if self.baselines is not None:
                simple = self._simple_models(part)
                self.baselines.compare(number, part, shown, simple, of_ensemble=len(ensemble) > 1)
        singles = Ensemble.average(number, winner.values).networks
        of_singles = [self._temperature(each) for each in self._predict(singles, "validation")]
        if self.spec.task == "classification":
            typical = [member.index for member in singles].index(winner.typical)
            before, after = Reliability.measure(raw), Reliability.measure(shown)
            rows = sum(len(split) for _, split in shown)
            found = Calibration(number, temperature, of_singles[typical], part, rows, before, after)
            self._write(CALIBRATION, found.as_json())
        else:
            tested = shown[0] if part == "test" else None
            validation = self._together(ensemble, "validation")
            about = ForecastSeries.of(self._pools[0].dataset.preprocessing)
            names = about.names if about else ()
            measured = PredictionIntervals.measure(number, validation, tested, names)
            self._write(PREDICTION_INTERVALS, measured.as_json())
        if part == "validation":
            return None
        each = zip(self._predict(singles, part), of_singles, strict=True)
        alone = self._measured([calibrated(*pair) for pair in each])
        both = self._measured([shown])
        defined = len(ensemble) > 1 and math.isfinite(both["value"])
        return TestValue(**alone, ensemble=both if defined else None)

    def _temperature(self, validation: Predictions) -> float:
        """What probabilities are scaled with, fitted on validation rows; 1 for numbers."""
        return fit_temperature(validation) if self.spec.task == "classification" else 1.0

    @property
    def _pools(self) -> Sequence[Pool]:
        """One for each fold."""
        return self.pool.pools if isinstance(self.pool, FoldedPool) else [self.pool]

    def _predict(self, members: Sequence[EnsembleNetwork], part: _Part) -> list[Predictions]:
        """What each network predicts; trained again where its weights weren't kept."""
        missing = [m for m in members if (m.key, part) not in self.predicted]
        networks = self._networks(missing)
        for member in missing:
            predictions = self.pool.predict(
                self.configurations[member.number], networks[member.key], part
            )
            self.predicted[member.key, part] = _on_host(predictions)
        return [self.predicted[member.key, part] for member in members]

    def _simple_models(self, part: _Part) -> dict[str, Predictions]:
        """What each simple model predicts, by family."""
        if self.baselines is None:
            return {}
        if part not in self.simple:
            # In the units of the view that every study has.
            splits = [getattr(pool.dataset, part) for pool in self._pools]
            on_host = [split.to(torch.device("cpu"), split.targets.dtype) for split in splits]
            self.simple[part] = self.baselines.predict(
                part, on_host if part == "validation" else on_host[:1],
                self.stop, self.on_event, max(0.0, self.seconds_left()),
            )  # fmt: skip
        return self.simple[part]

    def _together(self, ensemble: Ensemble, part: _Part) -> Predictions:
        """The ensemble's predictions; of validation rows those of each fold."""
        predictions = self._predict(ensemble.networks, part)
        simple = self._simple_models(part) if ensemble.baselines else {}
        predictions += [simple[baseline.family] for baseline in ensemble.baselines]
        if part == "test":  # which all folds predict together
            return combined(predictions, ensemble.weights)
        by_fold = zip(*predictions, strict=True)
        return [combined([[pair] for pair in pairs], ensemble.weights)[0] for pairs in by_fold]

    def _measured(self, predictions: list[Predictions]) -> dict[str, Any]:
        """The metric's mean over trainings, and its interval."""
        value = mean_metric(self.spec.metric, predictions)
        return {"value": value, "interval": self._interval(predictions)}

    def _keep(self, number: int, part: Literal["validation", "test"], shown: Predictions) -> None:
        """Describes the ensemble's predictions, and keeps them for the report, which draws them."""
        dataset = self._pools[0].dataset
        about = ForecastSeries.of(dataset.preprocessing)
        described = self._measured([shown]) | describe_predictions(dataset.classes, shown, about)
        self.study.set_user_attr(PREDICTIONS, {"number": number, part: described})

    def _interval(self, predictions: list[Predictions]) -> list[float] | None:
        block = None
        if self.spec.kind == "series":
            season = max(int(pool.dataset.preprocessing["season"]) for pool in self._pools)
            block = max(season, self.spec.data.horizon or 1)
        seed = seeds.seed_for(self.spec.seed, "bootstrap")
        return metric_interval(self.spec.metric, predictions, block, seed)

    def _networks(self, members: Sequence[EnsembleNetwork]) -> dict[tuple[int, int], Networks]:
        """The networks of these runs, trained again where they weren't kept."""
        missing = [key for key in dict.fromkeys(m.key for m in members) if key not in self.kept]
        finished = [
            FinishedRun(
                PlannedRun.of(self.spec, number, index, self.configurations[number]),
                self.runs[number, index].best_epoch,
                self.runs[number, index].value,
            )
            for number, index in missing
        ]
        trained = train_again(self.pool, finished, self.slots, self.stop)
        return self.kept | {
            key: networks for key, (networks, _) in zip(missing, trained, strict=True)
        }

    def _write(self, key: str, content: object) -> None:
        with_retries(
            lambda: self.study.set_user_attr(key, content),
            self.stop,
            storage_events(self.on_event),
        )

    def _report(self, planned: Sequence[PlannedRun], *, begins: bool = False) -> None:
        seeds = self._planned_seeds()
        asked = [run for run in planned if run.index < seeds[run.number]]
        done, expected = sum(run.key in self.runs for run in asked), None
        if begins and (seconds := expected_confirmation(self.study, self.spec, self.slots)):
            seconds *= 1 - done / len(asked)
            worked = float(self.study.user_attrs.get(WORKED_SECONDS, 0.0))
            expected = (seconds, seconds / (worked + seconds)) if seconds else None
        seeds_asked = self.spec.confirmation.seeds
        self.on_event(
            Confirming(done, len(asked), len(self.finalists), seeds_asked, begins, expected)
        )


def _on_host(predictions: Predictions) -> Predictions:
    cpu = torch.device("cpu")
    return [(outputs.cpu(), split.to(cpu, outputs.dtype)) for outputs, split in predictions]
