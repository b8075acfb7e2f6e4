"""Embeddings from the training texts: their definition, what they don't know, and repeatability."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.pools import CPU, TEXT, curve_of, make_spec, some_texts
from helpers.splits import split_of_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.training import embeddings
from gru_optuna.training.embeddings import CONTEXT_POWER, WINDOW, FirstWeights, ppmi_embeddings
from gru_optuna.training.engines.cpu import CPUEngine
from gru_optuna.training.network import EMBEDDING, Network
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

PPMI = replace(TEXT, embedding_initializer="ppmi")
ROWS = st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=9), min_size=1, max_size=6)


def split_of(rows: list[list[int]]) -> Split:
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return split_of_rows(tokens, lengths, torch.zeros(len(rows), dtype=torch.int64))


def drawn(rows: int, vocabulary: int, length: int = 12) -> Split:
    generator = torch.Generator().manual_seed(rows)
    shares = torch.rand(rows, length, generator=generator) ** 2
    return split_of((1 + (vocabulary - 1) * shares).long().tolist())


def ppmi_by_hand(rows: list[list[int]], vocabulary: int) -> NDArray[np.float64]:
    """Positive pointwise mutual information, counted token by token."""
    counts = np.zeros((vocabulary, vocabulary))
    for row in rows:
        for here, token in enumerate(row):
            for there, other in enumerate(row):
                if 0 < abs(here - there) <= WINDOW:
                    counts[token, other] += 1 / abs(here - there)
    contexts = counts.sum(axis=0) ** CONTEXT_POWER
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True) / (contexts / contexts.sum())
        return np.nan_to_num(np.maximum(np.log(shares), 0))


@settings(max_examples=15)
@given(rows=ROWS)
def test_a_whole_table_is_the_roots_of_the_ppmi_matrix_scaled_to_unit_deviation(
    rows: list[list[int]],
) -> None:
    table = ppmi_embeddings(split_of(rows), 8, 8).double().numpy()
    ppmi = ppmi_by_hand(rows, 8)
    seen = sorted({token for row in rows if len(row) > 1 for token in row})
    u, s, _ = np.linalg.svd(ppmi)
    expected = (u * s) @ u.T  # of the left vectors times the roots: free of their signs and order
    products = table @ table.T
    if not ppmi.any():
        assert not table.any()
        return
    # What is left after scaling is one factor.
    np.testing.assert_allclose(products / products.trace(), expected / expected.trace(), atol=1e-5)
    assert table[seen].std() == pytest.approx(1, rel=1e-4)
    assert not np.delete(table, seen, axis=0).any()


def test_fewer_columns_are_those_of_the_largest_singular_values() -> None:
    rows = drawn(300, 40)
    ppmi = ppmi_by_hand([row[:n].tolist() for row, n in _rows(rows)], 40)
    u, s, _ = np.linalg.svd(ppmi)
    table = ppmi_embeddings(rows, 40, 5).double().numpy()
    assert table.shape == (40, 5)
    for column in range(5):
        cosine = table[:, column] @ u[:, column] / np.linalg.norm(table[:, column])
        assert abs(cosine) == pytest.approx(1, abs=0.02)
    ratios = np.linalg.norm(table, axis=0) / np.sqrt(s[:5])
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.01)


def _rows(split: Split) -> list[tuple[torch.Tensor, int]]:
    batch = split.batch()
    return list(zip(batch.values, batch.lengths.tolist(), strict=True))


def test_tokens_that_are_near_the_same_others_start_alike() -> None:
    """2 and 3 stand between the same neighbours, and 4 between others."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(200):
        near, far = torch.randint(10, 20, (4,), generator=generator).tolist(), [30, 31, 32, 33]
        rows += [[*near[:2], 2, *near[2:]], [*near[2:], 3, *near[:2]], [*far[:2], 4, *far[2:]]]
    table = ppmi_embeddings(split_of(rows), 40, 4)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(table[2], table[3], dim=0) > 0.95
    assert cosine(table[2], table[4], dim=0) < 0.5


# --- bounds ---


def test_long_data_are_read_at_even_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(300, 40)
    monkeypatch.setattr(embeddings, "MOST_READ", 1300)  # of 3,600 tokens: every third row
    third = rows.rows(torch.arange(0, 300, 3))
    table = ppmi_embeddings(rows, 40, 8)
    monkeypatch.undo()
    assert torch.equal(table, ppmi_embeddings(third, 40, 8))


def test_of_many_tokens_the_most_frequent_get_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "MOST_TOKENS", 10)
    table = ppmi_embeddings(drawn(300, 40), 40, 8)
    assert table.any(dim=1).nonzero().flatten().tolist() == list(range(1, 11))


# --- a trial's first weights ---


def network(dataset: Dataset, size: int = 5) -> Network:
    trial = replace(PPMI, embedding_size=size)
    return Network.of(trial, dataset.channels, dataset.outputs, dataset.vocabulary)


def test_everything_else_is_drawn_as_without_them() -> None:
    dataset = some_texts()
    first = FirstWeights(dataset)
    plain, ours = (first.draw(network(dataset), trial, seed=3) for trial in (TEXT, PPMI))
    for name in plain:
        assert torch.equal(plain[name], ours[name]) == (name != EMBEDDING)
    other = first.draw(network(dataset), PPMI, seed=4)
    assert torch.equal(ours[EMBEDDING][2:], other[EMBEDDING][2:])


def test_padding_is_zero_and_unseen_tokens_and_columns_are_drawn_at_random() -> None:
    rows = split_of([[2, 3, 4], [4, 3], [6]])
    dataset = Dataset(rows, rows, None, ("a", "b"), fingerprint="drawn", vocabulary=9)
    first = FirstWeights(dataset)
    plain, ours = (first.draw(network(dataset), trial, 3)[EMBEDDING] for trial in (TEXT, PPMI))
    assert not ours[0].any()
    assert torch.equal(ours[[1, 5, 6, 7, 8]], plain[[1, 5, 6, 7, 8]])
    # Three tokens that co-occur have three columns; the embedding has five.
    assert torch.equal(ours[:, 3:], plain[:, 3:])
    assert not torch.equal(ours[2:5, :3], plain[2:5, :3])


def test_they_follow_from_the_training_rows_alone() -> None:
    dataset = some_texts()
    other = replace(dataset, validation=some_texts(rows=60).validation)
    fold = replace(dataset, train=dataset.train.rows(torch.arange(30)))
    table, same, another = (
        FirstWeights(data).draw(network(dataset), PPMI, 1)[EMBEDDING]
        for data in (dataset, other, fold)
    )
    assert torch.equal(table, same)
    assert not torch.equal(table, another)


def test_the_number_of_threads_changes_no_bit() -> None:
    rows = drawn(4000, 900)
    tables = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            tables.append(ppmi_embeddings(rows, 900, 64))
    assert torch.equal(tables[0], tables[1])
    assert torch.equal(tables[0], tables[2])


def test_trials_share_a_table_and_a_resumed_one_needs_none(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def compute(train: Split, vocabulary: int, size: int) -> torch.Tensor:
        computed.append(size)
        return ppmi_embeddings(train, vocabulary, size)

    monkeypatch.setattr(embeddings, "ppmi_embeddings", compute)
    spec, dataset = make_spec(tmp_path_factory.mktemp("study")), some_texts().to(CPU)
    pool = Pool(spec, dataset, CPUEngine(spec, dataset))
    slot = pool.admit(PPMI, seed=1)
    pool.admit(PPMI, seed=2)
    pool.admit(TEXT, seed=3)
    pool.admit(replace(PPMI, embedding_size=7), seed=4)
    assert computed == [5, 7]
    pool.train_epoch()
    checkpoint = Checkpoint.from_bytes(pool.snapshot(slot).to_bytes())
    pool.train_epoch()
    later = Pool(spec, dataset, CPUEngine(spec, dataset))
    resumed = later.admit(PPMI, seed=1, checkpoint=checkpoint)
    later.train_epoch()
    assert curve_of(resumed) == curve_of(slot)
    with pytest.raises(DamagedCheckpoint, match="embedding_initializer"):
        later.admit(TEXT, seed=1, checkpoint=checkpoint)
    assert computed == [5, 7]
