"""The engine for GPUs: is it exact, and how fast is it? ``python benchmarks/cuda.py``.

    python benchmarks/cuda.py                 some minutes on one GPU
    python benchmarks/cuda.py --miniature     seconds, on a CPU too; its speeds mean nothing
    python benchmarks/cuda.py --json FILE     the numbers besides

Three questions, in this order:

1. Exactness. Trials of all kinds train together on the device and one by one in
   ``training.reference`` on the CPU, in float64 and float32. A CUDA graph of a step must also
   do what the step does.
2. Speed. Steps per second of all slots together, against ``torch.nn.GRU`` with Adam, one network
   at a time in its best form (``shapes.py``), with and without CUDA graphs.
3. Memory. What torch took from the device for each of these.

It needs torch, numpy and the training part of this package; no database, reader or optimizer
of hyperparameters. TF32 is off on both sides, or float32 wouldn't mean the same to both.
Without CUDA it runs in miniature. It exits with 1 if anything isn't exact.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Torch imports NVIDIA's package "cuda", and would find this file in this folder. The folder
    # above also holds gru_optuna, so a machine with a GPU needs nothing installed but torch.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
elif __name__ == "cuda":
    # Torch in another script of this folder, to which NVIDIA's package is optional.
    raise ImportError("benchmarks/cuda.py is not NVIDIA's package.")

import argparse
import json
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.shapes import (
    CLIP_NORM,
    LEARNING_RATE,
    OUTPUTS,
    SHAPES,
    Shape,
    draw_rows,
    timed,
    torch_step,
    wait_for_device,
)
from gru_optuna.data.dataset import Batch, Dataset, one_after_another
from gru_optuna.hyperparameters import Hyperparameters
from gru_optuna.training.engines.batched import BatchedEngine
from gru_optuna.training.engines.batched.batches import micro_batches
from gru_optuna.training.engines.batched.engine import EpochSums, to_device, train_step
from gru_optuna.training.engines.batched.recurrence import Layer, recurrence
from gru_optuna.training.engines.batched.updates import Recipes, State
from gru_optuna.training.network import GATES
from gru_optuna.training.pool import Pool
from gru_optuna.training.reference import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gru_optuna.data.dataset import Split

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
"""The weights are compared in float64 and only the losses in float32. Adam's first updates are
nearly signs, so rounding a gradient close to zero can change a weight by a whole learning rate."""

WARM_UP = 3
"""Steps before a graph is captured: torch wants cuBLAS and the allocator to be ready."""

PLAIN = Hyperparameters(
    hidden_size=32, layers=1, bidirectional=False, pooling="last", learning_rate=LEARNING_RATE,
    optimizer="adam", decay="constant", clip_norm=CLIP_NORM, initializer="xavier_uniform",
    l1=0.0, l2=0.0, dropout=0.0, batch_size=16,
)  # fmt: skip

KINDS = (
    PLAIN,
    replace(PLAIN, optimizer="rmsprop", clip_norm=0.05, batch_size=7),
    replace(PLAIN, l1=1e-4, l2=1e-3, dropout=0.3, decay="cosine", decay_floor=0.1),
    replace(PLAIN, pooling="mean", clip_norm=None, initializer="orthogonal", batch_size=1000),
    replace(PLAIN, layers=2, bidirectional=True, pooling="mean", dropout=0.2),
    replace(PLAIN, hidden_size=13, bidirectional=True, jitter=0.1, time_masking=0.3),
)
"""The hyperparameters that vary; most trials share a network and train in one launch."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    shapes: Sequence[Shape]
    slots: Sequence[int]
    rows: int  # of the data that exactness is checked on
    rounds: int
    seconds: float  # of each side in each round
    batches: int  # of an epoch


FULL = Plan(SHAPES, (128, 512), rows=200, rounds=7, seconds=0.5, batches=8)
MINIATURE = Plan((Shape(4, 5, 3, 6), Shape(3, 6, 4, 5)), (2, 3), 24, 2, 0.001, 2)


def study(epochs: int) -> Any:
    """The part of a specification that training reads; the real classes need pydantic."""
    training = SimpleNamespace(epochs=epochs, patience="off")
    return SimpleNamespace(training=training, metric="log_loss", direction="minimize")


# 1. Exactness


def check_exactness(plan: Plan, device: torch.device) -> list[dict[str, Any]]:
    """The largest differences from the reference, by what the rows are and kind of number."""
    texts = tuple(replace(kind, embedding_size=5, token_swap=kind.jitter) for kind in KINDS)
    checks = [
        check_trials(f"{name}, {str(dtype).removeprefix('torch.')}", dataset, kinds, dtype, device)
        for name, dataset, kinds in (
            ("numbers", make_dataset(plan.rows, vocabulary=0), KINDS),
            ("texts", make_dataset(plan.rows, vocabulary=30), texts),
        )
        for dtype in (torch.float64, torch.float32)
    ]
    return [*checks, check_graph(plan, device)]


def check_trials(
    subject: str,
    dataset: Dataset,
    kinds: Sequence[Hyperparameters],
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, Any]:
    """Trains trials together on the device, and one by one in the reference on the CPU."""
    epochs = 3 if dtype == torch.float64 else 1
    on_cpu = dataset.to(CPU, dtype)
    pool = make_pool(on_cpu.to(device, dtype), epochs)
    slots = [pool.admit(kind, seed) for seed, kind in enumerate(kinds)]
    trainers = [Trainer(pool.spec, on_cpu, kind, seed) for seed, kind in enumerate(kinds)]
    in_losses = in_weights = 0.0
    for _ in range(epochs):
        for (_, result), trainer in zip(pool.train_epoch(), trainers, strict=True):
            if isinstance(result, Exception):
                raise result
            expected = trainer.train_epoch()
            for name in ("train_loss", "validation_loss"):
                loss = getattr(expected, name)
                in_losses = max(in_losses, abs(getattr(result, name) - loss) / loss)
    for slot, trainer in zip(slots, trainers, strict=True):
        (weights,) = pool.networks(slot)
        for name, weight in trainer.model.state_dict().items():
            in_weights = max(in_weights, (weights[name].cpu() - weight).abs().max().item())
    judged = in_weights if dtype == torch.float64 else in_losses
    return check(subject, judged, dtype) | {"in_losses": in_losses, "in_weights": in_weights}


def check_graph(plan: Plan, device: torch.device) -> dict[str, Any]:
    """How far the weights are from each other after the same steps, from a graph and without."""
    trained = []
    for through_graph in (False, True):
        steps = TrainStep(plan.shapes[0], plan.slots[0], plan.batches, device)
        step = attempt(lambda: capture(steps.step, device)) if through_graph else steps.step  # noqa: B023
        if isinstance(step, str):
            return {"of": "CUDA graph", "error": None, "fine": True, "reason": step}
        # Capturing has made the steps of its warm-up.
        for _ in range(WARM_UP if through_graph else 2 * WARM_UP):
            step()
        wait_for_device()
        trained.append(steps.state.weights)
    difference = (trained[0] - trained[1]).abs().max().item()
    return check("CUDA graph", difference, torch.float32)


def check(subject: str, error: float, dtype: torch.dtype) -> dict[str, Any]:
    """One line of the answer."""
    tolerance = TOLERANCE[dtype]
    return {"of": subject, "error": error, "tolerance": tolerance, "fine": error <= tolerance}


def make_dataset(rows: int, vocabulary: int) -> Dataset:
    """Sequences of many lengths, of numbers or of tokens, with classes that can be learned."""
    splits = []
    for seed, count in enumerate((rows, rows // 2)):
        batch = draw_rows(Shape(16, 24, 8, 32), count, seed)
        lengths = 1 + 2 * batch.targets + torch.arange(count) % 5
        values = batch.values
        if vocabulary:
            values = (2 + values[..., 0].abs() * 10).long().clamp(max=vocabulary - 1)
        splits.append(one_after_another([Batch(values, lengths, batch.targets)]))
    return as_dataset(*splits, vocabulary)


def as_dataset(train: Split, validation: Split, vocabulary: int = 0) -> Dataset:
    """Two splits as a study's data."""
    classes = tuple(f"class {number}" for number in range(OUTPUTS))
    return Dataset(train, validation, None, classes, "drawn", vocabulary=vocabulary)


def make_pool(dataset: Dataset, epochs: int) -> Pool:
    """A pool as a worker on a GPU has it."""
    spec = study(epochs)
    return Pool(spec, dataset, BatchedEngine(spec, dataset))


# 2 and 3. Speed and memory


class TrainStep:
    """Slots of one shape, with data on the device, an epoch or a step at a time."""

    def __init__(self, shape: Shape, slots: int, batches: int, device: torch.device) -> None:
        rows = one_after_another([draw_rows(shape, shape.batch * batches)])
        few = one_after_another([draw_rows(shape, shape.batch, seed=1)])
        on_cpu = as_dataset(rows, few)
        dataset = on_cpu.to(device)
        self.pool = make_pool(dataset, epochs=1)
        trial = replace(PLAIN, hidden_size=shape.hidden, batch_size=shape.batch)
        self.slots = [self.pool.admit(trial, seed) for seed in range(slots)]
        network = self.slots[0].network
        self.state = State.stack([slot.state for slot in self.slots])
        weights = self.state.weights
        batch = to_device(next(micro_batches(self.slots, on_cpu.train)), weights)
        recipes = Recipes.of(network, self.slots, 1, weights)
        sums = EpochSums.of(weights)
        self.step = partial(train_step, network, self.state, recipes, sums, dataset.train, batch)

    def epoch(self) -> None:
        """All that a worker waits for: rows drawn and sent, every step, the validation rows."""
        self.pool.engine.train_epoch(self.slots)


def recurrence_step(shape: Shape, slots: int, device: torch.device) -> Callable[[], object]:
    """The recurrence alone, forward and backward: without embedding, head, loss and update."""
    J, H, C = slots, shape.hidden, shape.inputs
    drawn = torch.Generator().manual_seed(0)
    shapes = ((J, GATES * H, C), (J, GATES * H, H), (J, GATES * H), (J, GATES * H))
    weights = [torch.randn(s, generator=drawn).to(device).mul_(H**-0.5) for s in shapes]
    layer = Layer(*(weight.requires_grad_() for weight in weights))
    inputs = torch.randn(J, shape.time, shape.batch, C, generator=drawn).to(device)
    valid = torch.ones(J, shape.time, shape.batch, dtype=torch.bool, device=device)
    active = [shape.batch] * shape.time
    return lambda: torch.autograd.grad(recurrence(inputs, layer, valid, active).sum(), layer)


def capture(step: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """Makes a CUDA graph of a step and returns its replay; on a CPU, which has none, the step.

    What changes between replays has to lie where it lay: a step changes weights, moments and
    sums in place, and reads the same batch again. A whole epoch from one graph would have to
    copy each batch there first.
    """
    if device.type != "cuda":
        for _ in range(WARM_UP):
            step()
        return step
    # As torch's notes on CUDA graphs have it: warm up on another stream than the usual one.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def attempt(function: Callable[[], Any]) -> Any:
    """Returns the result of `function`, or the reason that the GPU can't run it, in one line."""
    try:
        return function()
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@dataclass(frozen=True)
class Side:
    """Returns a call that takes `steps` steps, to be timed, or the reason that there is none."""

    steps: int
    call: Callable[[], object] | str
    memory_mib: float | None  # that torch took from the device for it; None: not on a GPU

    @classmethod
    def make(
        cls, steps: int, make: Callable[[], Callable[[], object]], device: torch.device
    ) -> Side:
        """Makes the call and tries it once."""
        on_gpu = device.type == "cuda"
        before = 0
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_reserved()
        call = attempt(make)
        if not isinstance(call, str) and isinstance(tried := attempt(lambda: timed(call, 2)), str):
            call = tried
        taken = (torch.cuda.max_memory_reserved() - before) / 2**20 if on_gpu else None
        return cls(steps, call, taken)


def measure_shape(plan: Plan, shape: Shape, device: torch.device) -> list[dict[str, Any]]:
    """The baseline's row of the table, and one for each number of slots."""
    rows = [measure(baseline(shape, device), plan) | {"slots": 1, "shape": list(shape)}]
    best = max((side["rate"] for side in rows[0]["sides"].values() if side["rate"]), default=None)
    for slots in plan.slots:
        row = measure(pool_sides(plan, shape, slots, device), plan)
        for side in row["sides"].values():
            side["ratio"] = side["rate"] / best if side["rate"] and best else None
        rows.append(row | {"slots": slots, "shape": list(shape)})
    return rows


def baseline(shape: Shape, device: torch.device) -> dict[str, Side]:
    """``torch.nn.GRU`` in both layouts, with and without a graph."""
    drawn = draw_rows(shape, shape.batch)
    batch = Batch(*(t.to(device) for t in (drawn.values, drawn.lengths, drawn.targets)))
    sides: dict[str, Side] = {}
    for layout, first in (("batch first", True), ("time first", False)):
        make = partial(torch_step, shape, batch, batch_first=first)
        sides |= both_ways(f"step, {layout}", f"graph, {layout}", 1, make, device)
    return sides


def pool_sides(plan: Plan, shape: Shape, slots: int, device: torch.device) -> dict[str, Side]:
    """The batched engine: whole epochs, single steps, and steps from a graph."""

    def trained() -> TrainStep:
        return TrainStep(shape, slots, plan.batches, device)

    sides = {"epoch": Side.make(slots * plan.batches, lambda: trained().epoch, device)}
    sides |= both_ways("step", "graph", slots, lambda: trained().step, device)
    if isinstance(sides["graph"].call, str):
        alone = partial(recurrence_step, shape, slots, device)
        names = ("step of the recurrence alone", "graph of the recurrence alone")
        sides |= both_ways(*names, slots, alone, device)
    return sides


def both_ways(
    plain: str,
    captured: str,
    steps: int,
    make: Callable[[], Callable[[], object]],
    device: torch.device,
) -> dict[str, Side]:
    """A step and its graph, each on tensors of its own."""
    return {
        plain: Side.make(steps, make, device),
        captured: Side.make(steps, lambda: capture(make(), device), device),
    }


def measure(sides: dict[str, Side], plan: Plan) -> dict[str, Any]:
    """Medians of the steps per second; the sides take turns, so that a busy moment meets all."""
    calls = {name: side.call for name, side in sides.items() if not isinstance(side.call, str)}
    # Side by side they need more memory than each did alone.
    tried = {name: attempt(partial(timed, call, 2)) for name, call in calls.items()}
    reasons = {name: side.call for name, side in sides.items() if name not in calls}
    reasons |= {name: seconds for name, seconds in tried.items() if isinstance(seconds, str)}
    repeats = {
        name: max(1, int(plan.seconds / seconds))
        for name, seconds in tried.items()
        if name not in reasons
    }
    turns = [
        {name: timed(calls[name], count) for name, count in repeats.items()}
        for _ in range(plan.rounds)
    ]
    answer = {}
    for name, side in sides.items():
        seconds = median(turn[name] for turn in turns) if name in repeats else None
        answer[name] = {
            "rate": None if seconds is None else side.steps / seconds,
            "memory_mib": side.memory_mib,
            "reason": reasons.get(name),
        }
    return {"sides": answer}


# The answer


def run(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Everything, as JSON has it."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "miniature": plan is MINIATURE,
        "exactness": check_exactness(plan, device),
        "speed": [row for shape in plan.shapes for row in measure_shape(plan, shape, device)],
    }


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    versions = f"torch {result['torch']}, CUDA {result['cuda']}, cuDNN {result['cudnn']}"
    print(f"{result['device']}, {versions}" + (", in miniature" if result["miniature"] else ""))
    if result["cuda"] is None:
        print("There are no CUDA graphs here: the rows of graphs repeat the step.")
    print("\nlargest difference from the reference (float64: weights; float32: losses)")
    for line in result["exactness"]:
        verdict = "exact" if line["fine"] else "NOT EXACT"
        if line["error"] is None:
            print(f"  {line['of']:16} not made: {line['reason']}")
        else:
            print(f"  {line['of']:16} {line['error']:.1e} of {line['tolerance']:.0e}: {verdict}")
    print("\nsteps per second of all slots together; × the best of torch.nn.GRU, one at a time")
    print("batch time inputs hidden slots         rate      ×    MiB")
    for row in result["speed"]:
        shape = "{:5} {:4} {:6} {:6}".format(*row["shape"])
        for name, side in row["sides"].items():
            rate = "–" if side["rate"] is None else f"{side['rate']:,.0f}"
            ratio = f"{side['ratio']:.1f}" if side.get("ratio") else ""
            memory = "–" if side["memory_mib"] is None else f"{side['memory_mib']:,.0f}"
            reason = f": {side['reason']}" if side["reason"] else ""
            print(f"{shape} {row['slots']:5} {rate:>12} {ratio:>6} {memory:>6}  {name}{reason}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), help="CUDA, where there is any")
    parser.add_argument("--miniature", action="store_true", help="tiny shapes, a few seconds")
    parser.add_argument("--slots", type=int, nargs="+", help="instead of 128 and 512")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write JSON as well")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here. Use --device cpu.")
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    plan = MINIATURE if arguments.miniature or device.type == "cpu" else FULL
    result = run(plan if arguments.slots is None else replace(plan, slots=arguments.slots), device)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))
    show(result)
    sys.exit(not all(line["fine"] for line in result["exactness"]))


if __name__ == "__main__":
    main()
