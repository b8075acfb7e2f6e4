"""What a trial's checkpoint holds, whichever engine trains it, and whether it fits a trial.

    weights/NAME          after the last epoch; NAME and shape as in ``Network.shapes``
    first_moment/NAME     the optimizer's, of the same shapes
    second_moment/NAME
    updates               () int64, the number of updates made
    best_weights/NAME     of the best epoch; absent before the first epoch

The checkpoint's state identifies the trial and holds its curve. It holds no random generator,
because ``seeds`` addresses their streams by the trial's seed and the epoch. ``folded_pool``
describes how the checkpoints of a trial's folds become one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.training.slot import EpochResult

if TYPE_CHECKING:
    from torch import Tensor

    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot

LEARNED = ("weights", "first_moment", "second_moment")
"""What an engine keeps for every parameter."""

BEST = "best_weights"
UPDATES = "updates"


def name_tensors(*learned: dict[str, Tensor], updates: int) -> dict[str, Tensor]:
    """An engine's snapshot, from parameters, first and second moments by name."""
    tensors = {UPDATES: torch.tensor(updates, dtype=torch.int64)}
    for part, parameters in zip(LEARNED, learned, strict=True):
        tensors |= {f"{part}/{name}": parameter for name, parameter in parameters.items()}
    return tensors


def part_of(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """One part of a snapshot, with the names of the parameters."""
    start = f"{part}/"
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def make_checkpoint(slot: Slot, tensors: dict[str, Tensor]) -> Checkpoint:
    """A slot's checkpoint, from its engine's snapshot."""
    # A CPU needs no copy: a better epoch replaces these weights and never writes into them.
    best = {f"{BEST}/{name}": weight.cpu() for name, weight in slot.best_weights.items()}
    curve = [[r.train_loss, r.validation_loss, r.value, r.clipped] for r in slot.progress.curve]
    state = _identity(slot) | {"curve": curve, "best_epoch": slot.progress.best_epoch}
    return Checkpoint(tensors | best, state)


def resume_from(checkpoint: Checkpoint, slot: Slot) -> None:
    """Gives a new slot a checkpoint's curve, patience and best weights.

    All tensors are checked, so that the engine may rely on them.

    Raises
    ------
    DamagedCheckpoint
        If it belongs to another trial, or tensors are missing or differ in shape. The slot can't
        be used then.
    """
    replay(checkpoint.state, slot)
    _check_tensors(checkpoint.tensors, slot.network, best=slot.progress.epoch > 0)
    slot.best_weights = part_of(checkpoint.tensors, BEST)


def replay(state: dict[str, Any], slot: Slot) -> None:
    """Gives a new slot the curve and patience of a checkpoint's state.

    Raises
    ------
    DamagedCheckpoint
        If it belongs to another trial, or the curve is impossible. The slot can't be used then.
    """
    for key, ours in _identity(slot).items():
        theirs = state.get(key)
        if isinstance(theirs, dict):  # None doesn't count: another version may have other names
            theirs = {name: value for name, value in theirs.items() if value is not None}
        if theirs != ours:
            raise DamagedCheckpoint(
                f"belongs to another trial: {key} = {theirs}, and this one has {ours}"
            )
    progress = slot.progress
    try:
        for numbers in state["curve"]:
            progress.record(EpochResult(*map(float, numbers)))
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedCheckpoint(f"the curve can't be read: {error}") from None
    if progress.epoch > progress.epochs:
        raise DamagedCheckpoint(f"{progress.epoch} epochs, and a trial has {progress.epochs}")
    if progress.best_epoch != state.get("best_epoch"):
        raise DamagedCheckpoint(
            f"best_epoch = {state.get('best_epoch')}, "
            f"but epoch {progress.best_epoch} is the best of the curve"
        )


def _identity(slot: Slot) -> dict[str, Any]:
    """Everything that a trial's numbers depend on, besides the study."""
    values = vars(slot.hyperparameters)
    applying = {name: value for name, value in values.items() if value is not None}
    return {"hyperparameters": applying, "seed": slot.seed}


def _check_tensors(tensors: dict[str, Tensor], network: Network, *, best: bool) -> None:
    parts = [*LEARNED, BEST] if best else LEARNED
    needed: dict[str, tuple[int, ...]] = {UPDATES: ()}
    for part in parts:
        needed |= {f"{part}/{name}": shape for name, shape in network.shapes().items()}
    if missing := needed.keys() - tensors.keys():
        raise DamagedCheckpoint(f"{', '.join(sorted(missing))} missing")
    if unknown := tensors.keys() - needed.keys():
        raise DamagedCheckpoint(f"{', '.join(sorted(unknown))}, which no trial has")
    for name, shape in needed.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.is_floating_point() != (name != UPDATES):
            raise DamagedCheckpoint(f"{name}: {tensor.dtype} {tuple(tensor.shape)}, need {shape}")
