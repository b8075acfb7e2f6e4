"""Makes bundles from trained networks."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import safetensors.numpy
import safetensors.torch

from gru_optuna.bundle.card import model_card
from gru_optuna.bundle.folder import CARD, MANIFEST, SPECIFICATION
from gru_optuna.bundle.linear import linear_as_json
from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.bundle.manifest import (
    Intervals,
    LinearMember,
    Manifest,
    Member,
    format_for,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from gru_optuna.bundle.bundle import Bundle
    from gru_optuna.bundle.linear import FittedLinear
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study.prediction_intervals import PredictionIntervals
    from gru_optuna.study_file import Specification


_LIBRARIES = ("gru-optuna", "numpy", "torch", "tokenizers", "safetensors")


@dataclass(frozen=True)
class MemberNetwork:
    """One network to be put into a bundle."""

    weights: Mapping[str, Tensor]  # by their names in ``Network.shapes``
    preprocessing: Mapping[str, Any]  # as its ``Dataset`` has it
    seed: int
    epochs: int  # trained
    validation: float | None  # the metric on validation rows; None: trained on them too
    weight: int = 1  # how much it counts in the average
    # Where they aren't the bundle's own: the trial that it was trained as, and that trial's values.
    trial: int | None = None
    hyperparameters: Hyperparameters | None = None


@dataclass(frozen=True)
class MemberModel:
    """One linear model to be put into a bundle."""

    fitted: FittedLinear
    name: str
    weight: int = 1


def make_bundle(
    spec: Specification,
    trial: int,
    hyperparameters: Hyperparameters,
    networks: Sequence[MemberNetwork],
    linear: Sequence[MemberModel] = (),
    *,
    fingerprint: str,
    metrics: Mapping[str, Any],
    temperature: float = 1.0,
    intervals: PredictionIntervals | None = None,
    refitted: bool = False,
) -> Bundle:
    """A bundle in memory; ``bundle.save(folder)`` writes it.

    Parameters
    ----------
    spec
        The study file.
    trial, hyperparameters
        The best configuration: the trial that most networks were trained as, and its values.
    networks
        One, or several whose predictions are averaged.
    linear
        Linear models that are averaged with them.
    fingerprint
        The data's.
    metrics
        The results, for the model card.
    temperature
        What probabilities are scaled with; see `study.calibration`.
    intervals
        How far the average's predictions of numbers are off.
    refitted
        Whether the networks were trained on training and validation rows together.
    """
    content: dict[str, bytes] = {}
    names: dict[bytes, str] = {}  # of the files of preprocessing, which networks may share
    members: list[Member] = []
    for number, network in enumerate(networks):
        preprocessing = write_json(network.preprocessing)
        name = names.setdefault(preprocessing, f"preprocessing/{len(names)}.json")
        weights, own = f"weights/{number}.safetensors", network.hyperparameters
        content[weights] = safetensors.torch.save(
            {
                name: weight.detach().cpu().float().contiguous()
                for name, weight in network.weights.items()
            }
        )
        members.append(
            Member(
                weights=weights,
                preprocessing=name,
                seed=network.seed,
                epochs=network.epochs,
                validation=network.validation,
                weight=network.weight,
                trial=network.trial,
                configuration=None if own is None else own.configuration(),
            )
        )
    models: list[LinearMember] = []
    for number, model in enumerate(linear):
        weights = f"weights/{len(networks) + number}.safetensors"
        name = f"linear/{number}.json"
        content[weights] = safetensors.numpy.save(model.fitted.arrays)
        content[name] = write_json(linear_as_json(model.fitted))
        models.append(
            LinearMember(weights=weights, model=name, name=model.name, weight=model.weight)
        )
    manifest = Manifest(
        format=3,
        versions={"python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        study=spec.name,
        task=spec.task,
        metric=spec.metric,
        trial=trial,
        configuration=hyperparameters.configuration(),
        refitted=refitted,
        members=members,
        linear=models,
        temperature=temperature,
        intervals=_intervals(intervals),
        metrics=dict(metrics),
        fingerprint=fingerprint,
    )
    prepared = [network.preprocessing for network in networks]
    needed = format_for(spec, prepared, plain=manifest.plain)
    manifest = manifest.model_copy(update={"format": needed})
    content |= {name: preprocessing for preprocessing, name in names.items()}
    content[MANIFEST] = write_json(manifest.model_dump(mode="json"))
    content[SPECIFICATION] = write_json(spec.model_dump(mode="json"))
    bundle = bundle_from_files(content, "the bundle")
    content[CARD] = model_card(bundle).encode()
    return bundle


def _intervals(measured: PredictionIntervals | None) -> Intervals | None:
    """The intervals of all levels that had enough validation rows."""
    if measured is None or not measured.levels:
        return None
    widths: dict[Any, Any] = {level: measured.widths[level] for level in measured.levels}
    return Intervals(widths=widths, relative=measured.relative, scales=measured.scales)
