"""A study in the database to its winner: confirmed, and made into a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Event
from typing import TYPE_CHECKING

from gru_optuna import seeds
from gru_optuna.attributes import FINGERPRINT
from gru_optuna.bundle.build import MemberNetwork, make_bundle, trained_on
from gru_optuna.bundle.card import measured
from gru_optuna.data.load import load_dataset
from gru_optuna.errors import StudyError
from gru_optuna.search import space
from gru_optuna.seeds import trial_seed
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import summarize
from gru_optuna.study.trial_attributes import TrialAttributes
from gru_optuna.training.pool_factory import choose_device, make_pool
from gru_optuna.tuning.retrain import Training, train_again, warn_if_other
from gru_optuna.worker.run import load_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

    from gru_optuna.bundle.bundle import Bundle
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study.confirmation import Confirmation
    from gru_optuna.study.summary import Winner
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.tuning.confirm import Place


def make_winner(
    name: str, place: Place, stop: Event, *, refit: bool = False, ensemble: bool = False
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
    study, spec = load_study(open_storage(place.url), name)
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
    pool, size = make_pool(
        _of_one_part(spec) if refit else spec, on_device, settings.threads, settings.slots
    )
    runs = [(one.training, one.epochs) for one in chosen]
    networks: list[MemberNetwork] = []
    for one, (weights, value) in zip(
        chosen, train_again(pool, runs, size.slots, stop), strict=True
    ):
        if not refit:
            warn_if_other(spec, one.training, one.value, value)
        kept = None if refit else value
        networks += trained_on(on_device, weights, one.training.seed, one.epochs, kept)
    return make_bundle(
        spec,
        winner.number,
        winner.hyperparameters,
        networks,
        fingerprint=study.user_attrs[FINGERPRINT],
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


def bundle_of_trial(
    spec: Specification,
    datasets: Sequence[Dataset],
    pool: TrialPool,
    trial: FrozenTrial,
    confirmed: Confirmation | None = None,
    *,
    refitted: bool = False,
) -> Bundle:
    """The network of a complete trial, trained again up to its best epoch.

    A trial is a function of its parameters and its seed, so on the same rows these are the
    weights it had. Of folds, all networks together.

    Parameters
    ----------
    spec, datasets
        The study.
    pool
        Where to train.
    trial
        With the attributes of our trials.
    confirmed
        What it came to on fresh seeds, for the model card.
    refitted
        Whether `datasets` hold the validation rows among the training rows. Then it is trained
        as long as it usually was best after, if that is known.

    Raises
    ------
    StudyFailed
        If it fails, which it didn't the first time.
    """
    hyperparameters = space.hyperparameters(trial.params, spec)
    seed, epochs = seeds.trial_seed(spec.seed, trial.number), TrialAttributes.read(trial).best_epoch
    if refitted and confirmed is not None:
        epochs = confirmed.won.usual_epochs
    own = Training(trial.number, 0, hyperparameters, seed)
    ((networks, value),) = train_again(pool, [(own, epochs)], 1, Event())
    return make_bundle(
        spec,
        trial.number,
        hyperparameters,
        trained_on(datasets, networks, seed, epochs, None if refitted else value),
        fingerprint=datasets[0].fingerprint,
        metrics=measured(trial.value, datasets[0].baselines, confirmed),
        refitted=refitted,
    )
