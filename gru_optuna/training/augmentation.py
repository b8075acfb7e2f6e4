"""Training rows, changed a little, afresh each time they are drawn.

Pure functions of tensors and a generator. A strength of 0 (or None) draws nothing. Letters:
B rows of a batch, T steps, C channels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gru_optuna.data.dataset import PADDING, UNKNOWN

if TYPE_CHECKING:
    from torch import Tensor

    from gru_optuna.data.dataset import Batch
    from gru_optuna.hyperparameters import Hyperparameters


def augment(
    batch: Batch,
    hyperparameters: Hyperparameters,
    vocabulary: int,
    generator: torch.Generator,
) -> Batch:
    """A batch as a trial's epoch sees it.

    Call it batch by batch, in the order of the batches: what is drawn depends on it. Everything
    is drawn on the CPU, so that a trial is the same on every device.

    Parameters
    ----------
    batch
        Of training rows, padded to the longest of them.
    hyperparameters
        The trial's strengths.
    vocabulary
        How many token ids there are; 0: the values are numbers.
    generator
        The trial's own, for this epoch.

    Returns
    -------
    Batch
        Of the same shape, lengths at least 1. Zero behind each length, as before.
    """
    h, values, lengths = hyperparameters, batch.values, batch.lengths
    if vocabulary:
        if h.token_deletion:
            values, lengths = delete_tokens(values, lengths, h.token_deletion, generator)
        if h.token_insertion:
            values, lengths = insert_tokens(
                values, lengths, h.token_insertion, vocabulary, generator
            )
        if h.token_swap:
            values = swap_tokens(values, lengths, h.token_swap, generator)
    else:
        if h.scaling:
            values = scale(values, h.scaling, generator)
        if h.jitter:
            values = jitter(values, lengths, h.jitter, generator)
        if h.time_masking:
            values = mask_time(values, lengths, h.time_masking, generator)
    return replace(batch, values=values, lengths=lengths)


def delete_tokens(
    tokens: Tensor, lengths: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Leaves each token out with probability `share`; one of a row stays (Wei & Zou 2019).

    Parameters
    ----------
    tokens, lengths
        (B, T) and (B,).
    """
    held = _held(tokens, lengths)
    drawn = _uniform(tokens, generator).masked_fill(~held, -1)
    last_one = drawn == drawn.amax(dim=1, keepdim=True)
    stays = held & ((drawn >= share) | last_one)
    order = stays.logical_not().sort(dim=1, stable=True).indices
    lengths = stays.sum(dim=1)
    return tokens.gather(1, order).where(_held(tokens, lengths), PADDING), lengths


def insert_tokens(
    tokens: Tensor,
    lengths: Tensor,
    share: float,
    vocabulary: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Puts a token drawn from the vocabulary before each token, with probability `share`.

    What no longer fits into the batch's T steps is cut off at the end.

    Parameters
    ----------
    tokens, lengths
        (B, T) and (B,).
    """
    T = tokens.shape[1]
    grows = (_uniform(tokens, generator) < share) & _held(tokens, lengths)
    drawn = torch.randint(UNKNOWN + 1, vocabulary, tokens.shape, generator=generator)
    # Where each token goes: as many places on as were inserted before it, its own included.
    places = torch.arange(T, device=tokens.device) + grows.cumsum(dim=1)
    wide = tokens.new_full((len(tokens), 2 * T + 1), PADDING)
    wide.scatter_(1, torch.where(grows, places - 1, 2 * T), drawn.to(tokens.device))
    wide.scatter_(1, torch.where(_held(tokens, lengths), places, 2 * T), tokens)
    return wide[:, :T].contiguous(), (lengths + grows.sum(dim=1)).clamp(max=T)


def swap_tokens(
    tokens: Tensor, lengths: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """Exchanges tokens of a row pair by pair, about `share` of them (Wei & Zou 2019).

    Parameters
    ----------
    tokens, lengths
        (B, T) and (B,).
    """
    T = tokens.shape[1]
    # The row's places in random order, padding last; neighbours in it are the pairs.
    keys = _uniform(tokens, generator).masked_fill(~_held(tokens, lengths), 2)
    order = keys.argsort(dim=1)
    extra = torch.rand(len(tokens), generator=generator).to(tokens.device)
    pairs = (share * lengths / 2 + extra).floor().minimum(lengths // 2)  # right on average
    ranks = torch.arange(T, device=tokens.device).expand_as(tokens)
    partner = torch.where(ranks < 2 * pairs.unsqueeze(1), ranks ^ 1, ranks)
    return tokens.scatter(1, order, tokens.gather(1, order.gather(1, partner)))


def jitter(values: Tensor, lengths: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Adds noise of this deviation to every step and channel (Um et al. 2017).

    Parameters
    ----------
    values, lengths
        (B, T, C) and (B,).
    """
    noise = torch.randn(values.shape, generator=generator).to(values)
    return values + deviation * noise * _held(values, lengths).unsqueeze(2)


def scale(values: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Multiplies each channel of each row by a factor about 1, of this deviation (Um et al. 2017).

    Parameters
    ----------
    values
        (B, T, C).
    """
    B, _, C = values.shape
    return values * (1 + deviation * torch.randn(B, 1, C, generator=generator)).to(values)


def mask_time(values: Tensor, lengths: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Zeroes one stretch of each row, of 0 to `share` of its steps (Park et al. 2019).

    Zero is the mean, where channels are standardised.

    Parameters
    ----------
    values, lengths
        (B, T, C) and (B,).
    """
    width, start = torch.rand(2, len(values), generator=generator).to(values.device)
    steps = (width * ((share * lengths).floor() + 1)).floor()
    begin = (start * (lengths - steps + 1)).floor()
    place = torch.arange(values.shape[1], device=values.device)
    masked = (place >= begin.unsqueeze(1)) & (place < (begin + steps).unsqueeze(1))
    return values.masked_fill(masked.unsqueeze(2), 0)


def _held(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, T): steps that hold data."""
    return torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)


def _uniform(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) from 0 to 1, drawn on the CPU."""
    return torch.rand(tokens.shape, generator=generator).to(tokens.device)
