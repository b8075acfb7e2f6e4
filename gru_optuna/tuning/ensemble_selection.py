"""Selection of an ensemble's members on the validation rows, greedily (Caruana et al. 2004).

One member after another is added, the same one several times if that helps. What begins the
selection is good by itself, the average of the winner's networks or a simple model: a selection
from nothing would begin with the luckiest candidate.

Letters: N rows, O outputs.
"""

from __future__ import annotations

from math import ceil, inf
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from gru_optuna import seeds
from gru_optuna.data.intervals import paired_gain
from gru_optuna.data.metrics import as_outputs, in_units, joined, measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gru_optuna.data.dataset import Split
    from gru_optuna.data.metrics import Predictions
    from gru_optuna.study_file import Specification

FEWEST_ROWS = 200
"""Independent validation rows; a selection on fewer follows chance more than quality."""

FEWEST_TO_BLEND = 50
"""Independent validation rows on which it shows whether a simple model helps the networks."""

_SHARES = (1, 3)  # how often a simple model counts for each of the winner's networks
_ROUNDS = 30  # members that are added at most, with repetitions
_MOST_ROWS = 10_000  # that members are selected on


def independent_rows(split: Split, horizon: int | None) -> int:
    """How many rows are independent: a group counts once, and windows count without overlap."""
    counts = None if split.groups is None else split.groups.bincount()
    if horizon is None:
        return len(split) if counts is None else int(counts.count_nonzero())
    # Of each series, one window begins a step after the other.
    windows = [len(split)] if counts is None else counts.tolist()
    return sum(ceil(each / horizon) for each in windows)


def select_members(
    spec: Specification,
    networks: Sequence[Predictions],
    models: Sequence[Predictions],
    winner: Sequence[int],
) -> tuple[list[int], list[int]]:
    """How often each network and each simple model counts; 0: it is not a member.

    Parameters
    ----------
    spec
        Its metric decides; where that is equal, the log loss of classes does.
    networks, models
        Each one's predictions of the validation rows, of every fold. One network at least will be
        a member.
    winner
        The places of the winner's networks. Their average, or a single simple model if one is
        better, is what the selection begins with.
    """
    averages = _Averages(spec, [*networks, *models])
    starts = [list(winner), *([len(networks) + place] for place in range(len(models)))]
    losses = [averages.loss(averages.total(start), len(start)) for start in starts]
    members = starts[losses.index(min(losses))]
    sums, best, best_size = averages.total(members), min(losses), len(members)
    if members[0] >= len(networks):
        best, best_size = (inf, inf), 0
    for _ in range(_ROUNDS):
        trials = [
            averages.loss([a + b for a, b in zip(sums, own, strict=True)], len(members) + 1)
            for own in averages.values
        ]
        chosen = min(range(len(trials)), key=trials.__getitem__)
        members.append(chosen)
        sums = [a + b for a, b in zip(sums, averages.values[chosen], strict=True)]
        # A step that makes it worse may lead to a better one.
        with_network = min(members) < len(networks)
        if with_network and trials[chosen] < best:
            best, best_size = trials[chosen], len(members)
    if not best_size:  # simple models are better without any network
        members.append(winner[0])
        best_size = len(members)
    counts = [members[:best_size].count(place) for place in range(len(averages.values))]
    return counts[: len(networks)], counts[len(networks) :]


def blend(
    spec: Specification, networks: Sequence[Predictions], models: Sequence[Predictions], rows: int
) -> list[int]:
    """How often each simple model counts, where each of the winner's networks counts once.

    At most one simple model joins them. It counts as much as all the networks together, or three
    times as much: choices so few that even a few rows can tell them apart. Below `FEWEST_TO_BLEND`
    rows they can't; then the best simple model counts as much as all the networks together, unless
    another choice is certainly better. Equal weights are hard to beat where weights can hardly be
    measured (Clemen 1989; Smith & Wallis 2009), and the networks' configuration was searched for on
    these very rows, which flatters them.

    Parameters
    ----------
    spec, networks, models
        As for `select_members`.
    rows
        How many validation rows are independent.
    """
    averages, count = _Averages(spec, [*networks, *models]), len(networks)
    own = list(range(count))
    if rows < FEWEST_TO_BLEND and models:
        alone = [averages.loss(averages.values[count + place], 1) for place in range(len(models))]
        places = [alone.index(min(alone))]
    else:
        places = list(range(len(models)))
    blends = [own + [count + place] * count * share for place in places for share in _SHARES]
    choices = [own, *blends]
    losses = [averages.loss(averages.total(choice), len(choice)) for choice in choices]
    chosen = choices[losses.index(min(losses))]
    if rows < FEWEST_TO_BLEND and models and not averages.gains(chosen, blends[0]):
        chosen = blends[0]
    return [chosen.count(count + place) for place in range(len(models))]


class _Averages:
    """The losses of averages of candidates, on the validation rows of every fold."""

    def __init__(self, spec: Specification, candidates: Sequence[Predictions]) -> None:
        self._spec = spec
        splits = [_few(split) for _, split in candidates[0]]
        self.values = [
            [
                in_units(outputs[rows], split.rows(rows))
                for (outputs, split), (rows, _) in zip(candidate, splits, strict=True)
            ]
            for candidate in candidates
        ]
        self._truths = [split for _, split in splits]

    def total(self, members: Sequence[int]) -> list[Tensor]:
        """The sum of the members' predictions, by fold."""
        first, *others = (self.values[member] for member in members)
        return [
            sum((other[fold] for other in others), first[fold]) for fold in range(len(self._truths))
        ]

    def gains(self, members: Sequence[int], others: Sequence[int]) -> bool:
        """Whether the average of some members is better than that of others beyond chance."""
        ours, theirs = (
            [joined(self._outputs(self.total(each), len(each)))] for each in (members, others)
        )
        horizon = self._spec.data.horizon if self._spec.kind == "series" else None
        seed = seeds.seed_for(self._spec.seed, "bootstrap", 2)
        gain = paired_gain(self._spec.metric, [ours], theirs, horizon, seed)
        return gain.shown and gain.value > 0

    def _outputs(self, sums: Sequence[Tensor], count: int) -> Predictions:
        """The mean of `count` predictions, as a network would give it, by fold."""
        return [
            (as_outputs(each / count, split), split)
            for each, split in zip(sums, self._truths, strict=True)
        ]

    def loss(self, sums: Sequence[Tensor], count: int) -> tuple[float, float]:
        """The metric, lower being better, and then the log loss of classes."""
        spec, pairs = self._spec, self._outputs(sums, count)
        if spec.task != "classification":
            return spec.as_loss(fmean(measure(spec.metric, *pair) for pair in pairs)), 0.0
        log_loss = fmean(measure("log_loss", *pair) for pair in pairs)
        if spec.metric == "roc_auc":  # of many classes, it would take minutes
            return log_loss, 0.0
        return spec.as_loss(fmean(measure(spec.metric, *pair) for pair in pairs)), log_loss


def _few(split: Split) -> tuple[Tensor, Split]:
    """Rows that are enough to select on, evenly chosen."""
    step = -(-len(split) // _MOST_ROWS)
    rows = torch.arange(0, len(split), step)
    return rows, split.rows(rows)
