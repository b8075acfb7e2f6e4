"""Studies made by hand for the report's tests, and a page read as a browser would read it."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from html.parser import HTMLParser
from statistics import fmean
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from gru_optuna import study_file
from gru_optuna.study.confirmation import Candidate, Decision, TestValue

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "decay": ["constant", "step"],
    "decay_drop": {"low": 0.1, "high": 0.9},
    "decay_every": {"low": 2, "high": 10},
    "dropout": {"low": 0.0, "high": 0.5},
    "optimizer": "adam",
    "clip_norm": "off",
    "initializer": "orthogonal",
    "l1": 0.0,
    "l2": 0.0,
    "batch_size": 32,
}
NOON = datetime(2026, 1, 1, 12)

RATE = FloatDistribution(1e-4, 1e-1, log=True)
DECAY = CategoricalDistribution(["constant", "step"])
DROP = FloatDistribution(0.1, 0.9)
EVERY = IntDistribution(2, 10)
DROPOUT = FloatDistribution(0.0, 0.5)


def specification(**changes: Any) -> study_file.Specification:
    content = {
        "name": "made-up",
        "data": {"train": "train.ts", "test": "test.ts"},
        "model": {"hidden_size": 8, "layers": 1, "bidirectional": False, "pooling": "last"},
        "search": SPACE,
        "training": {"epochs": 3},
        "budget": {"trials": 8},
    }
    return study_file.parse(content | changes, source="test")


def trial(
    state: TrialState,
    curve: list[float],
    rate: float,
    step: tuple[float, int] | None = None,
    dropout: float = 0.1,
    outcome: str = "trained all epochs",
    at: tuple[float, float] | None = None,
    **attributes_too: Any,
) -> optuna.trial.FrozenTrial:
    """A trial: its curve, its parameters, and when it ran (seconds after `NOON`)."""
    params = {"learning_rate": rate, "decay": "step" if step else "constant", "dropout": dropout}
    distributions = {"learning_rate": RATE, "decay": DECAY, "dropout": DROPOUT}
    if step:
        params |= {"decay_drop": step[0], "decay_every": step[1]}
        distributions |= {"decay_drop": DROP, "decay_every": EVERY}
    attributes: dict[str, Any] = {"outcome": outcome, "epochs": len(curve), "seconds": 1.5}
    if curve:
        attributes["best_epoch"] = curve.index(max(curve)) + 1
        attributes["best_validation_loss"] = 1 - max(curve)
    made = create_trial(
        state=state,
        value=max(curve) if state == TrialState.COMPLETE else None,
        params=params,
        distributions=distributions,
        user_attrs=attributes | attributes_too,
        intermediate_values=dict(enumerate(curve, start=1)),
    )
    begin, end = at or (0, 1)
    made.datetime_start = NOON + timedelta(seconds=begin)
    if state.is_finished():
        made.datetime_complete = NOON + timedelta(seconds=end)
    return made


def study_of(trials: list[optuna.trial.FrozenTrial], name: str = "made-up") -> optuna.Study:
    study = optuna.create_study(study_name=name, direction="maximize")
    study.add_trials(trials)
    study.set_user_attr("worked_seconds", 90.0)
    return study


def candidate(
    number: int, search_value: float, values: list[float | None], interval: list[float] | None
) -> Candidate:
    """A trial that was trained again on fresh seeds."""
    good = [value for value in values if value is not None]
    epochs = [3] * len(values)
    mean = fmean(good) if good else None
    return Candidate(number, search_value, values, epochs, epochs, mean, interval, 100)


def confirmation(candidates: list[Candidate], winner: int, test: TestValue | None) -> Decision:
    """The decision about them."""
    seeds = len(candidates[0].values)
    uses = int(test is not None)
    return Decision(
        candidates, winner, test, seeds, len(candidates), seeds, [winner], uses, "2026-01-01"
    )


def small_study() -> optuna.Study:
    """Five complete trials, two pruned, one failed; the best one is number 3."""
    done, cut = TrialState.COMPLETE, TrialState.PRUNED
    return study_of(
        [
            trial(done, [0.2, 0.4, 0.5], 1e-4),
            trial(cut, [0.1], 1e-3, outcome="pruned after epoch 1"),
            trial(done, [0.3, 0.6, 0.7], 1e-2, step=(0.5, 4), dropout=0.2),
            trial(done, [0.5, 0.9, 0.8], 1e-1, dropout=0.5),
            trial(TrialState.FAIL, [], 1e-1, outcome="diverged in epoch 1: loss is not finite"),
            trial(cut, [0.2, 0.3], 3e-4, step=(0.1, 2), outcome="pruned after epoch 2"),
            trial(done, [0.6, 0.7, 0.8], 3e-2, step=(0.9, 10), dropout=0.3),
            trial(done, [0.1, 0.2, 0.3], 2e-4, dropout=0.4),
        ]
    )


def many_trials(count: int) -> optuna.Study:
    """A study of so many trials of 40 epochs, in eight slots of two workers."""
    draw = random.Random(0)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    trials = []
    for n in range(count):
        (state,) = draw.choices(states, [4, 5, 1])
        epochs = {TrialState.COMPLETE: 40, TrialState.FAIL: 0}.get(state, draw.randint(1, 20))
        top = draw.random()
        trials.append(
            trial(
                state,
                [round(top * (1 - 0.7**epoch), 6) for epoch in range(1, epochs + 1)],
                10 ** draw.uniform(-4, -1),
                (draw.uniform(0.1, 0.9), draw.randint(2, 10)) if n % 2 else None,
                draw.random() / 2,
                outcome="" if epochs else "diverged in epoch 1: the gradient is not finite",
                at=(n // 8 * 2, n // 8 * 2 + 1.5),
                worker=f"host {n % 2}",
                clipped=[0.5] * epochs,
                train_loss=[1.0] * epochs,
                validation_loss=[1.5] * epochs,
            )
        )
    return study_of(trials)


class Page(HTMLParser):
    """What of a page is text, and which elements and attributes it has."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.embedded: dict[str, str] = {}
        self._script: str | None = None
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = str(dict(attrs).get("id")) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.embedded[self._script] = self.embedded.get(self._script, "") + data

    def having(self, name: str) -> list[str]:
        return [
            value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name
        ]
