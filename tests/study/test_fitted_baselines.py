"""The first sentence of a result: which is better, the GRU or the best simple model."""

from __future__ import annotations

import pytest

from gru_optuna.data.intervals import Gain
from gru_optuna.study.fitted_baselines import (
    Comparison,
    FittedBaselines,
    FittedModel,
    ModelLeftOut,
    compare_in_words,
)
from gru_optuna.study.records import checked


def compared(
    metric: str, values: tuple[float, float], interval: list[float] | None, units: int = 40
) -> str:
    gru, simple = values
    gain = gru - simple if metric in ("accuracy", "macro_f1", "r2", "roc_auc") else 1 - gru / simple
    name = "ridge regression on 48 lags"
    found = Comparison.of(3, "test", 286, name, values, Gain(gain, interval, units))
    return compare_in_words(found, metric)[0]


@pytest.mark.parametrize(
    ("metric", "values", "interval", "sentence"),
    [
        (
            "mae", (2.64, 3.0), [0.05, 0.18],
            "The GRU beats ridge regression on 48 lags by 12% (95% interval 5% to 18%).",
        ),
        (
            "accuracy", (0.913, 0.879), [0.021, 0.047],
            "The GRU beats ridge regression on 48 lags by 3.4 percentage points "
            "(95% interval 2.1 to 4.7).",
        ),
        (
            "r2", (0.9, 0.8), [0.05, 0.15],
            "The GRU beats ridge regression on 48 lags by 0.1 (95% interval 0.05 to 0.15).",
        ),
        (
            "rmse", (3.0, 2.5), [-0.3, -0.1],
            "Ridge regression on 48 lags is better here; use it: the GRU's rmse is 20% higher "
            "(95% interval 10% to 30%).",
        ),
        (
            "rmse", (5.0, 2.0), [-2.0, -0.5],
            "Ridge regression on 48 lags is better here; use it: the GRU's rmse is 2.5 times as "
            "high (95% interval 1.5 to 3).",
        ),
        (
            "macro_f1", (0.7, 0.8), [-0.15, -0.05],
            "Ridge regression on 48 lags is better here; use it: the GRU's macro_f1 is "
            "10 percentage points lower (95% interval 5 to 15).",
        ),
        (
            "mae", (2.9, 3.0), [-0.05, 0.12],
            "No difference can be shown between the GRU and ridge regression on 48 lags "
            "(mae 2.9000 and 3.0000): the GRU may be 5% worse or 12% better.",
        ),
        (
            "accuracy", (1.0, 1.0), [0.0, 0.0],
            "No difference can be shown between the GRU and ridge regression on 48 lags "
            "(accuracy 1.0000 and 1.0000): on each row, neither does better than the other.",
        ),
    ],
)  # fmt: skip
def test_the_first_sentence_follows_from_the_interval(
    metric: str, values: tuple[float, float], interval: list[float], sentence: str
) -> None:
    assert compared(metric, values, interval) == sentence


def test_few_rows_are_said_to_be_few() -> None:
    assert compared("accuracy", (1.0, 0.4), None, units=5) == (
        "No difference can be shown between the GRU and ridge regression on 48 lags: 5 independent "
        "rows are too few (accuracy 1.0000 and 0.4000)."
    )


def test_without_test_rows_the_comparison_says_what_it_was_made_on() -> None:
    gain = Gain(0.1, [0.05, 0.15], 40)
    found = Comparison.of(3, "validation", 80, "last value", (0.9, 1.0), gain)
    assert compare_in_words(found, "mae")[1].startswith(
        "Both were measured on the same 80 validation rows, which both were chosen on: "
    )


def test_what_is_stored_is_what_is_read() -> None:
    model = FittedModel("ridge regression", "ridge", {"penalty": 1.0}, 0.5, 2.0, 12)
    found = FittedBaselines([model], [ModelLeftOut("trees", "no time")], 20, 80, complete=True)
    gain = Gain(0.1, None, 4)
    found = found.measured(
        {"ridge regression": 0.6}, Comparison.of(1, "test", 4, "ridge", (0.5, 0.6), gain)
    )
    assert checked(FittedBaselines, found.as_json()) == found
    assert found.tested() == {"ridge": 0.6}
    assert found.about_fit() == [
        "They were fitted to 20 of the 80 training rows, drawn at random.",
        "Left out: trees (no time).",
    ]
