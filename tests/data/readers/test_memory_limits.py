"""Files are read in less memory than their rows would take, by processes with a limit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.data.readers import in_memory
from gru_optuna.data.readers.in_parts import read_spread
from gru_optuna.data.readers.tables import read_table
from gru_optuna.inspection.inspect import inspect
from gru_optuna.inspection.roles import Roles
from gru_optuna.machine import MEMORY
from gru_optuna.scaffold.draft import draft_study
from gru_optuna.study_file import Specification, parse

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.readers.column_formats import TableFormats

# The limit counts pages of the heap, but not those of a mapped file. It is set after a first run,
# so that what the libraries take for themselves is not part of it.
CHILD = """
import json, re, resource, sys
from pathlib import Path
from gru_optuna.data.load import load_dataset
from gru_optuna.data.texts.prepare import read_texts
from gru_optuna.inspection.inspect import inspect
from gru_optuna.scaffold.draft import draft_study
from gru_optuna.study_file import parse

what, study, file, small, room = json.loads(sys.argv[1])

def run(file):
    if what == "inspect and init":
        (seen,) = inspect([file]).files
        return seen.rows, seen.share, seen.every, draft_study(file).toml
    spec = parse(study | {"data": study["data"] | {"train": file.name}}, source="x")
    if what == "read":
        return read_texts(spec, file.parent).fingerprint
    data = load_dataset(spec, file.parent)
    parts = [data.train, data.validation, data.test]
    return [data.fingerprint, *(float(part.steps.numpy().sum(dtype=float)) for part in parts)]

run(Path(small))
taken = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (taken + room, taken + room))
print(json.dumps(run(Path(file))))
"""

TEXTS: dict[str, Any] = {
    "name": "texts",
    "task": "classification",
    "data": {"text": "text", "label": "label", "test": 0.2, "tokenizer": "word"},
}
SERIES: dict[str, Any] = {
    "name": "series",
    "task": "forecasting",
    "data": {
        "time": "time", "target": "load", "test": 0.2, "horizon": 6, "window": 12, "stride": 500,
        "validation": 0.2, "season": 24,
    },
}  # fmt: skip
MIB = 1 << 20
_OTHERS = 40  # columns that the series' study doesn't name


def write_texts(path: Path, megabytes: int) -> Path:
    drawn = random.Random(0)
    words = [f"word{number}" for number in range(3000)]
    sentences = [" ".join(drawn.choices(words, k=40)) for _ in range(2000)]
    texts: list[str] = []
    size = 0
    while size < megabytes << 20:
        texts.append(", ".join(drawn.choices(sentences, k=8)))
        size += len(texts[-1])
    frame = pl.DataFrame({"text": texts, "label": drawn.choices(["good", "bad"], k=len(texts))})
    write = {".csv": frame.write_csv, ".jsonl": frame.write_ndjson}
    write.get(path.suffix, frame.write_parquet)(path)
    return path


def write_series(path: Path, rows: int) -> Path:
    drawn = random.Random(0)
    words = [f"{drawn.random():.15f}" for _ in range(997)]
    start = datetime(2000, 1, 1)
    with path.open("w") as file:
        file.write(f"time,load,{','.join(f'other{one}' for one in range(_OTHERS))}\n")
        others = [",".join(drawn.choices(words, k=_OTHERS)) for _ in range(997)]
        for row in range(rows):
            fields = f"{words[row % 991 % 997]},{others[row % 997]}"
            file.write(f"{start + timedelta(minutes=row)},{fields}\n")
    return path


def child(
    what: str, file: Path, small: Path, room: int | None, study: dict[str, Any] = TEXTS
) -> Any:
    """The answer of a process that may take `room` bytes more for a file than for a small one."""
    allowed = {} if room is None else {MEMORY: str(room // 8)}
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"} | allowed
    environment |= {"XDG_CACHE_HOME": str(file.parent), "TOKENIZERS_PARALLELISM": "false"}
    environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others reserve a gigabyte of addresses
    environment["RUST_BACKTRACE"] = "0"  # tokenizers waits for ever where there is none for one
    arguments = json.dumps([what, study, str(file), str(small), room or 1 << 40])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")


@linux
@pytest.mark.soak
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_texts_are_read_in_less_memory_than_they_take(tmp_path: Path, ending: str) -> None:
    file = write_texts(tmp_path / f"large.{ending}", 200)
    small = write_texts(tmp_path / f"small.{ending}", 1)
    assert child("read", file, small, 150 * MIB) == child("read", file, small, None)


@linux
def test_inspect_and_init_say_what_they_looked_at(tmp_path: Path) -> None:
    file, small = write_texts(tmp_path / "large.csv", 70), write_texts(tmp_path / "small.csv", 1)
    rows, share, every, toml = child("inspect and init", file, small, 60 * MIB)
    assert rows >= 900
    assert every > 2
    assert share == 1 / every
    assert f"one row in {every} from all over the file, {rows:,} in all." in toml
    (seen,) = inspect([write_texts(tmp_path / "fits.csv", 8)]).files
    assert seen.rows > 3 * rows
    assert (seen.share, seen.every) == (1.0, 1)


def test_a_large_file_that_is_sorted_by_label_has_all_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning has one, which is no task at all. Rows are named where they stand."""
    monkeypatch.setenv(MEMORY, "1")
    monkeypatch.setattr("gru_optuna.data.readers.in_parts.rows_that_fit", lambda _: 100)
    frame = pl.DataFrame(
        {
            "text": [f"sentence number {row} of all that there are" for row in range(1000)],
            "label": ["bad"] * 600 + ["good"] * 400,
        }
    )
    write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
    for ending, place in (("csv", "line 902"), ("jsonl", "line 901"), ("parquet", "row 901")):
        path = tmp_path / f"sorted.{ending}"
        write[ending](path)
        looked = inspect([path])
        (seen,) = looked.files
        assert (seen.rows, seen.every) == (1000 // seen.every + (1000 % seen.every > 0), seen.every)
        assert seen.every in (10, 11)
        assert seen.classes == pytest.approx(
            {"bad": 600 / seen.every, "good": 400 / seen.every}, abs=1
        )
        assert looked.guess.task == "classification"
        assert read_spread(path, 100).at(9) == f"{path}, {place}"


@pytest.mark.parametrize(
    ("horizon", "checked"),
    [
        (3, "the study was checked with them; tune checks it with all rows"),
        (60, "tune would refuse the study for them"),
    ],
)
def test_the_draft_for_a_large_file_says_what_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, horizon: int, checked: str
) -> None:
    path = tmp_path / "large.csv"
    days = (date(2020, 1, 1) + timedelta(n) for n in range(1000))
    rows = "".join(f"{day},{n * 37 % 101}\n" for n, day in enumerate(days))
    path.write_text(f"day,y\n{rows}")
    monkeypatch.setenv(MEMORY, "1")
    monkeypatch.setattr("gru_optuna.data.readers.in_parts.rows_that_fit", lambda _: 100)
    found = draft_study(path, roles=Roles(horizon=horizon)).inspection.findings[-1].message
    assert "Only some of it was read: the first 100 rows" in found
    assert checked in found


@linux
@pytest.mark.soak
def test_a_long_series_is_loaded_in_less_memory_than_its_file_takes(tmp_path: Path) -> None:
    file = write_series(tmp_path / "large.csv", 250_000)
    small = write_series(tmp_path / "small.csv", 10_000)
    assert file.stat().st_size > 160 * MIB
    limited = child("load", file, small, 160 * MIB, SERIES)
    assert limited == child("load", file, small, None, SERIES)


@linux
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_large_texts_become_tokens_in_less_memory_than_they_take(
    tmp_path: Path, ending: str
) -> None:
    file = write_texts(tmp_path / f"large.{ending}", 400)
    small = write_texts(tmp_path / f"small.{ending}", 1)
    assert child("load", file, small, 300 * MIB) == child("load", file, small, None)


# --- with memory and without: the same tensors ---


def specification(kind: str, train: str) -> Specification:
    data: dict[str, Any] = {
        "texts": TEXTS["data"] | {"folds": 3},
        "sequences": {"id": "id", "time": "t", "features": ["x", "y"], "label": "label",
                      "test": 0.2, "folds": 3},
        "series": SERIES["data"] | {"folds": 3, "stride": 1},
    }[kind]  # fmt: skip
    data = {key: value for key, value in data.items() if key != "validation"}
    task = "forecasting" if kind == "series" else "classification"
    return parse({"name": "x", "task": task, "data": {"train": train, **data}}, source="x")


def write_rows(folder: Path, kind: str, ending: str) -> str:
    drawn = random.Random(1)
    rows: list[dict[str, Any]]
    if kind == "texts":
        words = ["ein", "zwei,", "drei", "好", "看", "é"]
        rows = [
            {"text": " ".join(drawn.choices(words, k=9)), "label": drawn.choice("ab")}
            for _ in range(120)
        ]
    elif kind == "sequences":
        rows = [
            {"id": f"s{one}", "t": step, "x": drawn.random(), "y": step / 3, "label": f"c{one % 2}"}
            for step in range(7)
            for one in range(30)
        ]
    else:
        start = datetime(2024, 1, 1)
        rows = [
            {"time": str(start + timedelta(hours=hour)), "load": drawn.random()}
            for hour in range(600)
        ]
    frame = pl.DataFrame(rows)
    write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson}
    write.get(ending, frame.write_parquet)(folder / f"rows.{ending}")
    return f"rows.{ending}"


@pytest.mark.parametrize("kind", ["texts", "sequences", "series"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_memory_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, ending: str
) -> None:
    spec = specification(kind, write_rows(tmp_path, kind, ending))
    plenty = load_folds(spec, tmp_path)
    monkeypatch.setenv(MEMORY, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("gru_optuna.data.readers.larger_than_memory.part_size", lambda: 700)
    for one, other in zip(plenty, load_folds(spec, tmp_path), strict=True):
        assert one.fingerprint == other.fingerprint
        assert one.preprocessing == other.preprocessing
        assert one.dropped == other.dropped
        for part in ("train", "validation", "test"):
            mine, others = getattr(one, part), getattr(other, part)
            assert mine.batch().values.equal(others.batch().values)
            assert mine.batch().targets.equal(others.batch().targets)


@pytest.mark.parametrize("kind", ["texts", "sequences", "series"])
def test_folds_read_each_file_once_and_are_what_each_alone_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spec = specification(kind, write_rows(tmp_path, kind, "csv"))
    alone = [load_dataset(spec, tmp_path, fold) for fold in range(3)]
    opened: list[Path] = []

    def counted(path: Path, formats: TableFormats) -> Any:
        opened.append(path)
        return read_table(path, formats)

    monkeypatch.setattr(in_memory, "read_table", counted)
    together = load_folds(spec, tmp_path)
    assert opened == [tmp_path / "rows.csv"]
    for one, other in zip(alone, together, strict=True):
        assert one.train.batch().values.equal(other.train.batch().values)
        assert one.validation.batch().targets.equal(other.validation.batch().targets)
