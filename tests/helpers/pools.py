"""What tests of pools share: trials of every kind, data, and what to compare with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from hypothesis import strategies as st

from gru_optuna import study_file
from gru_optuna.data.dataset import Dataset, Split, Units
from gru_optuna.data.load import load_dataset
from gru_optuna.hyperparameters import Hyperparameters, Initializer, Pooling
from gru_optuna.training.reference import Trainer
from helpers.splits import split_of_rows
from helpers.workspaces import PLAIN, REPOSITORY, TINY_STUDY

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.study_file import Metric, Specification
    from gru_optuna.training.slot import EpochResult, Slot

CPU = torch.device("cpu")

EPOCHS = 5

BASE = replace(PLAIN, hidden_size=12, l1=1e-5, l2=1e-4, dropout=0.3, batch_size=32)

EXPLODING = replace(BASE, learning_rate=1e30, l2=1.0, clip_norm=None)

KINDS = {
    "base": BASE,
    "time decay": replace(BASE, decay="time", decay_rate=0.5),
    "step decay": replace(BASE, decay="step", decay_drop=0.3, decay_every=2),
    "exponential decay": replace(BASE, decay="exponential", decay_gamma=0.7),
    "cosine decay": replace(BASE, decay="cosine", decay_floor=0.1),
    "rmsprop": replace(BASE, optimizer="rmsprop", learning_rate=0.003),
    "tight clipping": replace(BASE, clip_norm=0.05),
    "no clipping": replace(BASE, clip_norm=None),
    "strong l1": replace(BASE, l1=1e-2),
    "strong l2": replace(BASE, l2=1e-1),
    "no penalty": replace(BASE, l1=0.0, l2=0.0),
    "no dropout": replace(BASE, dropout=0.0),
    "small batches": replace(BASE, batch_size=7),
    "one batch": replace(BASE, batch_size=1000),
    "label smoothing": replace(BASE, label_smoothing=0.2),
    "mean pooling": replace(BASE, pooling="mean"),
    "maximum pooling": replace(BASE, pooling="max"),
    "mean and maximum": replace(BASE, pooling="mean_max"),
    "two layers": replace(BASE, layers=2),
    "bidirectional": replace(BASE, bidirectional=True, layers=2, pooling="mean"),
    **{name: replace(BASE, initializer=name) for name in get_args(Initializer)},
}


TRIALS = st.builds(
    Hyperparameters,
    hidden_size=st.integers(1, 20),
    layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    pooling=st.sampled_from(get_args(Pooling)),
    learning_rate=st.floats(1e-4, 1e-2),
    optimizer=st.sampled_from(["adam", "rmsprop"]),
    decay=st.just("exponential"),
    decay_gamma=st.floats(0.5, 1.0),
    clip_norm=st.none() | st.floats(0.01, 10),
    initializer=st.sampled_from(get_args(Initializer)),
    l1=st.floats(0, 1e-2),
    l2=st.floats(0, 1e-1),
    dropout=st.floats(0, 0.9),
    batch_size=st.integers(1, 14),
)
"""Any trial at all, small."""


TEXT = replace(BASE, hidden_size=6, batch_size=8, embedding_size=5)

TEXT_KINDS = {
    "base": TEXT,
    "rmsprop": replace(TEXT, optimizer="rmsprop", learning_rate=0.003),
    "tight clipping": replace(TEXT, clip_norm=0.05),
    "no clipping": replace(TEXT, clip_norm=None),
    "strong penalties": replace(TEXT, l1=1e-2, l2=1e-1),
    "one batch": replace(TEXT, batch_size=1000),
    "mean pooling": replace(TEXT, pooling="mean"),
    "mean and maximum": replace(TEXT, pooling="mean_max", bidirectional=True),
    "bidirectional": replace(TEXT, bidirectional=True, layers=2, pooling="mean"),
    "wide embedding": replace(TEXT, embedding_size=17, layers=2),
    "cut": replace(TEXT, max_tokens=4),
    "insertion": replace(TEXT, token_insertion=0.3),
    "deletion": replace(TEXT, token_deletion=0.3),
    "swap": replace(TEXT, token_swap=0.5),
    "word dropout": replace(TEXT, word_dropout=0.5),
    "co-occurrences": replace(TEXT, embedding_initializer="ppmi"),
    "label smoothing": replace(TEXT, label_smoothing=0.3),
    "all of it": replace(
        TEXT,
        token_insertion=0.2,
        token_deletion=0.2,
        token_swap=0.2,
        word_dropout=0.2,
        embedding_initializer="ppmi",
        label_smoothing=0.1,
        max_tokens=6,
        batch_size=7,
    ),
}

NUMBER_KINDS = {
    "base": BASE,
    "jitter": replace(BASE, jitter=0.3),
    "scaling": replace(BASE, scaling=0.3),
    "time masking": replace(BASE, time_masking=0.5, batch_size=7),
    "all of it": replace(
        BASE, jitter=0.1, scaling=0.1, time_masking=0.3, bidirectional=True, layers=2, max_tokens=6
    ),
}


def make_spec(folder: Path, metric: Metric = "accuracy") -> Specification:
    """The tiny study over `EPOCHS` epochs, without early stopping."""
    path = folder / "tiny.toml"
    path.write_text(TINY_STUDY)
    spec = study_file.load(path, [f"training.epochs={EPOCHS}", "training.patience='off'"])
    return spec.model_copy(update={"metric": metric})


def some_vowels(spec: Specification) -> Dataset:
    """A part of the real data, in float64."""
    whole = load_dataset(spec, REPOSITORY / "studies")
    some = replace(
        whole,
        train=whole.train.rows(torch.arange(0, len(whole.train), 3)),
        validation=whole.validation.rows(torch.arange(0, len(whole.validation), 2)),
    )
    return some.to(CPU, torch.float64)


def some_texts(vocabulary: int = 23, rows: int = 40) -> Dataset:
    """Tokens of three classes that count differently, in float64; the commoner, the lower."""
    drawn = torch.Generator().manual_seed(rows)

    def split(count: int) -> Split:
        lengths = torch.randint(1, 10, (count,), generator=drawn)
        tokens = (1 + (vocabulary - 1) * torch.rand(count, 9, generator=drawn) ** 2).long()
        tokens[torch.arange(9) >= lengths.unsqueeze(1)] = 0
        return split_of_rows(tokens, lengths, torch.randint(0, 3, (count,), generator=drawn))

    whole = Dataset(
        split(rows), split(rows // 2), None, ("a", "b", "c"), fingerprint="drawn",
        vocabulary=vocabulary, class_weights=torch.tensor([0.5, 1.0, 3.0]),
    )  # fmt: skip
    return whole.to(CPU, torch.float64)


def some_numbers(outputs: int) -> Dataset:
    """Sequences with numbers to predict, in float64; some validation targets are missing."""
    drawn = torch.Generator().manual_seed(outputs)

    def split(count: int) -> Split:
        lengths = torch.randint(1, 10, (count,), generator=drawn)
        values = torch.randn(count, 9, 3, generator=drawn)
        values[torch.arange(9) >= lengths.unsqueeze(1)] = 0
        offset = torch.randn(count, outputs, generator=drawn, dtype=torch.float64)
        scale = 1 + torch.rand(count, 1, generator=drawn, dtype=torch.float64)
        targets = torch.randn(count, outputs, generator=drawn)
        return split_of_rows(values, lengths, targets, Units(offset, scale, naive=scale / 2))

    train, validation = split(40), split(20)
    validation.targets[::3, -1] = torch.nan
    whole = Dataset(train, validation, None, (), fingerprint="drawn", task="forecasting")
    return whole.to(CPU, torch.float64)


def reference(
    spec: Specification, dataset: Dataset, trial: Hyperparameters, seed: int, epochs: int
) -> Trainer:
    trainer = Trainer(spec, dataset, trial, seed)
    for _ in range(epochs):
        trainer.train_epoch()
    return trainer


def assert_close(slot: Slot, trainer: Trainer, tolerance: float) -> None:
    assert len(slot.progress.curve) == len(trainer.progress.curve)
    for ours, theirs in zip(slot.progress.curve, trainer.progress.curve, strict=True):
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=tolerance)
        assert ours.validation_loss == pytest.approx(theirs.validation_loss, rel=tolerance)
        assert ours.value == pytest.approx(theirs.value, rel=tolerance)
        assert ours.clipped == theirs.clipped
    assert slot.progress.best_epoch == trainer.progress.best_epoch
    for name, weight in trainer.best_weights.items():
        torch.testing.assert_close(slot.best_weights[name], weight, rtol=tolerance, atol=tolerance)


def curve_of(slot: Slot) -> list[EpochResult]:
    return slot.progress.curve
