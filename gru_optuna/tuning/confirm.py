"""Trains the best configurations on fresh seeds, chooses the winner, looks at the test rows once.

All workers of the study share the runs (``confirmation_runs.py``); one process decides.
"""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from gru_optuna import seeds
from gru_optuna.attributes import (
    CALIBRATION,
    CONFIRMATION,
    PREDICTION_INTERVALS,
    PREDICTIONS,
    TEST,
)
from gru_optuna.data.intervals import metric_interval
from gru_optuna.data.metrics import combined, mean_metric
from gru_optuna.errors import StudyFailed
from gru_optuna.report.notes import describe_at
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS
from gru_optuna.storage.workers.leases import Host
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
)
from gru_optuna.study.ensemble import OWN_SEED, Ensemble, EnsembleBaseline, EnsembleNetwork
from gru_optuna.study.prediction_intervals import PredictionIntervals
from gru_optuna.study.predictions import ForecastSeries, describe_predictions
from gru_optuna.study.study import load_study
from gru_optuna.training.folded_pool import FoldedPool
from gru_optuna.training.pool_factory import make_pool
from gru_optuna.tuning.baselines import BaselineFits
from gru_optuna.tuning.confirmation_runs import ConfirmationRuns, lease_runs
from gru_optuna.tuning.ensemble_selection import (
    FEWEST_ROWS,
    blend,
    independent_rows,
    select_members,
)
from gru_optuna.tuning.retrain import FinishedRun, PlannedRun, train_again
from gru_optuna.worker.commits import storage_events
from gru_optuna.worker.events import ConfirmingElsewhere, TrainingOtherTrials
from gru_optuna.worker.run import WorkerSettings, load_data

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.data.metrics import Predictions
    from gru_optuna.storage.workers.run_leases import RunKey, RunLeases
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.pool import Pool
    from gru_optuna.tuning.retrain import Networks
    from gru_optuna.worker.events import WorkerEvent


logger = logging.getLogger(__name__)

Role: TypeAlias = Literal["wait", "leave", "share"]
"""Each trains runs that are free. If no other process decides, "wait" and "leave" do; otherwise
"wait" waits for the decision, in case that process dies, and "leave" leaves. "share" leaves in
either case."""

_Part: TypeAlias = Literal["validation", "test"]

_MOST_OTHERS = 5
"""Trials beyond the confirmed ones whose networks may be members of the ensemble."""

_LOOK_SECONDS = 1.0
"""How long one attempt to be the process that decides waits for the one that does."""


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
            study, place.url, spec, pool, size.slots, stop, on_event, baselines=baselines,
            lease_seconds=place.settings.lease_seconds,
        )  # fmt: skip
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
    role: Role = "wait",
    leases: RunLeases | None = None,
    lease_seconds: float = LEASE_SECONDS,
) -> Decision | None:
    """The decision about the trials that are the best ones now, made unless it exists.

    Any number of processes may do this at once: they share the runs, and one decides.

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
    role
        What to do once no run is free and another process decides.
    leases
        Of this worker, which it has joined the study with; None: it joins here.
    lease_seconds
        How long it may then be silent before others train its runs.

    Returns
    -------
    Decision or None
        None if it was stopped, if there is no candidate, if no seed was finished in time, or if
        another process decides.

    Raises
    ------
    StudyFailed
        If every run fails.
    Abandoned
        If the epoch in flight would take too long; end the process at once.
    """
    with ExitStack() as held:
        if leases is None:
            host = Host.here(str(pool.device), slots)
            joining = lease_runs(study, url, host, lease_seconds, stop, on_event)
            leases = held.enter_context(joining)

        def make_runs(*, decides: bool) -> ConfirmationRuns:
            return ConfirmationRuns(
                study, url, spec, pool, slots, leases, stop, on_event, seconds_left,
                decides=decides,
            )  # fmt: skip

        has_shared = False
        while not stop.is_set():
            if role != "share" and _enter_alone(study, url, held, wait=has_shared):
                # Another process may have made it meanwhile.
                decision = read_decision(study)
                if is_current(decision, study, spec):
                    return decision
                runs = make_runs(decides=True)
                return _Confirmation(
                    study, spec, pool, slots, stop, on_event, seconds_left, runs, baselines
                ).decide()
            if not has_shared:
                if role == "wait":
                    on_event(ConfirmingElsewhere())
                if finalists(study, spec):
                    # A thread more within one operation costs more than it brings.
                    torch.set_num_threads(1)
                    make_runs(decides=False).train()
                has_shared = True
            if role != "wait":
                return None
    return None


def _enter_alone(study: Study, url: str, held: ExitStack, *, wait: bool) -> bool:
    """Keeps other processes from deciding about this study, unless one of them does it."""
    name = f"confirm-{study_id(study)}"
    try:
        held.enter_context(locate(url).exclusively(name, _LOOK_SECONDS if wait else 0.0))
    except TimeoutError:
        return False
    return True


@dataclass
class _Confirmation:
    """What follows from the finalists' runs on fresh seeds."""

    study: Study
    spec: Specification
    pool: TrialPool
    slots: int
    stop: Event
    on_event: Callable[[WorkerEvent], None]
    seconds_left: Callable[[], float]
    fresh: ConfirmationRuns
    baselines: BaselineFits | None = None
    predicted: dict[tuple[RunKey, _Part], Predictions] = field(default_factory=dict)
    simple: dict[_Part, dict[str, Predictions]] = field(default_factory=dict)
    runs: dict[RunKey, Run] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.finalists = self.fresh.finalists
        self.configurations = {trial.number: found for trial, found in self.finalists}

    def decide(self) -> Decision | None:
        if not self.finalists:
            return None
        # A thread more within one operation costs more than it brings.
        torch.set_num_threads(1)
        self.fresh.train()
        plan = self.fresh.plan
        self.runs = {**plan.runs}
        # One seed at least, which some candidates may lack.
        count, planned = max(1, plan.finished_seeds), plan.seeds
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
        # Before the decision: once it stands, nobody would remove them any more.
        self.fresh.clear()
        # The look at the test rows first: a crash must not hide that it happened.
        if test is not None:
            self._write(TEST, {"number": winner.number, "value": test.value})
        self._write(CONFIRMATION, decision.as_json())
        return decision

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

    def _networks(self, members: Sequence[EnsembleNetwork]) -> dict[RunKey, Networks]:
        """The networks of these runs, trained again where they weren't kept."""
        keys = list(dict.fromkeys(member.key for member in members))
        known = self.fresh.networks(keys)
        missing = [key for key in keys if key not in known]
        finished = [
            FinishedRun(
                PlannedRun.of(self.spec, number, index, self.configurations[number]),
                self.runs[number, index].best_epoch,
                self.runs[number, index].value,
            )
            for number, index in missing
        ]
        trained = train_again(self.pool, finished, self.slots, self.stop)
        for key, (networks, _) in zip(missing, trained, strict=True):
            self.fresh.keep(key, networks)
            known[key] = networks
        return known

    def _write(self, key: str, content: object) -> None:
        with_retries(
            lambda: self.study.set_user_attr(key, content),
            self.stop,
            storage_events(self.on_event),
        )


def _on_host(predictions: Predictions) -> Predictions:
    cpu = torch.device("cpu")
    return [(outputs.cpu(), split.to(cpu, outputs.dtype)) for outputs, split in predictions]
