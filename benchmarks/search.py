"""Replays searches on recorded learning curves: ``benchmarks/search.py --curves FILE.npz ...``.

Samplers, pruners and decisions are the product's own; only the epochs are looked up. Time is ticks:
in each, every slot trains one epoch, as in a worker's pool. What the sampler proposes is moved to
the nearest recorded configuration that was not tried yet; TPE draws its candidates from these
configurations, with the probabilities of its own density.

A file holds ``x`` (N, D), numbers in the unit interval, not a number where a parameter doesn't
apply; ``kinds`` (D,), 0 for a number and else how many choices there are, which ``x`` counts from
0; ``names`` (D,); and ``curve`` (N, E + 1), the validation loss after each epoch, of the untrained
network first; and, where it is known, ``usual`` (M, D), configurations that are usually good.
TaskSet's files, with ``config``, ``low``, ``high`` and ``valid``, are read as well.

The score is the normalised regret of the lowest loss found within the epochs of 5, 10, … full
trainings: 0 is the best recorded loss, 1 the median.

    python benchmarks/search.py --record STUDY.toml --trials N --out FILE.npz

records such a file: random configurations of a study, each trained for all its epochs.

    python benchmarks/search.py --study STUDY.toml --epochs N --pruners asha thaw --slots 8

searches for real, with as many epochs for each pruner as a machine needs the same time for, however
busy it is, and prints the best validation value after a quarter, a half and all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from gru_optuna import seeds, study_file
from gru_optuna.search import space
from gru_optuna.search.prior import Prior
from gru_optuna.search.pruners import make_pruner
from gru_optuna.search.samplers import make_sampler
from gru_optuna.search.thaw import Thaw
from gru_optuna.storage.paused_trials import PAUSED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


# Adam as everybody begins with it: TaskSet's names, no penalty or decay that matters. Written down
# before any replay.
PRACTICE = {
    "learning_rate": 3e-3,
    "one_minus_beta1": 0.1,
    "one_minus_beta2": 1e-3,
    "epsilon": 1e-8,
    "l1": 1e-6,
    "l2": 3e-6,
    "linear_decay": 1e-6,
    "exponential_decay": 1e-5,
}


@dataclass
class Task:
    """Recorded curves of one task."""

    name: str
    names: list[str]
    kinds: NDArray[np.int64]
    x: NDArray[np.float64]  # (N, D)
    curve: NDArray[np.float64]  # (N, E + 1), infinite where training diverged
    usual: list[dict[str, float]]  # configurations that are usually good, as x has them

    @classmethod
    def read(cls, path: Path) -> Task:
        """The task of a file."""
        with np.load(path, allow_pickle=False) as content:
            names = [str(name) for name in content["names"]]
            if "config" in content:
                low, high = np.log(content["low"]), np.log(content["high"])
                x = ((np.log(content["config"].astype(float)) - low) / (high - low)).clip(0, 1)
                kinds, curve = np.zeros(len(names), int), content["valid"]
                practice = np.log([PRACTICE.get(name, np.nan) for name in names])
                known = ((practice - low) / (high - low))[None]
            else:
                x, kinds, curve = content["x"], content["kinds"], content["curve"]
                known = content["usual"] if "usual" in content else np.empty((0, len(names)))
        curve = curve.astype(float)
        curve = np.where(np.isfinite(curve), curve, np.inf)
        usual = [
            {name: float(v) for name, v in zip(names, row, strict=True) if not np.isnan(v)}
            for row in known
        ]
        return cls(path.stem, names, kinds.astype(int), x.astype(float), curve, usual)

    def mirrored(self) -> list[dict[str, float]]:
        """A prior that is wrong: the usual configurations on the other side of each range."""
        sides = np.where(self.kinds > 0, self.kinds - 1, 1.0)
        side = dict(zip(self.names, sides, strict=True))
        return [{n: float(side[n] - v) for n, v in table.items()} for table in self.usual]

    @property
    def epochs(self) -> int:
        """The number of epochs in a full training."""
        return self.curve.shape[1] - 1

    def regrets(self) -> NDArray[np.float64]:
        """(N, E): the regret of the lowest loss of a curve so far."""
        lowest = np.minimum.accumulate(self.curve[:, 1:], axis=1)
        best, median = lowest[:, -1].min(), np.median(lowest[:, -1])
        return ((lowest - best) / (median - best)).clip(0, 1)

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space as Optuna has it."""
        return {
            name: CategoricalDistribution(range(kind)) if kind else FloatDistribution(0.0, 1.0)
            for name, kind in zip(self.names, self.kinds, strict=True)
        }

    def nearest(self, values: dict[str, Any], left: NDArray[np.bool_]) -> int:
        """The untried configuration that is nearest to these values."""
        free = np.flatnonzero(left)
        distance = np.zeros(len(free))
        for column, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            if name in values:
                gap = self.x[free, column] - values[name]
                gap = np.where(np.isnan(gap), 0.5, gap)
                distance += (gap != 0) if kind else gap**2
        return int(free[distance.argmin()])


class Recorded(optuna.samplers.BaseSampler):
    """The product's sampler, whose proposals are moved to recorded configurations."""

    def __init__(
        self, task: Task, spec: study_file.Specification, usual: list[dict[str, float]]
    ) -> None:
        self._task, self._inner, self._tries = task, make_sampler(spec), usual
        if usual:  # as in a study with [[try]]
            self._inner.prior = Prior(usual, spec.seed)
        self.left = np.ones(len(task.x), bool)
        make = self._inner._make
        self._inner._make = lambda seed: self._over_pool(make(seed))

    def _over_pool(self, sampler: Any) -> Any:
        recorded = self

        class OverPool(sampler._parzen_estimator_cls):  # type: ignore[misc, name-defined]
            def sample(self, rng: np.random.RandomState, size: int) -> dict[str, Any]:
                names = list(self._search_space)
                pool = recorded.pool(names)
                if not len(pool):
                    return super().sample(rng, size)
                density = self.log_pdf(dict(zip(names, pool.T, strict=True)))
                weights = np.exp(density - density.max())
                chosen = rng.choice(len(pool), size, p=weights / weights.sum())
                return dict(zip(names, pool[chosen].T, strict=True))

        sampler._parzen_estimator_cls = OverPool
        return sampler

    def pool(self, names: list[str]) -> NDArray[np.float64]:
        """The values of these parameters in the untried configurations that have all of them."""
        columns = [self._task.names.index(name) for name in names]
        found = self._task.x[self.left][:, columns]
        return found[~np.isnan(found).any(axis=1)]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._task.distributions()

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._inner.before_trial(study, trial)
        jointly = self._inner.infer_relative_search_space(study, trial)
        values = self._inner.sample_relative(study, trial, jointly)
        if trial.number < len(self._tries):
            values = values | self._tries[trial.number]
        for name, distribution in search_space.items():
            if name not in values:
                values[name] = self._inner.sample_independent(study, trial, name, distribution)
        index = self._task.nearest(values, self.left)
        self.left[index] = False
        trial.set_user_attr("index", index)
        study._storage.set_trial_user_attr(trial._trial_id, "index", index)
        own = dict(zip(self._task.names, self._task.x[index], strict=True))
        return {
            name: int(value) if isinstance(search_space[name], CategoricalDistribution) else value
            for name, value in own.items()
            if not np.isnan(value)
        }

    def sample_independent(self, *arguments: Any) -> Any:
        raise AssertionError("a configuration is drawn as a whole")


class Replay:
    """One search with slots that train together.

    Parameters
    ----------
    task
        The recorded curves.
    method
        A pruner, as a study file names it. thaw+prior also knows what is usually good, as a study
        with [[try]] does, and thaw+mirrored believes the contrary.
    slots
        How many trials train together.
    seed
        The study's.
    first_rung
        Of thaw.
    """

    def __init__(self, task: Task, method: str, slots: int, seed: int, first_rung: int = 1) -> None:
        self.task, self.slots = task, slots
        pruner, _, belief = method.partition("+")
        rung = {"first_rung": first_rung} if pruner == "thaw" else {}
        self.spec = study_file.parse(
            {
                "name": "replay",
                "metric": "log_loss",
                "seed": seed,
                "data": {"train": "x.ts"},
                "training": {"epochs": task.epochs},
                "pruner": {"name": pruner, **rung},
            },
            "replay",
        )
        self.thaw = Thaw.of(self.spec)
        usual = {"prior": task.usual, "mirrored": task.mirrored()}.get(belief, [])
        self.sampler = Recorded(task, self.spec, usual)
        self.study = optuna.create_study(sampler=self.sampler, pruner=make_pruner(self.spec))
        self.running: dict[int, Trial] = {}  # by number, with the index of its curve
        self.at_rung: list[int] = []  # numbers of those that have just reached one

    def regret(self, marks: Sequence[int]) -> tuple[list[float], float]:
        """The regret after each number of full trainings, and the seconds per decision."""
        regrets, budget = self.task.regrets(), max(marks) * self.task.epochs
        best, course, seconds, asked = 1.0, [], 0.0, 0
        while len(course) < budget:
            while len(self.running) < self.slots:
                began = time.process_time()
                found = self._fill()
                seconds, asked = seconds + time.process_time() - began, asked + 1
                if not found:
                    break
            if not self.running:
                break
            for number, trial in list(self.running.items()):
                index = trial.user_attrs["index"]
                epoch = len(self._trials()[number].intermediate_values) + 1
                loss = float(self.task.curve[index, epoch])
                if np.isfinite(loss):
                    best = min(best, float(regrets[index, epoch - 1]))
                course.append(best)
                self._report(trial, epoch, loss)
            self._pause()
        course += [best] * (budget - len(course))
        return [course[mark * self.task.epochs - 1] for mark in marks], seconds / max(1, asked)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _fill(self) -> bool:
        """Continues a paused trial, or begins a new one."""
        if self.thaw is not None:
            starts_more = bool(self.sampler.left.any())
            for number in self.thaw.to_continue(self._trials(), starts_more=starts_more):
                trial = Trial(self.study, self._trials()[number]._trial_id)
                trial.set_user_attr(PAUSED, 0)
                self.running[number] = trial
                return True
        if not self.sampler.left.any():
            return False
        trial = self.study.ask()
        for name, distribution in self.task.distributions().items():
            if name in (trial.relative_params or {}):
                trial._suggest(name, distribution)
        self.running[trial.number] = trial
        return True

    def _report(self, trial: Trial, epoch: int, loss: float) -> None:
        if not np.isfinite(loss):
            self._end(trial, TrialState.FAIL)
            return
        trial.report(loss, epoch)
        if epoch == self.task.epochs:
            reports = self._trials()[trial.number].intermediate_values
            self._end(trial, TrialState.COMPLETE, min(reports.values()))
        elif self.thaw is not None:
            if epoch in self.thaw.rungs:
                self.at_rung.append(trial.number)
        elif trial.should_prune():
            self._end(trial, TrialState.PRUNED)

    def _pause(self) -> None:
        """Pauses trials that have reached a rung, once all of this tick have reported."""
        for number in self.at_rung:
            trials = self._trials()
            if self.thaw is not None and not self.thaw.continues(number, trials):
                epochs = len(trials[number].intermediate_values)
                self.running.pop(number).set_user_attr(PAUSED, epochs)
        self.at_rung = []

    def _end(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        self.study.tell(trial, value, state=state)
        del self.running[trial.number]


def replay_all(
    paths: list[Path], methods: list[str], slots: int, runs: int, marks: Sequence[int]
) -> list[dict[str, Any]]:
    """The mean regret of each pruner on each task, with its standard error."""
    rows = []
    for path in paths:
        task = Task.read(path)
        for method in methods:
            if "+" in method and not task.usual:
                print(f"{task.name:32} {method}: the file doesn't say what is usually good")
                continue
            found = [Replay(task, method, slots, seed).regret(marks) for seed in range(runs)]
            regrets = np.array([regret for regret, _ in found])
            error = regrets.std(axis=0, ddof=1) / runs**0.5 if runs > 1 else np.zeros(len(marks))
            milliseconds = 1000 * statistics.fmean(seconds for _, seconds in found)
            rows.append(
                {
                    "task": task.name, "pruner": method, "slots": slots, "runs": runs,
                    "trainings": marks, "regret": regrets.mean(axis=0).tolist(),
                    "error": error.tolist(), "ask_ms": milliseconds,
                }
            )  # fmt: skip
            shown = "  ".join(
                f"{m}: {r:.3f} ± {e:.3f}"
                for m, r, e in zip(marks, regrets.mean(axis=0), error, strict=True)
            )
            print(
                f"{task.name:32} {method:13} {slots} slots  {shown}  {milliseconds:.1f} ms",
                flush=True,
            )
    return rows


def record(path: Path, trials: int) -> dict[str, NDArray[Any]]:
    """The curves of random configurations of a study, each trained for all its epochs."""
    import torch

    from gru_optuna.data.load import load_folds
    from gru_optuna.training.pool_factory import make_pool

    torch.set_num_threads(1)
    spec = study_file.load(path, ["training.patience=off", "pruner.name=none"])
    pool, size = make_pool(spec, load_folds(spec, path.parent), 1, None)
    distributions = space.searched(spec)
    x = np.full((trials, len(distributions)), np.nan)
    curve = np.full((trials, spec.training.epochs + 1), np.inf)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(spec.seed))
    waiting, running = iter(range(trials)), {}
    while True:
        while len(running) < size.slots and (number := next(waiting, None)) is not None:
            trial = study.ask()
            hyperparameters = space.suggest(trial, spec)
            x[number] = in_unit_numbers(trial.params, distributions)
            slot = pool.admit(hyperparameters, seeds.trial_seed(spec.seed, number))
            running[slot] = number
        if not running:
            break
        for slot, result in pool.train_epoch():
            number = running[slot]
            failed = isinstance(result, Exception)
            if not failed:
                curve[number, slot.progress.epoch] = result.validation_loss
            if failed or slot.progress.ending:
                pool.release(slot)
                del running[slot]
    return {
        "x": x, "curve": curve, "names": np.array(list(distributions)),
        "kinds": np.array([len(getattr(d, "choices", ())) for d in distributions.values()]),
        "usual": np.array(
            [in_unit_numbers(table, distributions) for table in spec.tries]
        ).reshape(-1, len(distributions)),
    }  # fmt: skip


def in_unit_numbers(
    values: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> list[float]:
    """Values as a file has them: between 0 and 1, or the index of a choice."""
    row = []
    for name, distribution in distributions.items():
        if name not in values:
            row.append(math.nan)
        elif isinstance(distribution, CategoricalDistribution):
            known = values[name] in distribution.choices
            row.append(float(distribution.choices.index(values[name])) if known else math.nan)
        else:
            low, high, value = distribution.low, distribution.high, values[name]
            if distribution.log:
                low, high, value = np.log([low, high, value])
            row.append(float(np.clip((value - low) / (high - low), 0, 1)))
    return row


def search(
    path: Path, overrides: list[str], slots: int | None, marks: Sequence[int]
) -> dict[str, Any]:
    """The best validation value once all trials together have trained a given number of epochs."""
    from gru_optuna.data.load import load_folds
    from gru_optuna.storage.database.open import open_storage
    from gru_optuna.study.study import create_or_resume, load_study
    from gru_optuna.study.warm_start import begin_from_file
    from gru_optuna.training.pool_factory import make_pool
    from gru_optuna.worker.events import EpochTrained
    from gru_optuna.worker.run import WorkerSettings, work

    spec = study_file.load(path, overrides)
    values: list[float] = []
    seconds: list[float] = []

    def keep(event: object) -> None:
        if isinstance(event, EpochTrained):
            values.append(spec.as_loss(event.value))
            seconds.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        url, datasets = f"sqlite:///{folder}/study.db", load_folds(spec, path.parent)
        rows = len(datasets[0].train)
        storage = open_storage(url, create=True)
        study = create_or_resume(storage, spec, datasets[0].fingerprint, rows=rows)
        begin_from_file(study, spec)
        _, spec = load_study(storage, spec.name)
        pool, size = make_pool(spec, datasets, 1, slots)
        began = time.process_time()
        work(study, url, spec, pool, size, WorkerSettings(slots=slots), Event(), keep)
        trials = study.get_trials(deepcopy=False)
    best = [min(values[:mark]) for mark in marks]
    return {
        "best": [abs(value) for value in best],
        "processor_seconds": [round(seconds[min(m, len(seconds)) - 1] - began, 1) for m in marks],
        "epochs": len(values), "trials": len(trials), "slots": size.slots,
        "complete": sum(trial.state == TrialState.COMPLETE for trial in trials),
        "first_rung": spec.pruner.first_rung or spec.pruner.min_resource,
    }  # fmt: skip


def main() -> None:
    """Replays, records or searches."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--curves", type=Path, nargs="+", default=[])
    parser.add_argument("--pruners", nargs="+", default=["asha", "thaw", "thaw+prior"])
    parser.add_argument("--study", type=Path)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--trainings", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    if given.record:
        np.savez_compressed(given.out, **record(given.record, given.trials))
        return
    if given.study:
        for seed in range(given.runs):
            for pruner in given.pruners:
                overrides = [f"seed={seed}", f"pruner.name={pruner}", "budget.trials=100000"]
                overrides += [f"budget.epochs={given.epochs}", *given.set]
                marks = [given.epochs // 4, given.epochs // 2, given.epochs]
                found = search(given.study, overrides, given.slots, marks)
                print(given.study.stem, seed, pruner, json.dumps(found), flush=True)
        return
    rows = replay_all(given.curves, given.pruners, given.slots, given.runs, given.trainings)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
