"""From rows with labels or numbers to predict to a `Dataset`: classes, or scaled numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gru_optuna.data.dataset import Dataset, Split, Units, starts_of
from gru_optuna.data.metrics import measure
from gru_optuna.data.views import PLAIN, View
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from gru_optuna.data.readers.labels import Labels
    from gru_optuna.data.splitting import Part, Parts, Row
    from gru_optuna.study_file import Specification


def assemble(
    spec: Specification,
    parts: Parts[Row],
    encode: Callable[[Part[Row]], tuple[Tensor, Tensor]],
    *,
    fingerprint: str,
    preprocessing: Mapping[str, Any],
    vocabulary: int = 0,
    dropped: Mapping[str, int] | None = None,
    view: View = PLAIN,
) -> Dataset:
    """Makes the dataset of three parts.

    Parameters
    ----------
    spec
        Its task, metric and ``data`` section.
    parts
        Rows with the labels or numbers to predict.
    encode
        Turns a part's rows into steps and lengths; it has learned from the training part.
    fingerprint, preprocessing, vocabulary, dropped, view
        As in `Dataset`.

    Raises
    ------
    DataError
        If the targets never differ, or the metric isn't defined on the rows that are measured.
    """
    labelled = parts.train.examples.labels is not None
    outputs = Classes.of(parts.train) if labelled else Numbers.of(parts.train)

    def split(part: Part[Row]) -> Split:
        steps, lengths = encode(part)
        targets, units = outputs.targets(part)
        return Split(steps, starts_of(lengths), lengths, targets, units, _numbered(part.groups))

    train, validation = split(parts.train), split(parts.validation)
    test = split(parts.test) if parts.test else None
    baselines: dict[str, float] = {}
    for name, rows in (("validation", validation), ("test", test)):
        if rows is not None:  # the test rows come last: theirs are kept
            constant = outputs.constant().expand(len(rows), -1)
            baselines = {outputs.baseline: measure(spec.metric, constant, rows)}
            check_defined(spec, baselines, parts.train.examples.source, name)
    weights = None
    if spec.data.class_weights == "balanced":
        weights = balanced_weights(train.targets, len(outputs.classes))
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        classes=outputs.classes,
        fingerprint=fingerprint,
        task=spec.task,
        vocabulary=vocabulary,
        class_weights=weights,
        baselines=baselines,
        preprocessing={**preprocessing, **outputs.as_json()},
        dropped=dict(dropped or {}),
        view=view,
    )


def _numbered(groups: Labels | None) -> Tensor | None:
    """The groups of the rows (N,), numbered from 0."""
    if groups is None:
        return None
    return torch.from_numpy(groups.places_among(list(groups.counts())))


def check_defined(
    spec: Specification, baselines: Mapping[str, float], source: str, part: str
) -> None:
    """Refuses a metric that isn't defined on a part, whatever is predicted.

    Raises
    ------
    DataError
        If a simple prediction has no finite value there.
    """
    if not all(np.isfinite(value) for value in baselines.values()):
        raise DataError(
            f"{source}: {spec.metric} is not defined on the {part} rows: there are too few, or "
            f"all are alike. Make the {part} part larger, or use another metric."
        )


def balanced_weights(targets: Tensor, classes: int) -> Tensor:
    """Weights (O,) in inverse proportion to the frequency of each class; 1 on average over rows.

    ``N / (O * count)``, as scikit-learn's "balanced" (King & Zeng 2001).
    """
    counts = torch.bincount(targets, minlength=classes)
    return (len(targets) / (classes * counts)).float()


@dataclass(frozen=True)
class Classes:
    """Outputs that are classes, in this order."""

    classes: tuple[str, ...]
    shares: tuple[float, ...] = ()  # of the training rows
    baseline: str = "majority class"

    @classmethod
    def of(cls, train: Part[Any]) -> Classes:
        """The classes of the training file, with their shares of the training rows."""
        counts, classes = train.labels.counts(), train.examples.classes
        return cls(classes, tuple(counts.get(label, 0) / len(train) for label in classes))

    def targets(self, part: Part[Any]) -> tuple[Tensor, Units | None]:
        """The index (N,) of each row's class among the outputs."""
        return torch.from_numpy(part.labels.places_among(self.classes)), None

    def constant(self) -> Tensor:
        """The baseline's prediction for every row (1, O): the shares of the classes, as logits."""
        return torch.tensor([self.shares], dtype=torch.float64).log()

    def as_json(self) -> dict[str, Any]:
        """What predicting needs."""
        return {"labels": list(self.classes)}


@dataclass(frozen=True)
class Numbers:
    """An output that is a number, scaled to mean 0 and deviation 1 over the training rows."""

    mean: float
    deviation: float
    classes: tuple[str, ...] = ()
    baseline: str = "mean"

    @classmethod
    def of(cls, train: Part[Any]) -> Numbers:
        """Measures mean and deviation of the training rows' targets.

        Raises
        ------
        DataError
            If all targets are equal.
        """
        targets = train.targets
        mean, deviation = float(targets.mean()), float(targets.std())
        if not deviation > 0:
            raise DataError(
                f"{train.examples.source}: every number to predict is {targets[0]:g} in the "
                f"training rows, so there is nothing to learn. Name another target."
            )
        return cls(mean, deviation)

    def units(self, rows: int) -> Units:
        """The units of this many scaled predictions."""
        one = torch.ones(rows, 1, dtype=torch.float64)
        return Units(offset=self.mean * one, scale=self.deviation * one)

    def targets(self, part: Part[Any]) -> tuple[Tensor, Units | None]:
        """The scaled numbers (N, 1), and their units."""
        units = self.units(len(part))
        return units.scaled(torch.from_numpy(part.targets).unsqueeze(1)).float(), units

    def constant(self) -> Tensor:
        """The baseline's prediction for every row (1, 1): the mean, which is 0 when scaled."""
        return torch.zeros(1, 1)

    def as_json(self) -> dict[str, Any]:
        """What predicting needs."""
        return {"target": {"mean": self.mean, "deviation": self.deviation}}


def outputs_from_json(preprocessing: Mapping[str, Any]) -> Classes | Numbers:
    """What the outputs mean for texts and sequences; `as_json` wrote it next to the encoder."""
    if (labels := preprocessing.get("labels")) is not None:
        return Classes(tuple(labels))
    return Numbers(preprocessing["target"]["mean"], preprocessing["target"]["deviation"])
