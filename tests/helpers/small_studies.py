"""Small studies of any keys: a study file with every kind of value, and tiny data for each task.

`VALUES` names every key of the study file. A value is written as in the file; `LEFT_OUT` leaves
the key out. `study_content` turns any choice of values into a study that must work from beginning
to end, and `use_study` takes it there: tune, confirm, export, predict.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from gru_optuna.bundle.load import load_bundle
from gru_optuna.bundle.onnx import with_onnx
from gru_optuna.errors import BundleError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import load_study
from gru_optuna.study_file import Specification
from gru_optuna.study_file.tasks import METRICS, SIZE
from gru_optuna.tuning.confirm import Place, confirm_study
from gru_optuna.tuning.export import make_winner
from gru_optuna.tuning.tune import tune
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Rows = Literal["texts", "tables", "wide", "arrays", "series"]
"""How the rows come: texts in a table, steps of sequences in a table, whole sequences in a table,
sequences in ``.ts`` or ``.npz``, and series in a table."""

TASKS: tuple[tuple[Rows, str], ...] = (
    ("texts", "classification"),
    ("texts", "regression"),
    ("tables", "classification"),
    ("tables", "regression"),
    ("wide", "classification"),
    ("arrays", "classification"),
    ("arrays", "regression"),
    ("series", "forecasting"),
)

LEFT_OUT = object()
"""The key isn't in the file."""

_N = LEFT_OUT
_SHARE: tuple[Any, ...] = (_N, 0.3, [0.0, 0.2], {"low": 0.0, "high": 0.5})
_ANY: dict[str, tuple[Any, ...]] = {
    "seed": (_N, 0, 2**31 - 1),
    "baselines": (_N, {"the last model": 0.25, "zero": 0}),
    "try": (_N, [{"dropout": 0.1}, {"learning_rate": 0.01, "layers": 2}]),
    "constraints": (_N, ["network_parameters <= 2000"]),
    "fit_baselines": (False,),  # a process more for each study; they have tests of their own
    "model.hidden_size": (4, [2, 3], {"low": 1, "high": 5}, {"low": 2, "high": 6, "step": 2}),
    "model.layers": (_N, 2, [1, 2], {"low": 1, "high": 2}),
    "model.bidirectional": (_N, True, [False, True], [True]),
    "model.pooling": (_N, "mean", "max", ["last", "mean_max"]),
    "search.learning_rate": (_N, 0.01, [0.01, 0.02], {"low": 0.01, "high": 0.1, "log": True}),
    "search.optimizer": (_N, "adam", "rmsprop", ["rmsprop", "adam"]),
    "search.decay": (_N, "constant", "time", "step", "exponential", "cosine", ["time", "step"]),
    "search.decay_rate": (_N, 0, [0.1, 0.2], {"low": 0.0, "high": 1.0}),
    "search.decay_drop": (_N, 1, [0.5, 1], {"low": 0.1, "high": 0.9, "step": 0.4}),
    "search.decay_every": (_N, 1, [1, 3], {"low": 1, "high": 4, "log": True}),
    "search.decay_gamma": (_N, 1.0, [0.8, 0.9], {"low": 0.8, "high": 0.9}),
    "search.decay_floor": (_N, 0, [0.0, 1.0], {"low": 0.1, "high": 0.5, "log": True}),
    "search.clip_norm": (_N, "off", 1, ["off", 1.0], {"low": 0.1, "high": 10, "log": True}),
    "search.initializer": (_N, "he_uniform", "orthogonal", ["normal", "xavier_normal"]),
    "search.l1": (_N, 0, [0, 1e-4], {"low": 0.0, "high": 1e-3}),
    "search.l2": (_N, 1e-3, [0.0, 1e-4], {"low": 1e-5, "high": 1e-3, "log": True}),
    "search.dropout": (_N, 0, [0.0, 0.5], {"low": 0.0, "high": 0.6, "step": 0.2}),
    "search.batch_size": (_N, 1000, [5, 16], {"low": 4, "high": 16}),
    "training.epochs": (1, 2, 3),
    "training.patience": (_N, 1, "off"),
    "budget.trials": (1, 2, 3),
    "budget.epochs": (_N, 2, 40),
    "budget.hours": (_N, 0.01, 1),
    "sampler.name": (_N, "random", "gp", "grid", "qmc", "cmaes", "tpe"),
    "sampler.n_startup_trials": (_N, 0, 1),
    "pruner.name": (_N, "hyperband", "median", "percentile", "none", "asha", "thaw"),
    "pruner.first_rung": (_N, 1, 2),
    "pruner.min_resource": (_N, 1, 5),
    "pruner.reduction_factor": (_N, 2, 5),
    "pruner.percentile": (_N, 0.5, 99),
    "pruner.n_startup_trials": (_N, 0, 1),
    "pruner.n_warmup_steps": (_N, 0, 1),
    "confirmation.candidates": (_N, 0, 1, 1000),
    "confirmation.seeds": (1, 2),
    "data.folds": (_N, 2, 3),
}
_AUGMENTATION: dict[str, tuple[Any, ...]] = {
    "search.jitter": (_N, 0.1, [0, 0.2], {"low": 0.0, "high": 0.5}),
    "search.scaling": (_N, 0.1, [0, 0.2], {"low": 0.1, "high": 0.5, "log": True}),
    "search.time_masking": _SHARE,
}
_VIEWS: dict[str, tuple[Any, ...]] = {
    "data.normalize": (_N, "row", ["channel", "row_stats"]),
    "data.differences": (_N, 2, [0, 1], {"low": 0, "high": 2}),
    "data.patch": (_N, 3, [1, 2], {"low": 2, "high": 4}),
}
_SPECTRUM: dict[str, tuple[Any, ...]] = {"data.spectrum": (_N, True, [False, True])}
_PARTS: dict[str, tuple[Any, ...]] = {
    "data.validation": (_N, 0.3, "file"),
    "data.test": (_N, 0.3, "file"),
}
_TABLE: dict[str, tuple[Any, ...]] = {"data.group": (_N, "person")}
_NUMBERS: dict[str, tuple[Any, ...]] = {
    "data.decimal": (_N, "."),
    "data.thousands": (_N, ",", " "),
    "data.missing_values": (_N, ["-999"], ["?", "none"]),
}
_FORMATS = ("csv", "tsv", "jsonl", "parquet")

VALUES: dict[Rows, dict[str, tuple[Any, ...]]] = {
    "texts": _ANY | _PARTS | _TABLE | {
        "data.train": _FORMATS,
        "data.text": ("words",),
        "data.tokenizer": (_N, "word", "char", "bpe"),
        "data.vocabulary": (_N, 3, 40),
        "data.max_tokens": (_N, 4, [1, 3], {"low": 2, "high": 6}),
        "data.deduplicate": (_N, False, True),
        "model.embedding_size": (4, [2, 3], {"low": 1, "high": 5}),
        "search.embedding_initializer": (_N, "ppmi", ["uniform", "ppmi"]),
        "search.token_insertion": _SHARE,
        "search.token_deletion": (*_SHARE, 1),
        "search.token_swap": (*_SHARE, 1.0),
        "search.word_dropout": (*_SHARE, 1.0),
    },
    "tables": _ANY | _PARTS | _TABLE | _NUMBERS | _AUGMENTATION | _VIEWS | _SPECTRUM | {
        "data.train": _FORMATS,
        "data.id": ("walk",),
        "data.time": (_N, "step"),
        "data.features": (_N, ["x"], ["z", "x"]),
        "data.standardize": (_N, False, True),
    },
    "wide": _ANY | _PARTS | _TABLE | _NUMBERS | _AUGMENTATION | _VIEWS | _SPECTRUM | {
        "data.train": _FORMATS,
        "data.steps": ("x", ["x"], ["z", "x"]),
        "data.standardize": (_N, False, True),
    },
    "arrays": _ANY | _PARTS | _AUGMENTATION | _VIEWS | _SPECTRUM | {
        "data.train": ("ts", "npz"),
        "data.standardize": (_N, False, True),
    },
    "series": _ANY | _NUMBERS | _AUGMENTATION | _VIEWS | {
        "data.train": _FORMATS,
        "data.validation": (_N, 0.3, 20, "file"),
        "data.test": (_N, 0.2, 12, "file"),
        "data.time": ("at",),
        "data.target": ("sales",),
        "data.series": (_N, "shop"),
        "data.covariates": (_N, ["rain"], ["sky", "rain"]),
        "data.known": (_N, ["price"], ["holiday"], ["holiday", "price"]),
        "data.window": (_N, 3, 12),
        "data.horizon": (1, 3),
        "data.season": (_N, 1, 6),
        "data.gap": (_N, 0, 2),
        "data.stride": (_N, 1, 3),
        "data.missing": (_N, "drop", "refuse", "interpolate"),
        "data.calendar": (_N, False, True),
        "data.residual": (_N, "level", ["last", "none"], ["season", "drift"]),
        "data.log": (_N, True, [False, True]),
    },
}  # fmt: skip
"""For each kind of rows, every key that it can use, with one value of every kind."""

_OF_TASKS: dict[str, dict[str, tuple[Any, ...]]] = {
    "classification": {
        "data.label": ("kind",),
        "data.class_weights": (_N, "balanced", "none"),
        "search.label_smoothing": (_N, 0.1, {"low": 0.0, "high": 0.2}),
    },
    "regression": {"data.target": ("size",)},
    "forecasting": {},
}


def values_of(rows: Rows, task: str) -> dict[str, tuple[Any, ...]]:
    """The keys that a study of these rows can have, by ``section.key``, and their values."""
    metrics = METRICS[task]  # type: ignore[index]
    own = {"metric": (_N, *metrics, [metrics[-1], SIZE]), **_OF_TASKS[task]}
    if rows == "arrays":  # whose labels and targets have no names
        own = {key: own[key] for key in own if key not in ("data.label", "data.target")}
        own |= {"data.train": ("npz",)} if task == "regression" else {}
    return VALUES[rows] | own


def all_keys() -> set[str]:
    """Every key of the study file, by ``section.key``, but for its name and its task."""
    keys: set[str] = set()
    for name, field in Specification.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        keys |= {field.alias or name} if inner is None else {f"{name}.{key}" for key in inner}
    return keys - {"name", "task"}


def study_content(
    rows: Rows, task: str, choose: Callable[[str, Sequence[Any]], Any]
) -> dict[str, Any]:
    """A study with the values that `choose` takes of each key's.

    Values that exclude each other are adapted, so that the study must be accepted.
    """
    chosen = {key: choose(key, values) for key, values in values_of(rows, task).items()}
    chosen["name"], chosen["task"] = "small", task
    if isinstance(chosen["metric"], list):  # two goals, which not all pruners and samplers have
        fitting = {"pruner.name": (LEFT_OUT, "thaw", "none"), "sampler.name": (LEFT_OUT, "tpe")}
        chosen |= {key: v[0] for key, v in fitting.items() if chosen[key] not in (*v, "gp", "grid")}
    stem, ending = "rows", chosen["data.train"]
    if rows == "series":
        count = "one" if chosen["data.series"] is LEFT_OUT else "many"
        stem = f"{count}-{'whole' if chosen['data.missing'] == 'refuse' else 'gaps'}"
    chosen["data.train"] = f"{stem}-train.{ending}"
    if chosen["data.folds"] is not LEFT_OUT:
        chosen["data.validation"] = LEFT_OUT
    if chosen.get("data.standardize") is False:
        chosen["data.normalize"] = LEFT_OUT
    if chosen["data.validation"] == "file":
        chosen["data.validation"] = f"{stem}-after.{ending}"
        # The test rows follow the validation rows, so they can't be a part of the training rows.
        last = rows == "series" and chosen["data.test"] is not LEFT_OUT
        chosen["data.test"] = "file" if last else chosen["data.test"]
    elif chosen["data.test"] == "file":
        chosen["data.test"] = f"{stem}-after.{ending}"
    if chosen["data.test"] == "file":
        chosen["data.test"] = f"{stem}-last.{ending}"
    if chosen["sampler.name"] == "grid":
        chosen["try"] = LEFT_OUT
        # A grid has neither ranges nor defaults that are ranges; and it is small.
        for key, values in values_of(rows, task).items():
            is_range = isinstance(chosen[key], dict) and key != "baselines"
            if key.startswith("search.") or is_range:
                chosen[key] = next(v for v in values if v is not LEFT_OUT and type(v) is not dict)
    content: dict[str, Any] = {}
    for key, value in chosen.items():
        if value is not LEFT_OUT:
            section, _, name = key.rpartition(".")
            (content.setdefault(section, {}) if section else content)[name] = value
    return content


@cache
def covering_studies() -> tuple[tuple[Rows, str, dict[str, Any]], ...]:
    """Studies in which every value of every key occurs, in one kind of rows at least.

    The first of them are one for each of `TASKS`.
    """
    seen: dict[str, list[Any]] = {}
    made: list[tuple[Rows, str, dict[str, Any]]] = []

    def unseen(key: str, values: Sequence[Any]) -> Any:
        met = seen.setdefault(key, [])
        value = next((value for value in values if value not in met), None)
        # Once all have been tried, another one than last time, out of step with the other keys.
        value = values[(len(made) * len(key)) % len(values)] if value is None else value
        met.append(value)
        return value

    while missing := [
        (rows, task)
        for rows, task in TASKS
        for key, values in values_of(rows, task).items()
        if any(value not in seen.get(key, ()) for value in values)
    ]:
        first = TASKS[len(made) : len(made) + 1]
        rows, task = first[0] if first else Counter(missing).most_common(1)[0][0]
        made.append((rows, task, study_content(rows, task, unseen)))
    return tuple(made)


def data_folder(folder: Path, rows: Rows, task: str) -> Path:
    """Where `write_rows` put the data of such a study."""
    return folder / (f"arrays-{task}" if rows == "arrays" else rows)


def write_study(path: Path, content: dict[str, Any]) -> Path:
    """Writes a study file."""
    lines = [f"{key} = {_toml(v)}" for key, v in content.items() if key not in _SECTIONS]
    for section in _SECTIONS & content.keys():
        lines.append(f"[{section}]")
        lines += [f"{_toml(key)} = {_toml(value)}" for key, value in content[section].items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


_SECTIONS = {key.partition(".")[0] for key in all_keys() if "." in key} | {"baselines"}


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def use_study(
    folder: Path,
    content: dict[str, Any],
    *,
    refit: bool = False,
    ensemble: bool = False,
    onnx: bool = False,
) -> pl.DataFrame:
    """Tunes a study, confirms it, exports its winner, and predicts with the bundle.

    Parameters
    ----------
    folder
        The folder with the data of `write_rows`.
    content
        What the study file says.
    refit, ensemble, onnx
        As of ``export``. An ensemble is only made of a study that is confirmed, and ONNX only of
        networks that read the same inputs.
    """
    number = next(_NUMBERS)
    path = write_study(folder / f"study-{number}.toml", content)
    url = f"sqlite:///{folder / f'study-{number}.db'}"
    settings = WorkerSettings("cpu", threads=1, slots=2)
    tuned = tune(
        path, storage=url, device="cpu", threads=1, slots=2, report=folder / f"report-{number}"
    )
    assert tuned.best is not None, tuned.summary
    place = Place(url, folder, settings)
    _, _, decision = confirm_study("small", place, None, None, _NEVER)
    assert decision is not None
    bundle = make_winner("small", place, _NEVER, refit=refit, ensemble=ensemble)
    if onnx:
        try:
            bundle = with_onnx(bundle)
        except BundleError as error:
            assert "several folds" in str(error)  # noqa: PT017
    bundle.save(folder / f"bundle-{number}")
    bundle = load_bundle(folder / f"bundle-{number}")
    _, spec = load_study(open_storage(url), "small")
    assert bundle.spec == spec
    train = content["data"]["train"]
    predictions = bundle.predict_frame(folder / train.replace("-train.", "-new."))
    assert predictions.height >= 1
    assert predictions.null_count().sum_horizontal().item() == 0
    for column in predictions.select(pl.selectors.float()).iter_columns():
        assert all(map(math.isfinite, column)), predictions
    return predictions


def write_rows(folder: Path) -> None:
    """Writes the data of all small studies, in every format."""
    random = np.random.default_rng(0)
    for part, rows in (("train", 40), ("after", 16), ("last", 12), ("new", 5)):
        # Nobody's rows are in two parts, which a group wouldn't allow.
        people = pl.col("person") + 100 * ord(part[0])
        _write_table(folder / "texts" / f"rows-{part}", _texts(random, rows).with_columns(people))
        _write_table(folder / "tables" / f"rows-{part}", _steps(random, rows).with_columns(people))
        _write_table(folder / "wide" / f"rows-{part}", _whole(random, rows).with_columns(people))
        for task in ("classification", "regression"):
            _write_arrays(folder / f"arrays-{task}" / f"rows-{part}", random, rows, task)
    for shops, name in ((["a"], "one"), (["a", "b"], "many")):
        whole = _sales(random, shops)
        lost = pl.when(pl.col("hour").is_in([7, 8, 30])).then(None).otherwise(pl.col("sales"))
        for frame, gaps in ((whole, "whole"), (whole.with_columns(sales=lost), "gaps")):
            for part, first, end in _HOURS:
                rows = frame.filter(pl.col("hour").is_between(first, end - 1)).drop("hour")
                _write_table(folder / "series" / f"{name}-{gaps}-{part}", rows)
        ahead = pl.when(pl.col("hour") < 161).then(pl.col("sales"))
        new = whole.with_columns(sales=ahead).filter(pl.col("hour") >= 120).drop("hour")
        for gaps in ("whole", "gaps"):
            _write_table(folder / "series" / f"{name}-{gaps}-new", new)


_HOURS = (("train", 0, 100), ("after", 100, 130), ("last", 130, 160))


def _texts(random: np.random.Generator, rows: int) -> pl.DataFrame:
    words = ["good", "bad", "very", "not", "film", "plot", "an", "ending", "slow", "fine"]
    return pl.DataFrame(
        {
            "words": [" ".join(random.choice(words, random.integers(1, 9))) for _ in range(rows)],
            "kind": [("yes", "no", "maybe")[row % 3] for row in range(rows)],
            "size": random.normal(size=rows),
            "person": np.arange(rows) % 8,
        }
    )


def _steps(random: np.random.Generator, rows: int) -> pl.DataFrame:
    lengths = random.integers(2, 6, rows)
    walks = np.repeat(np.arange(rows), lengths)
    return pl.DataFrame(
        {
            "walk": [f"w{walk}" for walk in walks],
            "step": np.concatenate([np.arange(length) for length in lengths]),
            "x": random.normal(size=len(walks)) + walks % 3,
            "z": random.normal(size=len(walks)),
            # Numbers, because columns that no key names are features.
            "kind": walks % 3,
            "size": random.normal(size=rows)[walks],
            "person": walks % 8,
        }
    )


def _whole(random: np.random.Generator, rows: int) -> pl.DataFrame:
    kinds = np.arange(rows) % 3
    steps = {
        f"{channel}{step}": [None if step > length else value for length, value in values]
        for channel in "xz"
        for step in range(5)
        for values in [list(zip(2 + kinds, random.normal(size=rows) + kinds, strict=True))]
    }
    about = {"kind": kinds, "size": random.normal(size=rows), "person": np.arange(rows) % 8}
    return pl.DataFrame({**steps, **about})


def _sales(random: np.random.Generator, shops: list[str]) -> pl.DataFrame:
    hours = np.arange(164)
    return pl.concat(
        pl.DataFrame(
            {
                "hour": hours,
                "at": [datetime(2024, 1, 1) + timedelta(hours=int(hour)) for hour in hours],
                "shop": [shop] * len(hours),
                "sales": 5 + np.sin(hours * np.pi / 3) + 0.1 * random.normal(size=len(hours)),
                "rain": random.normal(size=len(hours)),
                "sky": random.choice(["blue", "grey"], len(hours)),
                "price": random.normal(size=len(hours)),
                "holiday": random.choice(["no", "easter"], len(hours)),
            }
        )
        for shop in shops
    )


def _write_table(stem: Path, frame: pl.DataFrame) -> None:
    stem.parent.mkdir(exist_ok=True)
    frame.write_csv(stem.with_suffix(".csv"))
    frame.write_csv(stem.with_suffix(".tsv"), separator="\t")
    frame.write_ndjson(stem.with_suffix(".jsonl"))
    frame.write_parquet(stem.with_suffix(".parquet"))


def _write_arrays(stem: Path, random: np.random.Generator, rows: int, task: str) -> None:
    stem.parent.mkdir(exist_ok=True)
    values = random.normal(size=(rows, 4, 2))
    kinds, sizes = [f"k{row % 3}" for row in range(rows)], random.normal(size=rows)
    targets = {"labels": kinds} if task == "classification" else {"targets": sizes}
    np.savez(stem.with_suffix(".npz"), values=values, **targets)
    if task == "classification":
        channels = [":".join(",".join(map(str, channel)) for channel in row.T) for row in values]
        lines = [f"{row}:{kind}" for row, kind in zip(channels, kinds, strict=True)]
        head = ["@dimensions 2", "@classLabel true k0 k1 k2", "@data"]
        stem.with_suffix(".ts").write_text("\n".join(head + lines) + "\n")


_NUMBERS = count()
_NEVER = Event()
