"""One trial with ``torch.nn.GRU`` and autograd: the specification of what a trial computes.

The engines are tested against it, so it stays plain. Letters: N rows of a split, B rows of a
batch, T steps, C channels, H hidden size, D directions, L layers, O outputs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from gru_optuna import seeds
from gru_optuna.data.metrics import measure
from gru_optuna.errors import Diverged, Quantity
from gru_optuna.training.augmentation import augment
from gru_optuna.training.embeddings import FirstWeights
from gru_optuna.training.losses import loss
from gru_optuna.training.network import Network, is_kernel
from gru_optuna.training.optimizers import make_optimizer, set_learning_rate
from gru_optuna.training.regularizers import dropout_masks, penalty
from gru_optuna.training.schedules import learning_rate
from gru_optuna.training.slot import EpochResult, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from gru_optuna.data.dataset import Batch, Dataset, Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

EVALUATION_BATCH = 512


class GRU(nn.Module):
    """Embedding (of tokens), stacked reset-after GRU (Cho et al. 2014), pooling, linear head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.pooling = network.pooling
        self.embedding = (
            nn.Embedding(network.vocabulary, network.inputs) if network.vocabulary else None
        )
        # One module for each layer: nn.GRU's own dropout draws a new mask at every step.
        self.layers = nn.ModuleList(
            nn.GRU(
                network.inputs if layer == 0 else network.features,
                network.hidden_size,
                batch_first=True,
                bidirectional=network.bidirectional,
            )
            for layer in range(network.layers)
        )
        self.head = nn.Linear(network.pooled, network.outputs)

    def forward(self, values: Tensor, lengths: Tensor, masks: Tensor | None = None) -> Tensor:
        """Logits, or predicted numbers, of a batch.

        Parameters
        ----------
        values
            (B, T, C), or tokens (B, T). Steps after a row's end are never read.
        lengths
            (B,)
        masks
            (L, B, D * H) of ``dropout_masks``, or None.

        Returns
        -------
        Tensor
            (B, O)
        """
        # Packed sequences are the plainest way to keep padding out, in both directions.
        on_host = lengths.cpu()
        output = values if self.embedding is None else self.embedding(values)
        last = output
        for layer, gru in enumerate(self.layers):
            packed = pack_padded_sequence(output, on_host, batch_first=True, enforce_sorted=False)
            packed_output, states = gru(packed)  # states: (D, B, H)
            output, _ = pad_packed_sequence(packed_output, batch_first=True)  # (B, T, D * H)
            last = torch.cat(list(states), dim=1)  # (B, D * H)
            if masks is not None:
                output, last = output * masks[layer].unsqueeze(1), last * masks[layer]
        logits: Tensor = self.head(self._pool(output, last, lengths))
        return logits

    def _pool(self, output: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        """Reduces the outputs (B, T, D * H), zero after a row's end, to one vector for each row."""
        if self.pooling == "last":
            return last
        mean = output.sum(1) / lengths.unsqueeze(1)
        if self.pooling == "mean":
            return mean
        ended = torch.arange(output.shape[1], device=output.device) >= lengths.unsqueeze(1)
        highest = output.masked_fill(ended.unsqueeze(2), -torch.inf).max(dim=1).values
        return highest if self.pooling == "max" else torch.cat([mean, highest], dim=1)


class Trainer:
    """Trains one trial, an epoch at a time.

    Parameters
    ----------
    spec
        The study.
    dataset
        Its data, on the device to train on.
    hyperparameters
        The trial's values.
    seed
        The trial's seed. First weights, order of rows, augmentation and dropout follow from it.
    """

    def __init__(
        self,
        spec: Specification,
        dataset: Dataset,
        hyperparameters: Hyperparameters,
        seed: int,
    ) -> None:
        self.spec = spec
        self.dataset = dataset = dataset.seen_by(hyperparameters)
        self.hyperparameters = hyperparameters
        self.seed = seed
        self.progress = Progress.of(spec)
        self.network = Network.of(
            hyperparameters, dataset.channels, dataset.outputs, dataset.vocabulary
        )
        self.model = GRU(self.network)
        self.model.load_state_dict(FirstWeights(dataset).draw(self.network, hyperparameters, seed))
        self.model.to(dataset.train.device, dataset.dtype)
        self.optimizer = make_optimizer(
            hyperparameters.optimizer, self.model.parameters(), hyperparameters.learning_rate
        )
        self.best_weights: dict[str, Tensor] = {}

    def train_epoch(self) -> EpochResult:
        """Trains one epoch and measures it on the validation rows.

        Raises
        ------
        Diverged
            If a loss or a gradient isn't finite. The weights can't be used any more.
        """
        h, epoch = self.hyperparameters, self.progress.epoch
        set_learning_rate(self.optimizer, learning_rate(h, epoch, epochs=self.spec.training.epochs))
        split = self.dataset.train.cut(h.max_tokens)
        order = torch.randperm(len(split), generator=seeds.generator(self.seed, "shuffle", epoch))
        augmenting = seeds.generator(self.seed, "augment", epoch)
        dropout = seeds.generator(self.seed, "dropout", epoch)
        total, clipped, updates = 0.0, 0, 0
        for rows in split.batches(h.batch_size, order):
            batch = augment(rows, h, self.network.vocabulary, augmenting)
            masks = dropout_masks(self.network, len(batch), h.dropout, dropout)
            loss_of_batch, norm = self._step(batch, masks)
            total += loss_of_batch * len(batch)
            clipped += norm > (h.clip_norm or math.inf)
            updates += 1
        validation = self.dataset.validation
        outputs = self.predict(validation)
        validation_loss = loss(outputs, validation.targets, self.dataset.class_weights).item()
        if not math.isfinite(validation_loss):
            raise Diverged(Quantity.VALIDATION_LOSS, epoch + 1)
        result = EpochResult(
            train_loss=total / len(split),
            validation_loss=validation_loss,
            value=measure(self.spec.metric, outputs, validation),
            clipped=clipped / updates,
        )
        if self.progress.record(result):
            self.best_weights = {
                name: weight.clone() for name, weight in self.model.state_dict().items()
            }
        return result

    def predict(self, split: Split) -> Tensor:
        """Logits or scaled numbers (N, O) of a whole split, in its order, without dropout."""
        batches = split.cut(self.hyperparameters.max_tokens).batches(EVALUATION_BATCH)
        with torch.inference_mode():
            return torch.cat([self.model(batch.values, batch.lengths) for batch in batches])

    def _step(self, batch: Batch, masks: Tensor | None) -> tuple[float, float]:
        """Makes one update; returns the batch's loss without penalties and the gradient's norm."""
        h, device, dtype = self.hyperparameters, batch.values.device, self.dataset.dtype
        masks = None if masks is None else masks.to(device, dtype)
        outputs = self.model(batch.values, batch.lengths, masks)
        plain = loss(outputs, batch.targets, self.dataset.class_weights, h.label_smoothing or 0.0)
        kernels = [w for name, w in self.model.named_parameters() if is_kernel(name)]
        self.optimizer.zero_grad()
        torch.autograd.backward(plain + penalty(kernels, h.l1, h.l2))
        # The joint norm of all gradients of the trial; an infinite limit clips nothing.
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), h.clip_norm or math.inf)
        value = plain.item()
        if not math.isfinite(value):
            raise Diverged(Quantity.TRAINING_LOSS, self.progress.epoch + 1)
        if not math.isfinite(norm.item()):
            raise Diverged(Quantity.GRADIENT, self.progress.epoch + 1)
        self.optimizer.step()
        return value, norm.item()
