"""Training steps per second: compiled training against ``torch.nn.GRU``, with one thread.

    python benchmarks/steps.py               about two minutes
    python benchmarks/steps.py --quick       about twenty seconds
    python benchmarks/steps.py --json FILE   the numbers besides

Both sides do the same work on the same shapes: forward, backward, clipping by the joint norm,
Adam. torch has its best form (``shapes.py``) in the faster of its two layouts. Both take turns
within one run and medians over the rounds are compared, because only such ratios mean anything
on a machine that others use. The machine's own rate is that of a square product in float32 in
the same rounds.
"""

# ruff: noqa: E402 (threads are set before numpy and torch start theirs)

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
from pathlib import Path
from statistics import geometric_mean, median
from typing import TYPE_CHECKING

import numpy as np
import torch
from shapes import CLIP_NORM, LEARNING_RATE, OUTPUTS, SHAPES, Shape, draw_rows, timed, torch_step

from gru_optuna.data.dataset import one_after_another
from gru_optuna.training.engines.compiled.epoch import train_epoch
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten
from gru_optuna.training.engines.compiled.updates import ADAM, Recipe
from gru_optuna.training.engines.compiled.workspace import KernelWorkspace
from gru_optuna.training.initializers import initial_parameters
from gru_optuna.training.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from gru_optuna.data.dataset import Batch

EPOCH = 8  # batches
SQUARE = 2048


def compiled_epoch(shape: Shape, batch: Batch) -> Callable[[], None]:
    """`EPOCH` updates in compiled code, as the pool makes them: one call for the epoch."""
    network = Network(shape.inputs, shape.hidden, 1, False, "last", OUTPUTS)
    workspace = KernelWorkspace.of(network, shape.batch, shape.time)
    weights = initial_parameters(network, "xavier_uniform", seed=0)
    slot = SlotArrays.of(flatten(network, weights))
    rows = RowArrays.of(one_after_another([batch]))
    order = np.tile(np.arange(shape.batch), EPOCH)
    recipe = Recipe(shape.batch, LEARNING_RATE, ADAM, CLIP_NORM)

    def epoch() -> None:
        _, diverged = train_epoch(workspace, slot, rows, order, recipe)
        if diverged:
            raise RuntimeError(f"diverged at {shape}")

    return epoch


def measure(shape: Shape, rounds: int, seconds: float) -> dict[str, float | list[int]]:
    """Measures one shape; each side runs for about `seconds` in each round."""
    batch = draw_rows(shape, shape.batch)
    square = torch.rand(SQUARE, SQUARE)
    sides = {
        "batch_first": torch_step(shape, batch, batch_first=True),
        "time_first": torch_step(shape, batch, batch_first=False),
        "compiled": compiled_epoch(shape, batch),
        "sgemm": lambda: torch.mm(square, square),
    }
    repeats = {}
    for name, side in sides.items():
        timed(side, 2)
        repeats[name] = max(1, int(seconds / timed(side, 2)))
    turns = [
        {name: timed(side, repeats[name]) for name, side in sides.items()} for _ in range(rounds)
    ]
    for turn in turns:
        turn["compiled"] /= EPOCH
    best = "batch_first"
    if median(t["time_first"] for t in turns) < median(t["batch_first"] for t in turns):
        best = "time_first"
    return {
        "shape": list(shape),
        "torch_steps_per_second": 1 / median(t[best] for t in turns),
        "compiled_steps_per_second": 1 / median(t["compiled"] for t in turns),
        "ratio": median(t[best] / t["compiled"] for t in turns),
        "gflops": shape.flops() / median(t["compiled"] for t in turns) / 1e9,
        "sgemm_gflops": 2 * SQUARE**3 / median(t["sgemm"] for t in turns) / 1e9,
        "share_of_sgemm": median(
            shape.flops() / t["compiled"] / (2 * SQUARE**3 / t["sgemm"]) for t in turns
        ),
    }


def run(quick: bool = False) -> dict[str, object]:
    """Measures all shapes, with the geometric mean and the worst of the ratios."""
    torch.set_num_threads(1)
    rounds, seconds = (5, 0.1) if quick else (25, 0.3)
    rows = [measure(shape, rounds, seconds) for shape in SHAPES]
    ratios = [row["ratio"] for row in rows]
    return {"shapes": rows, "geometric_mean": geometric_mean(ratios), "worst": min(ratios)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write JSON as well")
    arguments = parser.parse_args()
    result = run(arguments.quick)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))
    print("batch time inputs hidden   torch/s  compiled/s   ratio   GFLOP/s   share of SGEMM")
    for row in result["shapes"]:
        batch, steps, inputs, hidden = row["shape"]
        print(
            f"{batch:5} {steps:4} {inputs:6} {hidden:6} {row['torch_steps_per_second']:9.1f} "
            f"{row['compiled_steps_per_second']:11.1f} {row['ratio']:7.2f} {row['gflops']:9.1f} "
            f"{row['share_of_sgemm']:9.2f} of {row['sgemm_gflops']:.0f}"
        )
    print(f"ratio: geometric mean {result['geometric_mean']:.2f}, worst {result['worst']:.2f}")


if __name__ == "__main__":
    main()
