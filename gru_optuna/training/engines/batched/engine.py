"""The pool's engine on a GPU: slots train together in batched products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional as F

from gru_optuna.data.dataset import Dataset, Split
from gru_optuna.errors import Quantity
from gru_optuna.training.embeddings import FirstWeights
from gru_optuna.training.engines.base import EpochOutput
from gru_optuna.training.engines.batched.batches import MicroBatch, active_rows, micro_batches
from gru_optuna.training.engines.batched.forward import forward
from gru_optuna.training.engines.batched.updates import Recipes, State, add_penalty, clip, update
from gru_optuna.training.pool_checkpoints import LEARNED, UPDATES, name_tensors, part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gru_optuna.data.views import View
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification
    from gru_optuna.training.network import Network
    from gru_optuna.training.slot import Slot

EVALUATION_ROWS = 4096
"""Rows predicted at a time, of all slots together; this bounds the memory of a prediction."""

_Group: TypeAlias = "tuple[Network, View]"  # what the slots that train together have in common

FINE, LOSS, GRADIENT = 0, 1, 2
FAULTS = {LOSS: Quantity.TRAINING_LOSS, GRADIENT: Quantity.GRADIENT}


class BatchedEngine:
    """Trains slots of one network and view together, whatever their other hyperparameters.

    It works on every device that torch knows, but hasn't run on a GPU yet. Nothing within an
    epoch waits for the device: whether a slot diverged is read once, at the end. `train_step`
    reads nothing back, so a CUDA graph can hold it.

    Parameters
    ----------
    spec
        The study.
    dataset
        Its data; their device and dtype are the engine's.
    """

    def __init__(self, spec: Specification, dataset: Dataset) -> None:
        self._spec = spec
        self._dataset = dataset
        self._first_weights = FirstWeights(dataset)
        # Weak: nothing here keeps a view that no trial reads any more.
        self._on_host = WeakKeyDictionary[Dataset, Split]()
        # The slots that trained together last, stacked; their states are parts of the stack.
        self._stacks: dict[_Group, tuple[list[State], State]] = {}

    def start(self, network: Network, hyperparameters: Hyperparameters, seed: int) -> State:
        """First weights and moments of zero."""
        parameters = self._first_weights.draw(network, hyperparameters, seed)
        return State.of(self._send(network.flatten(parameters)))

    def train_epoch(self, slots: Sequence[Slot]) -> list[EpochOutput]:
        """Trains each slot's next epoch and predicts the validation rows."""
        groups: dict[_Group, list[Slot]] = {}
        for slot in slots:
            groups.setdefault((slot.network, slot.dataset.view), []).append(slot)
        self._stacks = {key: self._stack(key, group) for key, group in groups.items()}
        trained: dict[Slot, EpochOutput] = {}
        for key, group in groups.items():
            _, state = self._stacks[key]
            trained |= zip(group, self._train(group, state), strict=True)
        return [trained[slot] for slot in slots]

    def weights(self, slot: Slot) -> dict[str, Tensor]:
        """A copy of a slot's weights, by their names in ``reference.GRU``."""
        parameters = slot.network.unflatten(slot.state.weights)
        return {name: parameter.clone() for name, parameter in parameters.items()}

    def predict(self, slot: Slot, weights: dict[str, Tensor], split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) of a split with these weights, without dropout."""
        flat = self._send(slot.network.flatten(weights))  # a checkpoint's weights are on the CPU
        return predict([slot], flat.unsqueeze(0), split)[0]

    def snapshot(self, slot: Slot) -> dict[str, Tensor]:
        """Copies on the CPU of weights, moments and the number of updates."""
        state: State = slot.state
        # Stacked, so that the host waits for a single transfer.
        copies = torch.stack([state.weights, state.first, state.second]).cpu()
        learned = (slot.network.unflatten(flat) for flat in copies)
        return name_tensors(*learned, updates=int(state.updates))

    def restore(self, network: Network, tensors: dict[str, Tensor]) -> State:
        """A slot's state from a snapshot, on the dataset's device and in its dtype."""
        weights, first, second = (
            self._send(network.flatten(part_of(tensors, part))) for part in LEARNED
        )
        return State(weights, first, second, tensors[UPDATES].to(weights.device, torch.float64))

    def _send(self, flat: Tensor) -> Tensor:
        """Moves parameters to the dataset's device and dtype."""
        return flat.to(self._dataset.train.device, self._dataset.dtype)

    def _stack(self, key: _Group, group: Sequence[Slot]) -> tuple[list[State], State]:
        """A group's states and their stack, which is made only if the group has changed."""
        states = [slot.state for slot in group]
        # States are compared by identity (eq=False).
        if key in self._stacks and self._stacks[key][0] == states:
            return self._stacks[key]
        return states, State.stack(states)

    def _train(self, group: Sequence[Slot], state: State) -> list[EpochOutput]:
        network, data, weights = group[0].network, group[0].dataset, state.weights
        split, class_weights = data.train, data.class_weights
        if data not in self._on_host:
            self._on_host[data] = split.to(torch.device("cpu"), data.dtype)
        recipes = Recipes.of(network, group, self._spec.training.epochs, weights)
        sums = EpochSums.of(weights)
        for batch in micro_batches(group, self._on_host[data], split.carried):
            sent = to_device(batch, weights)
            train_step(network, state, recipes, sums, split, sent, class_weights)
        outputs = predict(group, weights, data.validation)
        faults, totals, clipped = sums.fault.tolist(), sums.total.tolist(), sums.clipped.tolist()
        trained = []
        for slot, fault, total, cut, predicted in zip(
            group, faults, totals, clipped, outputs, strict=True
        ):
            updates = math.ceil(len(split) / slot.hyperparameters.batch_size)
            trained.append(
                EpochOutput(math.nan, FAULTS[fault])
                if fault
                else EpochOutput(total / len(split), None, predicted, clipped=cut / updates)
            )
        return trained


@dataclass(frozen=True)
class EpochSums:
    """Sums of K slots over an epoch."""

    gradient: Tensor  # (K, Q) of the batch so far, without penalties
    loss: Tensor  # (K,) of the batch so far, without penalties
    total: Tensor  # (K,) float64, losses of the rows of all batches
    fault: Tensor  # (K,) int64: what stopped being finite first, or FINE
    clipped: Tensor  # (K,) int64, updates whose gradient was clipped

    @classmethod
    def of(cls, weights: Tensor) -> EpochSums:
        """Zeros for the start of an epoch, on the device of the weights (K, Q)."""
        K = len(weights)
        return cls(
            gradient=torch.zeros_like(weights),
            loss=weights.new_zeros(K),
            total=weights.new_zeros(K, dtype=torch.float64),
            fault=weights.new_zeros(K, dtype=torch.int64),
            clipped=weights.new_zeros(K, dtype=torch.int64),
        )


def train_step(
    network: Network,
    state: State,
    recipes: Recipes,
    sums: EpochSums,
    split: Split,
    batch: MicroBatch,
    class_weights: Tensor | None = None,
) -> None:
    """Adds the gradients of one micro-batch and updates the slots whose batch is complete."""
    T = len(batch.active)
    weights = state.weights.detach().requires_grad_()
    values = steps_of(split, batch.rows, T) if batch.values is None else batch.values
    outputs = forward(
        network, weights, values, batch.lengths, batch.active, batch.masks
    )  # (K, B, O)
    targets = split.targets[batch.rows]
    losses = losses_of_rows(outputs, targets, class_weights, recipes.label_smoothing)
    loss = losses.masked_fill(batch.lengths == 0, 0).sum(1) / batch.batch_rows  # (K,)
    # Summed over slots: with a mean, every slot's gradient would depend on the number of slots.
    (gradient,) = torch.autograd.grad(loss.sum(), weights)
    sums.loss.add_(loss.detach())
    sums.gradient.add_(gradient)
    if not batch.any_ends:
        return
    gradient = add_penalty(sums.gradient, state.weights, recipes)
    norm = torch.linalg.vector_norm(gradient, dim=1)  # (K,)
    # The first fault of an epoch stays. If both aren't finite in a step, it is the loss's.
    fine = batch.ends & (sums.fault == FINE)
    sums.fault.masked_fill_(fine & ~norm.isfinite(), GRADIENT)
    sums.fault.masked_fill_(fine & ~sums.loss.isfinite(), LOSS)
    moving = batch.ends & (sums.fault == FINE)
    sums.clipped.add_(moving & (norm > recipes.clip_norm.squeeze(1)))
    update(state, clip(gradient, norm, recipes), recipes, moving)
    sums.total.add_((sums.loss * batch.batch_rows).masked_fill(~batch.ends, 0))
    sums.loss.masked_fill_(batch.ends, 0)
    sums.gradient.masked_fill_(batch.ends.unsqueeze(1), 0)


def losses_of_rows(
    outputs: Tensor,
    targets: Tensor,
    class_weights: Tensor | None,
    label_smoothing: Tensor | None = None,
) -> Tensor:
    """The losses of rows (K, B), whose mean is ``losses.loss``, from outputs (K, B, O).

    The smoothing (K, 1) is each slot's own, so torch's, which is one number, can't be used.
    """
    if targets.is_floating_point():
        errors = (outputs - targets).masked_fill(~targets.isfinite(), 0)
        return errors.square().mean(-1)
    losses = F.cross_entropy(
        outputs.flatten(0, 1), targets.flatten(), class_weights, reduction="none"
    )
    losses = losses.view_as(targets)
    if label_smoothing is None:
        return losses
    all_classes = -F.log_softmax(outputs, dim=-1)
    if class_weights is not None:
        all_classes = all_classes * class_weights
    return losses.lerp(all_classes.mean(-1), label_smoothing)


def predict(slots: Sequence[Slot], flat: Tensor, split: Split) -> Tensor:
    """Logits or numbers (K, N, O) of a split for slots of one network, parameters (K, Q)."""
    K, network = len(slots), slots[0].network
    # Rows of similar length are predicted together, for little padding, and `forward` needs
    # falling lengths. They are still falling after each slot's cut to its max_tokens.
    on_host = split.lengths.cpu()
    order = on_host.argsort(descending=True, stable=True)
    cuts = [slot.hyperparameters.max_tokens or split.longest for slot in slots]
    lengths = on_host.minimum(torch.tensor(cuts).unsqueeze(1))  # (K, N)
    outputs = flat.new_empty(K, len(split), network.outputs)
    with torch.no_grad():
        for index in torch.split(order, max(1, EVALUATION_ROWS // K)):
            ends = lengths[:, index]
            active, rows = active_rows(ends), index.to(flat.device)
            values = steps_of(split, rows, len(active))
            values = values.expand(K, *values.shape)
            outputs[:, rows] = forward(network, flat, values, ends.to(flat.device), active)
    return outputs


def steps_of(split: Split, rows: Tensor, count: int) -> Tensor:
    """The first `count` steps (…, T, C), or (…, T), of rows (…); arbitrary after a row's end."""
    places = split.starts[rows].unsqueeze(-1) + torch.arange(count, device=rows.device)
    places = places.clamp(max=len(split.steps) - 1).to(split.steps.device)
    return split.steps[places].to(rows.device)


def to_device(batch: MicroBatch, like: Tensor) -> MicroBatch:
    """A micro-batch on the device of `like`, its masks in that dtype."""

    def send(tensor: Tensor) -> Tensor:
        # A copy from pinned memory runs during the step before; the host would wait for others.
        pinned = tensor.pin_memory() if like.is_cuda else tensor
        return pinned.to(like.device, non_blocking=True)

    return MicroBatch(
        rows=send(batch.rows),
        values=None if batch.values is None else send(batch.values),
        lengths=send(batch.lengths),
        batch_rows=send(batch.batch_rows),
        ends=send(batch.ends),
        masks=None if batch.masks is None else send(batch.masks).to(like.dtype),
        any_ends=batch.any_ends,
        active=batch.active,
    )
