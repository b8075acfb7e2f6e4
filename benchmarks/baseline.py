"""A plain Optuna script: ``torch.nn.GRU`` in its best form, one trial at a time.

Tensors are ready in memory, Adam is fused, batches are cut to their longest row, Optuna's SQLite
storage has its defaults, and each core has a process with one thread. Space, sampler, pruner,
epochs, patience and dropout are those of the study file, which must classify sequences.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import nn
from torch.nn import functional as F

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.search import space
from gru_optuna.search.pruners import make_pruner
from gru_optuna.training.schedules import learning_rate


class Net(nn.Module):
    """GRU, last state or mean over steps, dropout, linear head."""

    def __init__(self, inputs: int, hidden: int, outputs: int, pooling: str, dropout: float):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, outputs)
        self.pooling = pooling

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        # A single direction needs no packing: the steps after a row's end can't change its own.
        output, _ = self.gru(values)
        if self.pooling == "last":
            pooled = output[torch.arange(len(values)), lengths - 1]
        else:
            inside = torch.arange(values.shape[1]) < lengths[:, None]
            pooled = (output * inside[..., None]).sum(1) / lengths[:, None]
        return self.head(self.dropout(pooled))  # type: ignore[no-any-return]


def initialise(net: Net, name: str) -> None:
    """Initialises gate by gate, as the study's initializers do."""
    fill: dict[str, Any] = {
        "normal": lambda w: nn.init.normal_(w, std=0.05),
        "xavier_uniform": nn.init.xavier_uniform_,
        "xavier_normal": nn.init.xavier_normal_,
        "he_normal": nn.init.kaiming_normal_,
        "orthogonal": nn.init.orthogonal_,
    }
    for key, parameter in net.named_parameters():
        if "weight" in key:
            for gate in parameter.data.chunk(1 if key.startswith("head") else 3):
                fill[name](gate)
        else:
            nn.init.zeros_(parameter)


def main(study_path: str, url: str, trials: int, overrides: list[str]) -> None:
    """Optimizes until the study has `trials` trials, together with other processes."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = study_file.load(Path(study_path), overrides)
    if (spec.task, spec.kind) != ("classification", "sequences"):
        sys.exit(f"{study_path}: {spec.task} of {spec.kind}, and only classes of sequences here.")
    data = load_dataset(spec, Path(study_path).parent)
    train, validation, epochs = data.train, data.validation, spec.training.epochs
    held = validation.batch()
    patience = spec.training.patience if isinstance(spec.training.patience, int) else epochs

    def objective(trial: optuna.Trial) -> float:
        h = space.suggest(trial, spec)
        net = Net(data.channels, h.hidden_size, data.outputs, h.pooling, h.dropout)
        initialise(net, h.initializer)
        make = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}[h.optimizer]
        fused = {"fused": True} if h.optimizer == "adam" else {}
        optimizer = make(net.parameters(), lr=h.learning_rate, **fused)
        weights = [p for key, p in net.named_parameters() if "weight" in key]
        best, best_loss, best_epoch = -1.0, math.inf, 0
        for epoch in range(1, epochs + 1):
            optimizer.param_groups[0]["lr"] = learning_rate(h, epoch - 1, epochs)
            net.train()
            for batch in train.batches(h.batch_size, torch.randperm(len(train))):
                loss = F.cross_entropy(net(batch.values, batch.lengths), batch.targets)
                for weight in weights:
                    loss = loss + h.l1 * weight.abs().sum() + h.l2 * weight.square().sum()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), h.clip_norm or math.inf)
                optimizer.step()
            net.eval()
            with torch.inference_mode():
                logits = net(held.values, held.lengths)
            value = (logits.argmax(1) == validation.targets).float().mean().item()
            held_out = F.cross_entropy(logits, validation.targets).item()
            if (value, -held_out) > (best, -best_loss):
                best, best_loss, best_epoch = value, held_out, epoch
            trial.report(value, epoch)
            if epoch - best_epoch >= patience:
                break
            if epoch < epochs and trial.should_prune():
                raise optuna.TrialPruned
        return best

    sampler = optuna.samplers.TPESampler(multivariate=True, group=True)
    study = optuna.load_study(
        study_name=spec.name, storage=url, sampler=sampler, pruner=make_pruner(spec)
    )
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    stop = optuna.study.MaxTrialsCallback(trials, states=states)
    study.optimize(objective, n_trials=trials, callbacks=[stop])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
