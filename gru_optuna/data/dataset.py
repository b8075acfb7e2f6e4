"""What training sees: tensors, and nothing about where they came from.

Letters, here and in ``training``: N rows, M steps of all of them, B rows of a batch, T steps, C
channels, H hidden size, O outputs (classes, or numbers to predict).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from gru_optuna.data.views import PLAIN, View, views_of
from gru_optuna.machine import allowance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

PADDING, UNKNOWN = 0, 1
"""Token ids of every vocabulary; known tokens begin at 2."""

_LARGEST_LOG = 300.0

_TOGETHER = 4
"""The data and the views of them that are kept share the allowance of memory."""


@dataclass(frozen=True)
class Units:
    """What scaled predictions mean in the data's own units.

    ``offset + scale * prediction``, or e to the power of that where `log` is set.
    """

    offset: Tensor  # (N, O) float64
    scale: Tensor  # (N, 1) float64
    naive: Tensor | None = None  # (N, 1) mean seasonal-naive error in training: MASE's divisor
    log: bool = False

    def restore(self, scaled: Tensor) -> Tensor:
        """Converts scaled predictions or targets (N, O) to the data's units, in float64."""
        values = self.offset + self.scale * scaled.double()
        # The square of e to the power of 300 is finite: a wild network is bad, not undefined.
        return values.clamp(max=_LARGEST_LOG).exp() if self.log else values

    def scaled(self, values: Tensor) -> Tensor:
        """Scales values in the data's units (N, O), as a network would predict them."""
        return ((values.log() if self.log else values) - self.offset) / self.scale

    def rows(self, index: Tensor) -> Units:
        """The units of the rows at `index` (B,)."""
        naive = None if self.naive is None else self.naive[index]
        return Units(self.offset[index], self.scale[index], naive, self.log)

    def to(self, device: torch.device) -> Units:
        """Moves them to a device, still in float64, in which metrics are computed."""
        naive = None if self.naive is None else self.naive.to(device)
        return Units(self.offset.to(device), self.scale.to(device), naive, self.log)


@dataclass(frozen=True)
class Batch:
    """Rows side by side, padded to the longest of them."""

    values: Tensor  # (B, T, C), or (B, T) int64 tokens; zero after each row's length
    lengths: Tensor  # (B,) int64
    targets: Tensor  # as in a `Split`

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Split:
    """Rows that are used together: for training, validation, or the test.

    Their steps lie one row after another, without padding, and the windows of a series overlap:
    a split takes no more memory than its file's content.
    """

    steps: Tensor  # (M, C), or (M,) int64 tokens; M the steps of all rows
    starts: Tensor  # (N,) int64, the first step of each row
    lengths: Tensor  # (N,) int64, the number of steps of each row, at least 1
    # (N,) int64 indices of classes; or (N, O) scaled numbers, NaN where an evaluated row has none
    targets: Tensor
    units: Units | None = None  # of targets that are numbers
    # (N,) int64, equal for rows that depend on each other: those of a person, or of a series
    groups: Tensor | None = None
    # (N,) int64, of evaluated windows: when each forecast is made, in microseconds since 1970
    times: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """The device on which its rows are trained on."""
        return self.targets.device

    @property
    def carried(self) -> bool:
        """Whether its steps stay in the host's memory and go to the device batch by batch."""
        return self.steps.device != self.device

    @property
    def longest(self) -> int:
        """T, the number of steps of its longest row."""
        return int(self.lengths.max())

    @property
    def nbytes(self) -> int:
        """The memory that its steps take."""
        return int(self.steps.nbytes)

    def rows(self, index: Tensor) -> Split:
        """The rows at `index` (B,); their steps are shared, not copied."""
        return replace(
            self,
            starts=self.starts[index],
            lengths=self.lengths[index],
            targets=self.targets[index],
            units=self.units and self.units.rows(index),
            groups=None if self.groups is None else self.groups[index],
            times=None if self.times is None else self.times[index],
        )

    def batch(self, index: Tensor | None = None) -> Batch:
        """The rows at `index` (B,), or all of them, padded to the longest."""
        chosen = self if index is None else self.rows(index)
        return Batch(side_by_side(chosen), chosen.lengths, chosen.targets)

    def cut(self, steps: int | None) -> Split:
        """Shortens rows to at most this many steps; the rest is never read."""
        if steps is None:
            return self
        return replace(self, lengths=self.lengths.clamp(max=steps))

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yields all rows in this order (N,), `size` at a time; the last batch may be smaller."""
        order = torch.arange(len(self)) if order is None else order
        for index in torch.split(order, size):
            yield self.batch(index.to(self.device))

    def to(self, device: torch.device, dtype: torch.dtype, steps: Tensor | None = None) -> Split:
        """Moves the rows to a device, numbers in `dtype`; tokens and classes stay integers.

        `steps` are its steps there, if they have been sent already.
        """

        def send(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        return Split(
            send(self.steps) if steps is None else steps,
            self.starts.to(device),
            self.lengths.to(device),
            send(self.targets),
            self.units and self.units.to(device),
            None if self.groups is None else self.groups.to(device),
            self.times,
        )


def one_after_another(batches: Sequence[Batch]) -> Split:
    """Joins the rows of several batches, their padding included."""
    counts = torch.tensor([len(batch) for batch in batches])
    widths = torch.tensor([batch.values.shape[1] for batch in batches])
    return Split(
        steps=torch.cat([batch.values.flatten(0, 1) for batch in batches]),
        starts=starts_of(widths.repeat_interleave(counts)),
        lengths=torch.cat([batch.lengths for batch in batches]),
        targets=torch.cat([batch.targets for batch in batches]),
    )


def joined_units(units: Sequence[Units]) -> Units:
    """Joins the units of rows, one after another."""
    naive = [part.naive for part in units if part.naive is not None]
    return Units(
        torch.cat([part.offset for part in units]),
        torch.cat([part.scale for part in units]),
        torch.cat(naive) if naive else None,
        units[0].log,
    )


def starts_of(lengths: Tensor) -> Tensor:
    """Where each row starts, if rows of these lengths (N,) lie one after another."""
    return lengths.cumsum(0) - lengths


def side_by_side(split: Split) -> Tensor:
    """The rows of a split, padded (N, T, C) or (N, T): zero after each row's length."""
    place = torch.arange(split.longest, device=split.device)
    places = (split.starts.unsqueeze(1) + place).clamp_(max=len(split.steps) - 1)
    values = split.steps.index_select(0, places.flatten())
    values = values.view(*places.shape, *split.steps.shape[1:])
    padding = place >= split.lengths.unsqueeze(1)  # (N, T)
    return values.masked_fill_(padding.view(*padding.shape, *(1,) * (values.dim() - 2)), 0)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One study's data, split and scaled, in one view."""

    train: Split
    validation: Split
    test: Split | None
    classes: tuple[str, ...]  # empty where numbers are predicted
    fingerprint: str  # of the raw rows: equal data have equal fingerprints, whatever their path
    task: str = "classification"  # as in the study file
    vocabulary: int = 0  # number of token ids; 0: the values are numbers
    class_weights: Tensor | None = None  # (O,) of each class in the loss
    # The metric of simple predictions, by name: on the test rows, or on the validation rows
    # where there are no test rows.
    baselines: dict[str, float] = field(default_factory=dict)
    # What predicting new rows needs, as JSON: tokenizer, scalers, labels, columns.
    preprocessing: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)  # numbers of rows left out, by reason
    embedding_dtype: torch.dtype = torch.float32
    view: View = PLAIN
    views: Views | None = None  # the other views of the same rows, if trials may choose

    def seen_by(self, hyperparameters: Hyperparameters) -> Dataset:
        """These rows in the view that a trial reads."""
        view = self.view.of(hyperparameters)
        if view == self.view:
            return self
        assert self.views is not None, f"{view} of a dataset that has only {self.view}"
        return self.views[view]

    def changed(self, change: Callable[[Dataset], Dataset]) -> Dataset:
        """A dataset made of this one; each of its views is changed in the same way."""
        views = self.views and self.views.changed(change)
        return replace(change(replace(self, views=None)), views=views)

    def shapes(self, spec: Specification) -> set[tuple[int, int]]:
        """The channels and the steps of the longest row, in each view of the study's trials."""
        if self.views is None:
            return {(self.channels, self.longest)}
        return {self.views.shape(view) for view in views_of(spec)}

    @cached_property
    def longest(self) -> int:
        """T, the steps of the longest row of all parts; every epoch asks for it."""
        return max(split.longest for split in (self.train, self.validation, self.test) if split)

    @property
    def channels(self) -> int:
        """C, the numbers of a step; 0 for tokens, whose embedding size is a hyperparameter."""
        return 0 if self.vocabulary else self.train.steps.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the numbers that go into the network, and so of its weights."""
        return self.embedding_dtype if self.vocabulary else self.train.steps.dtype

    @property
    def outputs(self) -> int:
        """O: the number of classes, or of numbers to predict for a row."""
        return len(self.classes) or self.train.targets.shape[1]

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Dataset:
        """Moves the data to a device, numbers in `dtype`.

        Steps that would fill half of a GPU's free memory or more stay on the host.
        """
        return self.changed(lambda view: view._sent(device, dtype))

    def _sent(self, device: torch.device, dtype: torch.dtype) -> Dataset:
        weights = self.class_weights
        sent: dict[int, Tensor] = {}  # by the id of what was sent: all windows share their steps
        parts = [split for split in (self.train, self.validation, self.test) if split is not None]
        all_steps = {id(split.steps): split.steps for split in parts}
        if sum(steps.nbytes for steps in all_steps.values()) > _room_on(device):
            sent = {place: _as(steps, dtype) for place, steps in all_steps.items()}

        def send(split: Split) -> Split:
            moved = split.to(device, dtype, sent.get(id(split.steps)))
            sent[id(split.steps)] = moved.steps
            return moved

        return replace(
            self,
            train=send(self.train),
            validation=send(self.validation),
            test=send(self.test) if self.test else None,
            class_weights=None if weights is None else weights.to(device, dtype),
            embedding_dtype=dtype,
        )


class Views:
    """The views of one dataset, each made when it is first asked for, and shared by its trials.

    Views that no trial reads any more are kept while a quarter of the memory allowed for data
    (`gru_optuna.machine.allowance`) holds them; the least recently used go first.

    Parameters
    ----------
    make
        Makes a view of the dataset. It must give equal data for equal views.
    shape
        The channels, and the steps of the longest row, that a view has.
    """

    def __init__(
        self, make: Callable[[View], Dataset], shape: Callable[[View], tuple[int, int]]
    ) -> None:
        self._make, self.shape = make, shape
        self._made: OrderedDict[View, Dataset] = OrderedDict()

    def __getitem__(self, view: View) -> Dataset:
        made = self._made.pop(view, None) or self._make(view)
        self._made[view] = made
        while len(self._made) > 1 and self._bytes() > allowance() / _TOGETHER:
            self._made.popitem(last=False)
        return made

    def changed(self, change: Callable[[Dataset], Dataset]) -> Views:
        """These views, each changed after it is made."""
        return Views(lambda view: change(self[view]), self.shape)

    def _bytes(self) -> int:
        return sum(
            split.nbytes
            for made in self._made.values()
            for split in (made.train, made.validation, made.test)
            if split is not None
        )


def with_views(
    spec: Specification, make: Callable[[View], Dataset], shape: Callable[[View], tuple[int, int]]
) -> Dataset:
    """The dataset of a study in its first view, which makes the others when trials ask for them.

    Parameters
    ----------
    spec
        Says which views its trials may have.
    make, shape
        As in `Views`.
    """
    first, *others = views_of(spec)
    return replace(make(first), views=Views(make, shape) if others else None)


def _room_on(device: torch.device) -> float:
    """Bytes of a GPU that steps may take; training needs some too."""
    if device.type != "cuda":
        return math.inf
    return torch.cuda.mem_get_info(device)[0] / 2


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
