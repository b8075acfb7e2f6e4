"""The winner of a study, or any of its trials, as a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from statistics import median_low
from threading import Event
from typing import TYPE_CHECKING

from gru_optuna.attributes import FINGERPRINT
from gru_optuna.bundle.build import MemberModel, MemberNetwork, make_bundle
from gru_optuna.bundle.card import measured
from gru_optuna.bundle.linear import FittedLinear
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import StudyError, StudyFailed
from gru_optuna.formatting import format_list
from gru_optuna.search import space
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.calibration import read_calibration
from gru_optuna.study.confirmation import Run, decide, read_decision, read_runs
from gru_optuna.study.ensemble import OWN_SEED, Ensemble, EnsembleNetwork
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import Winner, summarize
from gru_optuna.study.trial_attributes import best_epoch, best_reached
from gru_optuna.study_file import SIZE
from gru_optuna.training.pool_factory import choose_device, make_pool
from gru_optuna.tuning.retrain import FinishedRun, PlannedRun, train_again
from gru_optuna.worker.run import load_data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.bundle.bundle import Bundle
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study.ensemble import EnsembleBaseline
    from gru_optuna.study.prediction_intervals import PredictionIntervals
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.tuning.confirm import Place


def make_winner(
    name: str,
    place: Place,
    stop: Event,
    *,
    refit: bool | None = False,
    ensemble: bool | None = None,
    max_parameters: int | None = None,
) -> Bundle:
    """The winner of a study as a bundle; ``bundle.save(folder)`` writes it.

    It is the ensemble that the confirmation chose. A single one of its networks is that of the
    winning configuration's run with the median value: the best one would be chosen by luck once
    more, and the test value that was measured is what a typical one is worth. A study that wasn't
    confirmed gives the network of its best trial.

    A network is trained again, up to its best epoch: a run is a function of its configuration and
    seed, so its weights are the same, bit for bit on the same kind of processor.

    Parameters
    ----------
    name
        The study's name.
    place
        Where the study is.
    stop
        Set it to leave.
    refit
        Train on training and validation rows together, or for forecasts on all rows, for as many
        epochs as the winner's runs usually took. No rows are left then to measure that network
        on. None: only if it forecasts, since the future is near the newest rows.
    ensemble
        Whether to take the ensemble or a single network; None: the ensemble, if there is one.
    max_parameters
        The most numbers that a network may learn: the best confirmed candidate within them is
        taken, as a single network, in place of the winner. None: the winner.

    Raises
    ------
    UserError
        If the study or its data don't exist, or the study has no trained trial, or `ensemble` was
        asked for and it isn't confirmed, or no confirmed candidate has `max_parameters` or fewer.
    Abandoned
        If `stop` was set.
    """
    study, spec = load_study(open_storage(place.url), name)
    refit = spec.task == "forecasting" if refit is None else refit
    summary = summarize(study, spec)
    if (winner := summary.best) is None:
        raise StudyError(f'study "{name}" has no result: {summary.no_result}')
    if ensemble and winner.confirmed is None:
        raise StudyError(
            f'study "{name}" is not confirmed yet, so there is no ensemble of fresh seeds. '
            f"Try: gru-optuna confirm {name}."
        )
    if max_parameters is not None:
        winner = _within(study, spec, winner, max_parameters, refit=refit)
        ensemble = False
    settings = place.settings
    datasets = load_data(study, spec, place.folder, settings.device)
    if refit:
        device = choose_device(settings.device)
        datasets = [load_dataset(spec, place.folder, refit=True).to(device)]
    if winner.confirmed is None or ensemble is False:  # a single network
        settings = replace(settings, threads=1, slots=1)
    pool, size = make_pool(
        without_folds(spec) if refit else spec, datasets, settings.threads, settings.slots
    )
    return bundle_of_winner(
        study, spec, winner, datasets, pool, size.slots, stop, place.folder,
        refit=refit, ensemble=ensemble is not False,
        fingerprint=study.user_attrs[FINGERPRINT],
        baselines=summary.baselines,
        compared=summary.compared() if winner is summary.best else (),
    )  # fmt: skip


def _within(study: Study, spec: Specification, winner: Winner, most: int, *, refit: bool) -> Winner:
    """The best confirmed candidate within a limit of parameters, chosen as the winner is."""
    name = study.study_name
    if spec.data.folds and not spec.data.rolling and not refit:
        raise StudyError(
            f'--max-parameters {most}: study "{name}" has {spec.data.folds} folds, and what it '
            f"exports is one network of each. Add --refit for a single one, trained on all rows."
        )
    if (decision := read_decision(study)) is None:
        raise StudyError(
            f'study "{name}" is not confirmed yet, so it is unknown which of its networks hold on '
            f"fresh seeds. Try: gru-optuna confirm {name}."
        )
    found = decide([c for c in decision.candidates if c.parameters <= most], spec)
    if found is None:
        known = sorted({candidate.parameters for candidate in decision.candidates})
        sizes = format_list((f"{parameters:,}" for parameters in known), last=" and ")
        raise StudyError(
            f'--max-parameters {most}: study "{name}" has confirmed no network so small; those '
            f"that it has confirmed have {sizes} parameters. Allow more, or tune with "
            f'constraints = ["{SIZE} <= {most}"] in a new study.'
        )
    candidate, _ = found
    if winner.confirmed and candidate.number == winner.number:
        return winner
    trial = study.get_trials(deepcopy=False)[candidate.number]
    return Winner(
        number=candidate.number,
        value=candidate.search_value,
        test=None,  # the test rows were used for the winner alone
        best_epoch=best_epoch(trial, candidate.search_value),
        params=dict(trial.params),
        hyperparameters=space.hyperparameters(trial.params, spec),
        confirmed=replace(decision, winner=candidate.number, test=None, ensemble=None),
    )


def bundle_of_winner(
    study: Study,
    spec: Specification,
    winner: Winner,
    datasets: Sequence[Dataset],
    pool: TrialPool,
    slots: int,
    stop: Event,
    folder: Path | None = None,
    *,
    refit: bool,
    ensemble: bool = True,
    fingerprint: str,
    baselines: Mapping[str, float],
    compared: Sequence[str] = (),
) -> Bundle:
    """A winner as a bundle, as `make_winner` describes it.

    Parameters
    ----------
    study, spec
        The study.
    winner
        Its winner.
    datasets
        Its data; with `refit`, the validation rows are among the training rows.
    pool, slots, stop
        Where to train, how many networks at a time, and what stops it.
    folder
        What the paths of the data are relative to. None: they are in memory, so that an ensemble
        has no simple models.
    refit, ensemble
        As of `make_winner`.
    fingerprint
        The data's, before `refit`.
    baselines, compared
        What the winner had to beat, for the model card.
    """
    calibration, temperature = None, 1.0
    linear: list[MemberModel] = []
    if winner.confirmed is None:
        runs = [_best_run(spec, winner, refit=refit)]
    else:
        chosen = winner.confirmed.members
        calibration = read_calibration(study, winner.number)
        if calibration is not None:
            temperature = calibration.temperature if ensemble else calibration.single
        if not ensemble:
            chosen = Ensemble([EnsembleNetwork(winner.number, winner.confirmed.won.typical)])
        runs = _runs(study, spec, chosen.networks, refit=refit)
        if chosen.baselines:
            assert folder is not None
            linear = _fitted(spec, folder, chosen.baselines, refit=refit)
    return _bundle(
        spec, winner.number, winner.hyperparameters, datasets, pool, runs, slots, stop, linear,
        fingerprint=fingerprint,
        metrics=measured(winner.value, baselines, winner.confirmed, compared, calibration),
        temperature=temperature,
        # They are those of the average, whose errors are smaller than a single network's.
        intervals=winner.intervals if ensemble else None,
        refitted=refit,
    )  # fmt: skip


def bundle_of_trial(
    spec: Specification, datasets: Sequence[Dataset], pool: TrialPool, trial: FrozenTrial
) -> Bundle:
    """A trial as a bundle: its network, trained again up to its best epoch.

    With folds, the networks of all of them together.

    Parameters
    ----------
    spec, datasets
        The study.
    pool
        Where to train.
    trial
        A trial with the attributes that ours have.

    Raises
    ------
    StudyFailed
        If it fails, although it didn't the first time.
    """
    value = best_reached(trial, spec)
    assert value is not None
    hyperparameters = space.hyperparameters(trial.params, spec)
    run = PlannedRun.of(spec, trial.number, OWN_SEED, hyperparameters)
    member = _Member(FinishedRun(run, best_epoch(trial, value)))
    return _bundle(
        spec, trial.number, hyperparameters, datasets, pool, [member], 1, Event(),
        fingerprint=datasets[0].fingerprint,
        metrics=measured(value, datasets[0].baselines, None),
        refitted=False,
    )  # fmt: skip


def without_folds(spec: Specification) -> Specification:
    """The specification of a training on all rows together."""
    return spec.model_copy(update={"data": spec.data.model_copy(update={"folds": None})})


@dataclass(frozen=True)
class _Member:
    """A run whose network is wanted, and how much it counts."""

    finished: FinishedRun
    weight: int = 1


def _best_run(spec: Specification, winner: Winner, *, refit: bool) -> _Member:
    """The run of a trial that isn't confirmed."""
    run = PlannedRun.of(spec, winner.number, OWN_SEED, winner.hyperparameters)
    return _Member(FinishedRun(run, winner.best_epoch, None if refit else winner.value))


def _runs(
    study: Study, spec: Specification, networks: Sequence[EnsembleNetwork], *, refit: bool
) -> list[_Member]:
    """The runs of an ensemble's networks."""
    runs, trials = read_runs(study), study.get_trials(deepcopy=False)
    for member in networks:
        if member.index == OWN_SEED:
            runs[member.key] = Run.of(trials[member.number], spec)
    usual = {
        number: median_low(
            run.best_epoch for (of, _), run in runs.items() if of == number and run.best_epoch
        )
        for number in {member.number for member in networks}
    }
    found = []
    for member in networks:
        hyperparameters = space.hyperparameters(trials[member.number].params, spec)
        planned, run = PlannedRun.of(spec, *member.key, hyperparameters), runs[member.key]
        finished = (
            FinishedRun(planned, usual[member.number])
            if refit
            else FinishedRun(planned, run.best_epoch, run.value)
        )
        found.append(_Member(finished, member.weight))
    return found


def _fitted(
    spec: Specification, folder: Path, baselines: Sequence[EnsembleBaseline], *, refit: bool
) -> list[MemberModel]:
    """The simple models of an ensemble, fitted again with the settings that were chosen."""
    # Heavy: scikit-learn, which networks don't need.
    from threadpoolctl import threadpool_limits

    from gru_optuna.baselines.fit import LeftOut, fit_all
    from gru_optuna.baselines.rows import read_raw_folds

    folds, known = read_raw_folds(spec, folder, refit=refit), {m.family: m for m in baselines}
    found = []
    with threadpool_limits(1):  # as where they were measured: sums of threads round differently
        settings = {family: member.settings for family, member in known.items()}
        for model in fit_all(spec, folds, inf, settings):
            if isinstance(model, LeftOut):
                raise StudyFailed(f"{model.family}, fitted again, failed: {model.reason}.")
            found += [
                MemberModel(fitted, model.name, known[model.family].weight)
                for fitted in model.predictors
                if isinstance(fitted, FittedLinear)
            ]
    return found


def _bundle(
    spec: Specification,
    number: int,
    hyperparameters: Hyperparameters,
    datasets: Sequence[Dataset],
    pool: TrialPool,
    runs: Sequence[_Member],
    slots: int,
    stop: Event,
    linear: Sequence[MemberModel] = (),
    *,
    fingerprint: str,
    metrics: Mapping[str, Any],
    temperature: float = 1.0,
    intervals: PredictionIntervals | None = None,
    refitted: bool,
) -> Bundle:
    """The networks of these runs, trained again, as a bundle of this trial."""
    networks: list[MemberNetwork] = []
    # Of rolling origins, the last one's network is the one that was tested.
    first = -1 if spec.data.rolling and not refitted else 0
    trained = train_again(pool, [member.finished for member in runs], slots, stop)
    for member, (weights, value) in zip(runs, trained, strict=True):
        finished, own = member.finished, member.finished.run.number != number
        networks += [
            MemberNetwork(
                network,
                dataset.seen_by(finished.run.hyperparameters).preprocessing,
                finished.run.seed,
                finished.epochs,
                None if refitted else value,
                member.weight,
                finished.run.number if own else None,
                finished.run.hyperparameters if own else None,
            )
            for dataset, network in zip(datasets[first:], weights[first:], strict=True)
        ]
    return make_bundle(
        spec, number, hyperparameters, networks, linear,
        fingerprint=fingerprint, metrics=metrics, temperature=temperature,
        intervals=intervals, refitted=refitted,
    )  # fmt: skip
