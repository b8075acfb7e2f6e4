"""Metrics, against values worked by hand, and against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.splits import split_of_rows
from sklearn import metrics

from gru_optuna.data.dataset import Split, Units
from gru_optuna.data.metrics import (
    classification_metric,
    combined,
    joined,
    mean_metric,
    measure,
)
from gru_optuna.study_file import METRICS, Metric

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


def test_roc_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    # Class 1 is the fifth row; 4 pairs with the others, one of them a tie, which counts half.
    assert classification_metric("roc_auc", LOGITS, TARGETS) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_roc_auc_is_scikit_learns(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(60, classes, generator=generator)
    targets = torch.arange(60) % classes
    probabilities = logits.double().softmax(1).numpy()
    expected = metrics.roc_auc_score(
        targets.numpy(),
        probabilities[:, 1] if classes == 2 else probabilities,
        multi_class="ovr",
    )
    assert classification_metric("roc_auc", logits, targets) == pytest.approx(expected)


def test_roc_auc_of_one_class_is_not_defined() -> None:
    assert math.isnan(classification_metric("roc_auc", LOGITS, torch.zeros(5, dtype=torch.int64)))


# --- numbers: two rows of two, scaled by 10 about 100 and 200; naive errors 2 and 4 ---

UNITS = Units(
    offset=torch.tensor([[100.0, 200.0], [100.0, 200.0]], dtype=torch.float64),
    scale=torch.full((2, 1), 10.0, dtype=torch.float64),
    naive=torch.tensor([[2.0], [4.0]], dtype=torch.float64),
)
TRUTH = torch.tensor([[100.0, 210.0], [120.0, 180.0]], dtype=torch.float64)
FORECAST = torch.tensor([[104.0, 210.0], [110.0, 182.0]], dtype=torch.float64)


def rows(truth: torch.Tensor = TRUTH) -> Split:
    return split_of_rows(
        torch.zeros(2, 3, 1), torch.full((2,), 3), UNITS.scaled(truth).float(), UNITS
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("mae", (4 + 0 + 10 + 2) / 4),
        ("rmse", math.sqrt((16 + 0 + 100 + 4) / 4)),
        ("mase", (4 / 2 + 0 + 10 / 4 + 2 / 4) / 4),
        ("smape", 200 * (4 / 204 + 0 + 10 / 230 + 2 / 362) / 4),
        # About the mean of 152.5 the squares are 2756.25, 3306.25, 1056.25 and 756.25.
        ("r2", 1 - 120 / 7875),
    ],
)
def test_numbers_are_measured_in_their_own_units(metric: Metric, expected: float) -> None:
    assert measure(metric, UNITS.scaled(FORECAST), rows()) == pytest.approx(expected, rel=1e-6)


def test_r2_is_scikit_learns() -> None:
    expected = metrics.r2_score(TRUTH.flatten().numpy(), FORECAST.flatten().numpy())
    assert measure("r2", UNITS.scaled(FORECAST), rows()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", METRICS["forecasting"])
def test_missing_numbers_count_in_nothing(metric: Metric) -> None:
    gap = TRUTH.clone()
    gap[1, 0] = math.nan
    without = {"mae": 6 / 3, "rmse": math.sqrt(20 / 3), "mase": (2 + 0.5) / 3}
    without["smape"] = 200 * (4 / 204 + 2 / 362) / 3
    assert measure(metric, UNITS.scaled(FORECAST), rows(gap)) == pytest.approx(without[metric])


def test_a_forecast_of_zero_that_comes_true_is_no_error() -> None:
    zero = torch.zeros(2, 2, dtype=torch.float64)
    assert measure("smape", UNITS.scaled(zero), rows(zero)) == pytest.approx(0.0, abs=1e-6)


def test_r2_of_numbers_that_are_all_alike_is_not_defined() -> None:
    alike = torch.full((2, 2), 100.0, dtype=torch.float64)
    assert not math.isfinite(measure("r2", UNITS.scaled(FORECAST), rows(alike)))


def test_classes_are_measured_as_before() -> None:
    split = split_of_rows(torch.zeros(5, 1, 1), torch.ones(5, dtype=torch.int64), TARGETS)
    for metric in METRICS["classification"]:
        assert measure(metric, LOGITS, split) == classification_metric(metric, LOGITS, TARGETS)


def test_a_class_that_is_never_predicted_right_counts_zero() -> None:
    never_predicted = torch.tensor([[2.0, 0.0]] * 5)
    # Class 0: precision 4/5, recall 1, F1 8/9. Class 1 has neither, and counts 0, not 1.
    f1 = classification_metric("macro_f1", never_predicted, TARGETS)
    assert f1 == pytest.approx((8 / 9) / 2)
    recall = classification_metric("balanced_accuracy", never_predicted, TARGETS)
    assert recall == pytest.approx(1 / 2)


def test_a_class_in_the_predictions_alone_is_no_class_of_the_mean_recall() -> None:
    of_three = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    both_of_class_0 = torch.tensor([0, 0])
    value = classification_metric("balanced_accuracy", of_three, both_of_class_0)
    assert value == pytest.approx(1 / 2)


def test_roc_auc_of_one_class_or_of_diverged_outputs_is_not_a_number() -> None:
    assert math.isnan(classification_metric("roc_auc", LOGITS, torch.zeros(5, dtype=torch.int64)))
    assert math.isnan(classification_metric("roc_auc", LOGITS * math.inf, TARGETS))


def test_networks_for_classes_predict_together_by_their_mean_probabilities() -> None:
    split = split_of_rows(
        torch.zeros(2, 1, 1), torch.ones(2, dtype=torch.int64), torch.tensor([0, 1])
    )
    first = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    second = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log() + 7.0  # logits, not probabilities
    ((outputs, of),) = combined([[(first, split)], [(second, split)]])
    assert of is split
    expected = torch.tensor([[0.5, 0.5], [0.7, 0.3]]).double()
    torch.testing.assert_close(outputs.exp(), expected, atol=1e-6, rtol=0)


def test_networks_count_as_much_as_their_weights_to_the_last_digits() -> None:
    split = split_of_rows(torch.zeros(1, 1), torch.ones(1).long(), torch.tensor([0]))
    first, second = torch.tensor([[0.3, -0.2, 1.0]]), torch.tensor([[2.0, 0.1, -1.0]])
    ((outputs, rows),) = combined([[(first, split)], [(second, split)]], [1.0, 2.0])
    assert rows is split
    assert outputs.dtype == torch.float64
    one, two = (logits.double().softmax(dim=1) for logits in (first, second))
    torch.testing.assert_close(outputs.exp(), (one + 2 * two) / 3, rtol=1e-14, atol=0)


def test_networks_for_numbers_predict_together_by_their_mean_in_the_datas_units() -> None:
    """Each fold has scales of its own, so scaled outputs must not be averaged."""
    targets = torch.tensor([[1.0], [2.0]])
    splits = [
        split_of_rows(
            torch.zeros(2, 1, 1), torch.ones(2, dtype=torch.int64), targets,
            units=Units(offset=torch.full((2, 1), offset), scale=torch.full((2, 1), scale)),
        )
        for offset, scale in ((10.0, 2.0), (20.0, 4.0))
    ]  # fmt: skip
    outputs = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
    # In units: 10 and 12; 24 and 16. Their means: 17 and 14, scaled by the first split: 3.5 and 2.
    ((together, of),) = combined([[(outputs[0], splits[0])], [(outputs[1], splits[1])]])
    assert of is splits[0]
    torch.testing.assert_close(together.float(), torch.tensor([[3.5], [2.0]]))


def test_rows_of_all_folds_are_measured_together_each_in_the_units_of_its_fold() -> None:
    targets = torch.tensor([[1.0], [2.0]])
    pairs = [
        (
            torch.tensor(outputs),
            split_of_rows(
                torch.zeros(2, 1, 1), torch.ones(2, dtype=torch.int64), targets,
                units=Units(offset=torch.full((2, 1), offset), scale=torch.full((2, 1), scale)),
                groups=torch.tensor(groups),
            ),
        )
        for offset, scale, outputs, groups in (
            (10.0, 2.0, [[0.0], [1.0]], [3, 5]),  # 12 and 14, predicted as 10 and 12
            (20.0, 4.0, [[1.0], [-1.0]], [5, 4]),  # 24 and 28, predicted as 24 and 16
        )
    ]  # fmt: skip
    outputs, rows = joined(pairs)
    assert measure("mae", outputs, rows) == (2 + 2 + 0 + 12) / 4
    assert rows.groups is not None
    assert rows.groups.tolist() == [3, 5, 5, 4]


def test_the_mean_of_a_metric_is_over_trainings_of_means_over_folds() -> None:
    split = split_of_rows(
        torch.zeros(2, 1, 1), torch.ones(2, dtype=torch.int64), torch.tensor([0, 1])
    )
    right, half = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert (
        mean_metric("accuracy", [[(right, split), (half, split)], [(half, split)]])
        == ((1 + 0.5) / 2 + 0.5) / 2
    )
