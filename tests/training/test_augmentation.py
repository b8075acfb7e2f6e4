"""Augmentation: what stays whatever is drawn, what each strength does, and from whose generator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.workspaces import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gru_optuna.data.dataset import PADDING, UNKNOWN, Batch
from gru_optuna.training.augmentation import (
    augment,
    delete_tokens,
    drop_words,
    insert_tokens,
    jitter,
    mask_time,
    scale,
    swap_tokens,
)
from gru_optuna.training.draws import STRENGTHS

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters

VOCABULARY = 50
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)
SHARES = st.floats(0, 1)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sentences(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Rows of distinct tokens 2, 3, …, so that each differs from every other."""
    steps = torch.arange(max(lengths))
    held = steps < torch.tensor(lengths)[:, None]
    return torch.where(held, steps + 2, 0), torch.tensor(lengths)


def signals(lengths: list[int], channels: int = 3) -> tuple[Tensor, Tensor]:
    values = torch.randn(len(lengths), max(lengths), channels, generator=draws(9))
    held = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return values * held.unsqueeze(2), torch.tensor(lengths)


def rows_of(tokens: Tensor, lengths: Tensor) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)]


@settings(max_examples=60)
@given(
    lengths=LENGTHS,
    seed=st.integers(0, 99),
    shares=st.tuples(SHARES, SHARES, SHARES, SHARES),
    numbers=st.booleans(),
)
def test_whatever_is_drawn_a_batch_keeps_its_shape_and_zeros_behind_its_lengths(
    lengths: list[int], seed: int, shares: tuple[float, float, float, float], numbers: bool
) -> None:
    values, steps = signals(lengths) if numbers else sentences(lengths)
    batch = Batch(values, steps, torch.arange(len(steps)))
    keys: tuple[str, ...] = ("jitter", "scaling", "time_masking")
    if not numbers:
        keys = ("token_insertion", "token_deletion", "token_swap", "word_dropout")
    strengths: dict[str, Any] = dict(zip(keys, shares, strict=False))
    made = augment(batch, replace(PLAIN, **strengths), 0 if numbers else VOCABULARY, draws(seed))
    assert made.values.shape == values.shape
    assert made.values.dtype == values.dtype
    assert made.lengths.dtype == torch.int64
    assert int(made.lengths.min()) >= 1
    assert int(made.lengths.max()) <= values.shape[1]
    assert torch.equal(made.targets, batch.targets)
    behind = torch.arange(values.shape[1]) >= made.lengths[:, None]
    assert (made.values[behind] == 0).all()
    if numbers:
        assert torch.equal(made.lengths, steps)
    else:
        assert (made.values[~behind] >= (1 if strengths["word_dropout"] else 2)).all()
        assert (made.values < VOCABULARY).all()


@pytest.mark.parametrize("off", [None, 0.0])
def test_strengths_that_are_off_change_and_draw_nothing(off: float | None) -> None:
    trial: Hyperparameters = replace(
        PLAIN,
        token_deletion=off,
        token_insertion=off,
        token_swap=off,
        word_dropout=off,
        jitter=off,
        scaling=off,
    )
    generator = draws()
    before = generator.get_state()
    for values, lengths, vocabulary in ((*sentences([5, 2]), VOCABULARY), (*signals([4]), 0)):
        batch = Batch(values, lengths, lengths)
        made = augment(batch, trial, vocabulary, generator)
        assert made.values is values
        assert made.lengths is lengths
    assert torch.equal(generator.get_state(), before)


def test_the_same_generator_gives_the_same_batch_and_another_another() -> None:
    trial = replace(PLAIN, token_deletion=0.3, token_insertion=0.3, token_swap=0.3)
    tokens, lengths = sentences([12] * 20)
    batch = Batch(tokens, lengths, lengths)
    first, again, other = (augment(batch, trial, VOCABULARY, draws(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)


# --- tokens ---


@settings(max_examples=60)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 99))
def test_deletion_leaves_tokens_out_and_the_others_in_order(
    lengths: list[int], share: float, seed: int
) -> None:
    made = rows_of(*delete_tokens(*sentences(lengths), share, draws(seed)))
    for row, length in zip(made, lengths, strict=True):
        assert row == sorted(set(row))
        assert set(row) <= set(range(2, length + 2))


@settings(max_examples=60)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 99))
def test_insertion_keeps_the_tokens_and_their_order_as_far_as_there_is_room(
    lengths: list[int], share: float, seed: int
) -> None:
    tokens, steps = sentences(lengths)
    marked = torch.where(tokens > 0, tokens + 100, 0)  # the vocabulary ends before
    made = rows_of(*insert_tokens(marked, steps, share, VOCABULARY, draws(seed)))
    for row, before in zip(made, rows_of(marked, steps), strict=True):
        kept = [token for token in row if token >= 100]
        assert kept == before[: len(kept)]
        assert len(kept) == len(before) or len(row) == max(lengths)
        assert len(row) >= len(before)


@settings(max_examples=60)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 99))
def test_swapping_moves_tokens_within_their_row(
    lengths: list[int], share: float, seed: int
) -> None:
    tokens, steps = sentences(lengths)
    made = swap_tokens(tokens, steps, share, draws(seed))
    for row, before in zip(rows_of(made, steps), rows_of(tokens, steps), strict=True):
        assert sorted(row) == before


@settings(max_examples=60)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 99))
def test_word_dropout_makes_tokens_unknown_and_leaves_the_others_in_their_places(
    lengths: list[int], share: float, seed: int
) -> None:
    tokens, steps = sentences(lengths)
    made = drop_words(tokens, steps, share, draws(seed))
    assert ((made == tokens) | ((made == UNKNOWN) & (tokens != PADDING))).all()
    assert torch.equal(drop_words(tokens, steps, 0.0, draws(seed)), tokens)
    assert (drop_words(tokens, steps, 1.0, draws(seed))[tokens != PADDING] == UNKNOWN).all()


def test_word_dropout_of_one_row_does_not_depend_on_the_words_of_another() -> None:
    tokens, steps = sentences([6, 4, 5])
    others = tokens.clone()
    others[1:] = torch.where(others[1:] > 0, others[1:] + 20, 0)
    made, changed = (drop_words(rows, steps, 0.5, draws(1)) for rows in (tokens, others))
    assert torch.equal(made[0], changed[0])
    assert torch.equal(made == UNKNOWN, changed == UNKNOWN)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_strength_is_the_share_of_tokens_that_is_changed(share: float) -> None:
    tokens, lengths = sentences([40] * 500)
    roomy = torch.cat([tokens, torch.zeros_like(tokens)], dim=1)
    deleted = delete_tokens(tokens, lengths, share, draws())[1].float().mean()
    inserted = insert_tokens(roomy, lengths, share, VOCABULARY, draws())[1].float().mean()
    moved = (swap_tokens(tokens, lengths, share, draws()) != tokens).float().mean()
    dropped = (drop_words(tokens, lengths, share, draws()) == UNKNOWN).float().mean()
    assert dropped.item() == pytest.approx(share, rel=0.03)
    assert deleted.item() == pytest.approx(40 * (1 - share), rel=0.03)
    assert inserted.item() == pytest.approx(40 * (1 + share), rel=0.03)
    assert moved.item() == pytest.approx(share, rel=0.03)


def test_of_a_row_that_loses_everything_one_token_stays() -> None:
    tokens, lengths = delete_tokens(*sentences([7, 1, 3]), 1.0, draws())
    assert lengths.tolist() == [1, 1, 1]
    assert (tokens[:, 0] >= 2).all()


def test_inserted_tokens_are_of_the_whole_vocabulary_and_neither_padding_nor_unknown() -> None:
    tokens, lengths = sentences([1] * 5000)
    roomy = torch.cat([tokens, torch.zeros_like(tokens)], dim=1)
    made, _ = insert_tokens(roomy, lengths, 1.0, 10, draws())
    assert set(made[:, 0].tolist()) == set(range(2, 10))
    assert (made[:, 1] == 2).all()


# --- numbers ---


def test_jitter_is_noise_of_its_deviation() -> None:
    values, lengths = torch.zeros(300, 20, 2), torch.full((300,), 20)
    noise = jitter(values, lengths, 0.3, draws())
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert abs(noise.mean().item()) < 0.01


def test_scaling_is_one_factor_a_row_and_channel() -> None:
    values, _ = signals([6] * 400)
    factors = scale(values, 0.2, draws()) / values
    torch.testing.assert_close(factors, factors[:, :1].expand_as(factors))
    assert factors[:, 0].std().item() == pytest.approx(0.2, rel=0.1)
    assert factors.mean().item() == pytest.approx(1.0, abs=0.02)


@settings(max_examples=60)
@given(lengths=LENGTHS, share=SHARES, seed=st.integers(0, 99))
def test_a_mask_is_one_stretch_of_at_most_its_share(
    lengths: list[int], share: float, seed: int
) -> None:
    values, steps = torch.ones(len(lengths), max(lengths), 2), torch.tensor(lengths)
    masked = mask_time(values, steps, share, draws(seed)) == 0
    assert torch.equal(masked[:, :, 0], masked[:, :, 1])
    for row, length in zip(masked[:, :, 0], lengths, strict=True):
        gone = row.nonzero().flatten().tolist()
        assert len(gone) <= share * length + 1e-6  # the strength has 32 bits in the code
        assert gone == list(range(gone[0], gone[0] + len(gone))) if gone else True
        assert all(step < length for step in gone)


def test_masks_reach_every_step() -> None:
    masked = mask_time(torch.ones(2000, 10, 1), torch.full((2000,), 10), 0.5, draws()) == 0
    shares = masked.float().mean(dim=(0, 2))
    assert float(shares.min()) > 0.05
    assert float(shares.max()) < 0.5


def test_each_change_is_made_in_its_turn_with_the_trials_draws() -> None:
    """As if the functions were called by hand, one after another, with one generator."""
    tokens, lengths = sentences([9, 5, 1, 12])
    h = replace(PLAIN, token_deletion=0.3, token_insertion=0.4, token_swap=0.5, word_dropout=0.6)
    by_hand, generator = tokens, draws(3)
    by_hand, ends = delete_tokens(by_hand, lengths, 0.3, generator)
    by_hand, ends = insert_tokens(by_hand, ends, 0.4, VOCABULARY, generator)
    by_hand = swap_tokens(by_hand, ends, 0.5, generator)
    by_hand = drop_words(by_hand, ends, 0.6, generator)
    made = augment(Batch(tokens, lengths, torch.arange(4)), h, VOCABULARY, draws(3))
    assert torch.equal(made.values, by_hand)
    assert torch.equal(made.lengths, ends)

    values, lengths = signals([9, 5, 1, 12])
    h = replace(PLAIN, scaling=0.3, jitter=0.4, time_masking=0.5)
    generator = draws(3)
    by_hand = scale(values, 0.3, generator)
    by_hand = jitter(by_hand, lengths, 0.4, generator)
    by_hand = mask_time(by_hand, lengths, 0.5, generator)
    made = augment(Batch(values, lengths, torch.arange(4)), h, 0, draws(3))
    assert torch.equal(made.values, by_hand)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_strength_alone_changes_a_batch(name: str) -> None:
    numbers = name in ("jitter", "scaling", "time_masking")
    values, lengths = signals([12] * 20) if numbers else sentences([12] * 20)
    batch = Batch(values, lengths, torch.arange(20))
    made = augment(batch, replace(PLAIN, **{name: 0.5}), 0 if numbers else VOCABULARY, draws())
    assert not torch.equal(made.values, values)


def test_channels_and_rows_have_factors_of_their_own() -> None:
    values = torch.ones(50, 4, 3)
    factors = scale(values, 0.2, draws())[:, 0]
    assert len(factors.flatten().unique()) == 150
    correlation = torch.corrcoef(factors.T)
    assert (correlation - torch.eye(3)).abs().max() < 0.5


def test_a_masked_stretch_may_take_its_whole_share() -> None:
    masked = mask_time(torch.ones(400, 10, 1), torch.full((400,), 10), 0.5, draws()) == 0
    widths = masked.squeeze(2).sum(dim=1)
    assert widths.unique().tolist() == [0, 1, 2, 3, 4, 5]


def test_half_of_the_tokens_are_swapped_in_long_rows() -> None:
    tokens, lengths = sentences([400] * 5)
    moved = (swap_tokens(tokens, lengths, 0.5, draws()) != tokens).float().mean()
    assert moved == pytest.approx(0.5, abs=0.01)


def test_a_generator_of_ones_own_leaves_the_common_one_alone() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    numbers, ends = signals([5, 3])
    mask_time(numbers, ends, 0.5, draws())
    scale(numbers, 0.5, draws())
    jitter(numbers, ends, 0.5, draws())
    tokens, ends = sentences([5, 3])
    swap_tokens(tokens, ends, 0.5, draws())
    insert_tokens(tokens, ends, 0.5, VOCABULARY, draws())
    delete_tokens(tokens, ends, 0.5, draws())
    drop_words(tokens, ends, 0.5, draws())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_noise_of_a_row_step_or_channel_says_nothing_about_another() -> None:
    noise = jitter(torch.zeros(200, 20, 3), torch.full((200,), 20), 1.0, draws())
    neighbours = [
        (noise[1:], noise[:-1]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
    ]
    for one, other in neighbours:
        both = torch.stack([one.flatten(), other.flatten()])
        assert abs(torch.corrcoef(both)[0, 1].item()) < 0.05


def test_rows_with_the_same_tokens_are_changed_in_different_ways() -> None:
    tokens, lengths = sentences([12] * 40)
    roomy = torch.cat([tokens, torch.zeros_like(tokens)], dim=1)
    for made in (
        delete_tokens(tokens, lengths, 0.5, draws())[0],
        insert_tokens(roomy, lengths, 0.5, VOCABULARY, draws())[0],
        swap_tokens(tokens, lengths, 0.5, draws()),
        drop_words(tokens, lengths, 0.5, draws()),
    ):
        assert len(made.unique(dim=0)) > 35


def test_each_inserted_token_is_drawn_by_itself() -> None:
    tokens, lengths = sentences([200])
    roomy = torch.cat([tokens, torch.zeros_like(tokens)], dim=1)
    made, _ = insert_tokens(roomy, lengths, 1.0, VOCABULARY, draws())
    assert len(made[0, ::2].unique()) > VOCABULARY / 2


def test_short_rows_swap_their_share_each_by_itself() -> None:
    """Half of three tokens is no pair or one, as drawn for the row."""
    tokens, lengths = sentences([3] * 2000)
    swapped = (swap_tokens(tokens, lengths, 0.5, draws()) != tokens).any(dim=1)
    assert swapped.float().mean().item() == pytest.approx(0.75, abs=0.04)
