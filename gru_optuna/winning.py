"""A study in the database to its winner: confirmed, and made into a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gru_optuna import confirming
from gru_optuna.bundle.card import measured
from gru_optuna.bundle.making import Trained, make_bundle, trained_on
from gru_optuna.data.dataset import load_dataset
from gru_optuna.digest import describe_at
from gru_optuna.errors import StudyError
from gru_optuna.joining import Settings, choose_device, load_data, make_pool
from gru_optuna.report.summary import summarize
from gru_optuna.retraining import Training, train_again, warn_if_other
from gru_optuna.search import confirmation
from gru_optuna.search import study as studies
from gru_optuna.seeds import trial_seed
from gru_optuna.storage.database import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event as Flag

    from optuna import Study

    from gru_optuna.bundle.predicting import Bundle
    from gru_optuna.report.summary import Winner
    from gru_optuna.search.confirmation import Confirmation
    from gru_optuna.spec import Specification
    from gru_optuna.worker.events import Event

__all__ = ["Place", "Settings", "confirm", "make_winner"]


@dataclass(frozen=True)
class Place:
    """Where a study is, and where it trains."""

    url: str  # of the database
    folder: Path  # what the paths of its data are relative to
    settings: Settings


def confirm(
    name: str,
    place: Place,
    candidates: int | None,
    seeds: int | None,
    stop: Flag,
    on_event: Callable[[Event], None] = lambda event: None,
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
        As ``confirming.confirm``.

    Raises
    ------
    UserError
        If the study or its data aren't there.
    StudyFailed
        If every run fails.
    """
    study, spec = studies.load(open_storage(place.url), name)
    found = confirmation.read(study)
    if found is not None:
        candidates, seeds = candidates or found.asked_candidates, seeds or found.asked_seeds
    spec = with_confirmation(spec, candidates, seeds)
    if confirmation.is_current(found, study, spec) or not confirmation.finalists(study, spec):
        return study, spec, found
    device = choose_device(place.settings.device)
    datasets = [data.to(device) for data in load_data(study, spec, place.folder)]
    pool, ready = make_pool(spec, datasets, place.settings)
    found = confirming.confirm(study, place.url, spec, pool, ready.slots, stop, on_event)
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


def make_winner(
    name: str, place: Place, stop: Flag, *, refit: bool = False, ensemble: bool = False
) -> Bundle:
    """The winner of a study as a bundle; ``bundle.save(folder)`` writes it.

    It is the network of the confirmed run with the median value: the best one would be chosen by
    luck once more, and the test value that was measured is what a usual one is worth. A study
    that wasn't confirmed gives the network of its best trial.

    A network is trained again, for as many epochs as it was best after: a run is a function of
    its configuration and seed, so its weights are the same, bit for bit on the same kind of
    processor.

    Parameters
    ----------
    name
        The study's.
    place
        Where it is.
    stop
        Set it to leave.
    refit
        Train on training and validation rows together, for as many epochs as the winner's runs
        usually took. Nothing is left then to measure that network on.
    ensemble
        The networks of all the winner's runs, whose predictions are averaged.

    Raises
    ------
    UserError
        If study or data aren't there, or the study has no complete trial, or `ensemble` was asked
        for and it isn't confirmed.
    Abandoned
        If `stop` was set.
    """
    study, spec = studies.load(open_storage(place.url), name)
    summary = summarize(study, spec)
    if (winner := summary.best) is None:
        raise StudyError(f'study "{name}" has no complete trial yet. Tune it first.')
    if ensemble and winner.confirmed is None:
        raise StudyError(
            f'study "{name}" is not confirmed yet, so there is no ensemble of fresh seeds. '
            f"Try: gru-optuna confirm {name}."
        )
    data = load_data(study, spec, place.folder)
    if refit:
        data = [load_dataset(spec, place.folder, refit=True)]
    chosen = _runs(spec, winner, refit=refit, ensemble=ensemble)
    device, settings = choose_device(place.settings.device), place.settings
    if len(chosen) == 1:
        settings = replace(settings, threads=1, slots=1)
    on_device = [one.to(device) for one in data]
    pool, ready = make_pool(_of_one_part(spec) if refit else spec, on_device, settings)
    runs = [(one.training, one.epochs) for one in chosen]
    read = [one.narrowed(winner.hyperparameters.vocabulary) for one in on_device]
    networks: list[Trained] = []
    for one, (weights, value) in zip(
        chosen, train_again(pool, runs, ready.slots, stop), strict=True
    ):
        if not refit:
            warn_if_other(spec, one.training, one.value, value)
        kept = None if refit else value
        networks += trained_on(read, weights, one.training.seed, one.epochs, kept)
    return make_bundle(
        spec,
        winner.number,
        winner.hyperparameters,
        networks,
        fingerprint=study.user_attrs["fingerprint"],
        metrics=measured(winner.value, summary.baselines, winner.confirmed),
        refitted=refit,
    )


@dataclass(frozen=True)
class _Chosen:
    """A run whose network is wanted."""

    training: Training
    epochs: int
    value: float | None  # that it had; None: it failed


def _runs(spec: Specification, winner: Winner, *, refit: bool, ensemble: bool) -> list[_Chosen]:
    if winner.confirmed is None:
        seed = trial_seed(spec.seed, winner.number)
        own = Training(winner.number, 0, winner.hyperparameters, seed)
        return [_Chosen(own, winner.best_epoch, winner.value)]
    won = winner.confirmed.won
    good = [index for index, value in enumerate(won.values) if value is not None]
    return [
        _Chosen(
            Training.of(spec, won.number, index, winner.hyperparameters),
            won.usual_epochs if refit else won.best_epochs[index],
            won.values[index],
        )
        for index in (good if ensemble else [won.typical])
    ]


def _of_one_part(spec: Specification) -> Specification:
    """Whose rows are not parted into folds, to train on all of them."""
    return spec.model_copy(update={"data": spec.data.model_copy(update={"folds": None})})
