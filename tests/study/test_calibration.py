"""Temperature scaling: what it is fitted to, what it changes, and what is recorded of it."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from gru_optuna import study_file
from gru_optuna.attributes import CALIBRATION
from gru_optuna.data.dataset import Split
from gru_optuna.report.figures.base import Context
from gru_optuna.report.figures.reliability import draw_reliability, reliability_section
from gru_optuna.study.calibration import (
    Calibration,
    Reliability,
    calibrated,
    fit_temperature,
)
from gru_optuna.study.records import checked


def rows(count: int, sharpness: float, seed: int = 0) -> list[tuple[torch.Tensor, Split]]:
    """Logits of four classes whose probabilities are true at the temperature `sharpness`."""
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 4, generator=random, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(dim=1), 1, generator=random).squeeze(1)
    none = torch.zeros(count, dtype=torch.int64)
    return [(logits * sharpness, Split(torch.zeros(0, 0), none, none, targets))]


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_made_probabilities_too_sharp_or_too_soft(
    sharpness: float,
) -> None:
    predictions = rows(4000, sharpness)
    temperature = fit_temperature(predictions)
    assert temperature == pytest.approx(sharpness, rel=0.1)
    before, after = (
        Reliability.measure(each) for each in (predictions, calibrated(predictions, temperature))
    )
    assert after.log_loss <= before.log_loss + 1e-4
    assert after.error < 0.03
    if sharpness != 1:
        assert before.error > 0.08


def test_folds_are_fitted_together() -> None:
    folds = rows(400, 2.0, 1) + rows(400, 2.0, 2)
    assert fit_temperature(folds) == pytest.approx(2.0, rel=0.2)


def test_a_few_rows_have_no_temperature_and_rows_without_an_error_no_certainty() -> None:
    assert fit_temperature(rows(49, 4.0)) == 1.0
    ((_, split),) = rows(60, 1.0)
    right = torch.nn.functional.one_hot(split.targets, 4).double() * 3
    scaled = calibrated([(right, split)], fit_temperature([(right, split)]))[0][0].softmax(dim=1)
    assert scaled.max() == pytest.approx(61 / 62, abs=0.002)  # Platt's targets


def test_log_loss_and_calibration_error_are_those_of_their_definitions() -> None:
    predictions = rows(500, 1.5)
    ((logits, split),) = predictions
    found = Reliability.measure(predictions)
    probabilities, targets = logits.softmax(dim=1).numpy(), split.targets.numpy()
    assert found.log_loss == pytest.approx(log_loss(targets, probabilities, labels=range(4)))
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    edges = np.linspace(0, 1, 16)
    off = 0.0
    for low, high in itertools.pairwise(edges):
        own = (confidence >= low) & (confidence < high)
        if own.any():
            off += own.mean() * abs(confidence[own].mean() - right[own].mean())
    assert found.error == pytest.approx(off)
    assert sum(count for *_, count in found.bins) == 500


@settings(max_examples=30, deadline=None)
@given(st.floats(0.06, 15), st.integers(0, 100))
def test_no_temperature_changes_which_class_is_predicted(temperature: float, seed: int) -> None:
    predictions = rows(20, 1.0, seed)
    scaled = calibrated(predictions, temperature)
    assert torch.equal(scaled[0][0].argmax(dim=1), predictions[0][0].argmax(dim=1))


def test_what_is_recorded_is_read_again_and_said() -> None:
    before, after = (Reliability(loss, error, [(0.7, 0.6, 50)]) for loss, error in
                     ((0.5, 0.08), (0.4, 0.02)))  # fmt: skip
    found = Calibration(3, 1.62, 1.7, "test", 370, before, after)
    assert checked(Calibration, found.as_json()) == found
    assert found.in_words() == (
        "On 370 test rows, temperature scaling (T = 1.62, fitted on the validation rows) takes "
        "the log loss of its probabilities from 0.5000 to 0.4000, and their expected calibration "
        "error from 8.0% to 2.0%."
    )


def test_the_reports_figure_shows_both_and_is_left_out_where_nothing_was_measured() -> None:
    before, after = (Reliability(loss, 0.05, [(0.7, 0.6, 50), (0.95, 0.9, 320)])
                     for loss in (0.5, 0.4))  # fmt: skip
    found = Calibration(3, 1.62, 1.7, "test", 370, before, after)
    figure = draw_reliability(found)
    diagonal, raw, scaled = figure.data
    assert list(diagonal.x) == list(diagonal.y)
    assert (list(raw.x), list(scaled.y)) == ([0.7, 0.95], [0.6, 0.9])
    assert list(raw.customdata) == [50, 320]
    study = optuna.create_study()
    spec = study_file.parse({"name": "x", "data": {"train": "x.ts"}}, "x")
    assert reliability_section(Context(study, spec, 3)) == []
    study.set_user_attr(CALIBRATION, found.as_json())
    (section,) = reliability_section(Context(study, spec, 3))
    assert found.in_words() in section.caption
    assert reliability_section(Context(study, spec, 4)) == []  # another trial wins now
