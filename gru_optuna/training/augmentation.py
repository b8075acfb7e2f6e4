"""Random changes to training rows, drawn again in every epoch.

Pure functions of tensors and a generator. A strength of 0 (or None) draws nothing. Shapes, for B
rows of T steps and C channels: tokens (B, T), other values (B, T, C), lengths (B,).
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
    """Changes a batch for one epoch of one trial.

    Call it for the batches in their order: the draws depend on it. Everything is drawn on the
    CPU, so that a trial is the same on every device.

    Parameters
    ----------
    batch
        Training rows, padded to the longest of them.
    hyperparameters
        The trial's, with the strength of each change.
    vocabulary
        The number of token ids; 0: the values are numbers.
    generator
        The trial's own, for this epoch.

    Returns
    -------
    Batch
        The same shape; lengths of at least 1, and zero after each row's end.
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
        if h.word_dropout:
            values = drop_words(values, lengths, h.word_dropout, generator)
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
    """Deletes each token with probability `share`; every row keeps one (Wei & Zou 2019)."""
    held = _held(tokens, lengths)
    # The largest draw of a row always stays, so no row is left empty.
    drawn = _uniform(tokens, generator).masked_fill(~held, -1)
    last_one = drawn == drawn.amax(dim=1, keepdim=True)
    stays = held & ((drawn >= share) | last_one)
    # Stable: the tokens that stay keep their order, in front of those that go.
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
    """Inserts a random token of the vocabulary before each token with probability `share`.

    Tokens that no longer fit into the batch's T steps are cut off at the end.
    """
    T = tokens.shape[1]
    grows = (_uniform(tokens, generator) < share) & _held(tokens, lengths)
    drawn = torch.randint(UNKNOWN + 1, vocabulary, tokens.shape, generator=generator)
    # Each token moves on by the number of insertions before it, its own included. Whatever must
    # not be written goes to place 2 * T, which is cut off.
    places = torch.arange(T, device=tokens.device) + grows.cumsum(dim=1)
    wide = tokens.new_full((len(tokens), 2 * T + 1), PADDING)
    wide.scatter_(1, torch.where(grows, places - 1, 2 * T), drawn.to(tokens.device))
    wide.scatter_(1, torch.where(_held(tokens, lengths), places, 2 * T), tokens)
    return wide[:, :T].contiguous(), (lengths + grows.sum(dim=1)).clamp(max=T)


def swap_tokens(
    tokens: Tensor, lengths: Tensor, share: float, generator: torch.Generator
) -> Tensor:
    """Swaps pairs of tokens within a row, about `share` of all its tokens (Wei & Zou 2019)."""
    T = tokens.shape[1]
    # The row's places in random order, padding last; neighbours in this order are the pairs.
    keys = _uniform(tokens, generator).masked_fill(~_held(tokens, lengths), 2)
    order = keys.argsort(dim=1)
    extra = torch.rand(len(tokens), generator=generator).to(tokens.device)
    # Rounded at random, so that short rows swap the right share on average.
    pairs = (share * lengths / 2 + extra).floor().minimum(lengths // 2)
    ranks = torch.arange(T, device=tokens.device).expand_as(tokens)
    partner = torch.where(ranks < 2 * pairs.unsqueeze(1), ranks ^ 1, ranks)
    return tokens.scatter(1, order, tokens.gather(1, order.gather(1, partner)))


def drop_words(tokens: Tensor, lengths: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Makes each token unknown with probability `share` (Bowman et al. 2016)."""
    dropped = (_uniform(tokens, generator) < share) & _held(tokens, lengths)
    return tokens.masked_fill(dropped, UNKNOWN)


def jitter(values: Tensor, lengths: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Adds noise of standard deviation `deviation` to every step and channel (Um et al. 2017)."""
    noise = torch.randn(values.shape, generator=generator).to(values)
    return values + deviation * noise * _held(values, lengths).unsqueeze(2)


def scale(values: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Multiplies each channel of each row by a normal factor of mean 1 (Um et al. 2017)."""
    B, _, C = values.shape
    return values * (1 + deviation * torch.randn(B, 1, C, generator=generator)).to(values)


def mask_time(values: Tensor, lengths: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Sets one stretch of each row to zero, of 0 to `share` of its steps (Park et al. 2019).

    Zero is the mean of a standardized channel.
    """
    width, start = torch.rand(2, len(values), generator=generator).to(values.device)
    steps = (width * ((share * lengths).floor() + 1)).floor()
    begin = (start * (lengths - steps + 1)).floor()
    place = torch.arange(values.shape[1], device=values.device)
    masked = (place >= begin.unsqueeze(1)) & (place < (begin + steps).unsqueeze(1))
    return values.masked_fill(masked.unsqueeze(2), 0)


def _held(values: Tensor, lengths: Tensor) -> Tensor:
    """(B, T), true at the steps of a row's own."""
    return torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)


def _uniform(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """(B, T) numbers from 0 to 1, drawn on the CPU."""
    return torch.rand(tokens.shape, generator=generator).to(tokens.device)
