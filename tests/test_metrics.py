"""Metrics, against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from gru_optuna.training.metrics import classification_metric

# Four rows of class 0, one of class 1; predicted 0 0 0 1 | 1.
TARGETS = torch.tensor([0, 0, 0, 0, 1])
LOGITS = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def test_accuracy_is_the_share_of_right_rows() -> None:
    assert classification_metric("accuracy", LOGITS, TARGETS) == pytest.approx(4 / 5)


def test_balanced_accuracy_is_the_mean_recall_of_the_classes_that_occur() -> None:
    assert classification_metric("balanced_accuracy", LOGITS, TARGETS) == pytest.approx(
        (3 / 4 + 1 / 1) / 2
    )
    with_an_absent_class = torch.cat([LOGITS, torch.full((5, 1), -9.0)], dim=1)
    assert classification_metric(
        "balanced_accuracy", with_an_absent_class, TARGETS
    ) == pytest.approx((3 / 4 + 1 / 1) / 2)


def test_macro_f1_is_the_mean_f1() -> None:
    # Class 0: precision 3/3, recall 3/4, F1 6/7. Class 1: precision 1/2, recall 1, F1 2/3.
    assert classification_metric("macro_f1", LOGITS, TARGETS) == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_log_loss_is_the_mean_negative_log_probability_of_the_right_class() -> None:
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    right = [sigmoid(2)] * 3 + [sigmoid(-1), sigmoid(1)]
    assert classification_metric("log_loss", LOGITS, TARGETS) == pytest.approx(
        -sum(math.log(p) for p in right) / 5
    )
