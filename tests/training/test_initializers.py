"""First weights: the distribution of every gate is the one the literature names."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from gru_optuna.hyperparameters import Initializer
from gru_optuna.training.initializers import NORMAL_DEVIATION, initial_parameters
from gru_optuna.training.network import Network

C, H = 48, 160
NETWORK = Network(inputs=C, hidden_size=H, layers=2, bidirectional=True, pooling="last", outputs=5)


def gates(initializer: Initializer, kernel: str) -> tuple[torch.Tensor, ...]:
    """The reset, update and new gate's blocks of one stacked kernel."""
    return initial_parameters(NETWORK, initializer, seed=3)[kernel].chunk(3)


# Deviations for a gate of `fan_in` inputs and H outputs: Glorot & Bengio 2010 (eq. 12 and 16),
# He et al. 2015 (eq. 10).
DEVIATIONS = {
    "normal": lambda fan_in: NORMAL_DEVIATION,
    "xavier_uniform": lambda fan_in: math.sqrt(2 / (fan_in + H)),
    "xavier_normal": lambda fan_in: math.sqrt(2 / (fan_in + H)),
    "he_uniform": lambda fan_in: math.sqrt(2 / fan_in),
    "he_normal": lambda fan_in: math.sqrt(2 / fan_in),
}


@pytest.mark.parametrize(("kernel", "fan_in"), [("weight_ih_l0", C), ("weight_hh_l0", H)])
@pytest.mark.parametrize("initializer", DEVIATIONS)
def test_each_gate_has_the_deviation_of_its_own_fans(
    initializer: Initializer, kernel: str, fan_in: int
) -> None:
    for gate in gates(initializer, f"layers.0.{kernel}"):
        expected = DEVIATIONS[initializer](fan_in)
        # n draws give the deviation within 1/sqrt(2n): 5 of those, so one in a million fails.
        tolerance = 5 * expected / math.sqrt(2 * gate.numel())
        assert gate.std().item() == pytest.approx(expected, abs=tolerance)
        assert gate.mean().item() == pytest.approx(0, abs=5 * expected / math.sqrt(gate.numel()))


@pytest.mark.parametrize("initializer", ["xavier_uniform", "he_uniform"])
def test_uniform_ones_stay_within_sqrt_three_deviations(initializer: Initializer) -> None:
    for gate in gates(initializer, "layers.0.weight_hh_l0"):
        bound = math.sqrt(3) * DEVIATIONS[initializer](H)
        assert 0.99 * bound < gate.abs().max().item() <= bound


@pytest.mark.parametrize("initializer", ["normal", "xavier_normal", "he_normal"])
def test_normal_ones_have_normal_tails(initializer: Initializer) -> None:
    for gate in gates(initializer, "layers.0.weight_hh_l0"):
        outside = (gate.abs() > 2 * DEVIATIONS[initializer](H)).float().mean().item()
        assert outside == pytest.approx(0.0455, abs=0.007)


def test_orthogonal_recurrent_kernels_are_orthogonal_gate_by_gate() -> None:
    for gate in gates("orthogonal", "layers.0.weight_hh_l0"):
        torch.testing.assert_close(gate @ gate.T, torch.eye(H), atol=1e-5, rtol=0)


def test_orthogonal_input_kernels_have_orthonormal_columns() -> None:
    for gate in gates("orthogonal", "layers.0.weight_ih_l0"):
        torch.testing.assert_close(gate.T @ gate, torch.eye(C), atol=1e-5, rtol=0)


@pytest.mark.parametrize("initializer", get_args(Initializer))
def test_gates_layers_and_directions_differ_and_biases_are_zero(initializer: Initializer) -> None:
    parameters = initial_parameters(NETWORK, initializer, seed=3)
    blocks = [
        block
        for name, parameter in parameters.items()
        if "weight_hh" in name
        for block in parameter.chunk(3)
    ]
    assert len(blocks) == 2 * 2 * 3
    for index, block in enumerate(blocks):
        assert not any(torch.equal(block, other) for other in blocks[:index])
    assert all((p == 0).all() for name, p in parameters.items() if "bias" in name)


def test_the_seed_alone_decides() -> None:
    first, again, other = (initial_parameters(NETWORK, "he_normal", seed) for seed in (1, 1, 2))
    for name in first:
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("initializer", get_args(Initializer))
def test_an_embedding_starts_small_and_alike_under_every_initializer(
    initializer: Initializer,
) -> None:
    network = replace(NETWORK, vocabulary=500)
    drawn = initial_parameters(network, initializer, seed=1)["embedding.weight"]
    assert drawn.shape == (500, C)
    assert (drawn[0] == 0).all()
    assert float(drawn.abs().max()) <= 0.1
    assert drawn[1:].std().item() == pytest.approx(0.2 / 12**0.5, rel=0.05)
    assert torch.equal(drawn, initial_parameters(network, "normal", seed=1)["embedding.weight"])
