"""From a trial to a bundle: trained again, it is the network that it was."""

from __future__ import annotations

from threading import Event as Flag
from typing import TYPE_CHECKING

from gru_optuna import seeds
from gru_optuna.bundle.card import measured
from gru_optuna.bundle.making import make_bundle, trained_on
from gru_optuna.retraining import Training, train_again
from gru_optuna.search import space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial

    from gru_optuna.bundle.predicting import Bundle
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.search.confirmation import Confirmation
    from gru_optuna.spec import Specification
    from gru_optuna.training.folds import TrialPool


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
    seed, epochs = seeds.trial_seed(spec.seed, trial.number), int(trial.user_attrs["best_epoch"])
    if refitted and confirmed is not None:
        epochs = confirmed.won.usual_epochs
    own = Training(trial.number, 0, hyperparameters, seed)
    read = [dataset.narrowed(hyperparameters.vocabulary) for dataset in datasets]
    ((networks, value),) = train_again(pool, [(own, epochs)], 1, Flag())
    return make_bundle(
        spec,
        trial.number,
        hyperparameters,
        trained_on(read, networks, seed, epochs, None if refitted else value),
        fingerprint=datasets[0].fingerprint,
        metrics=measured(trial.value, datasets[0].baselines, confirmed),
        refitted=refitted,
    )
