"""Learning-rate decays, against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.workspaces import PLAIN

from gru_optuna.training.schedules import learning_rate

if TYPE_CHECKING:
    from gru_optuna.hyperparameters import Hyperparameters

BASE = replace(PLAIN, learning_rate=0.8)


def rates(hyperparameters: Hyperparameters, epochs: int) -> list[float]:
    return [learning_rate(hyperparameters, epoch, epochs) for epoch in range(epochs)]


def test_constant_stays() -> None:
    assert rates(BASE, 3) == [0.8, 0.8, 0.8]


def test_time_divides_by_one_plus_rate_times_epoch() -> None:
    time = replace(BASE, decay="time", decay_rate=0.5)
    # 0.8/1, 0.8/1.5, 0.8/2, 0.8/2.5
    assert rates(time, 4) == pytest.approx([0.8, 0.533333333333, 0.4, 0.32])


def test_step_drops_every_so_many_epochs() -> None:
    step = replace(BASE, decay="step", decay_drop=0.5, decay_every=2)
    assert rates(step, 6) == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_exponential_multiplies_each_epoch() -> None:
    exponential = replace(BASE, decay="exponential", decay_gamma=0.9)
    # 0.8, 0.8*0.9, 0.8*0.81, 0.8*0.729
    assert rates(exponential, 4) == pytest.approx([0.8, 0.72, 0.648, 0.5832])


def test_cosine_falls_to_its_floor_over_the_epochs() -> None:
    cosine = replace(BASE, decay="cosine", decay_floor=0.25)
    # From 0.8 to 0.2: 0.2 + 0.6 * (1 + cos(k π/4)) / 2, with cos(π/4) = 0.70710678.
    assert rates(cosine, 4) == pytest.approx([0.8, 0.712132034, 0.5, 0.287867966])
    assert learning_rate(cosine, 4, 4) == pytest.approx(0.2)


def test_cosine_without_a_floor_falls_to_zero() -> None:
    cosine = replace(BASE, decay="cosine", decay_floor=0.0)
    assert learning_rate(cosine, 10, 10) == pytest.approx(0.0, abs=1e-16)
