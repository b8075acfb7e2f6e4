"""The benchmark of the engine for GPUs, in miniature on the CPU: all of it but the device."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.workspaces import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

HEAVY = (
    "alembic", "joblib", "numba", "optuna", "pandas", "plotly", "polars", "pyarrow", "pydantic",
    "safetensors", "scipy", "sklearn", "sqlalchemy", "tokenizers", "typer",
)  # fmt: skip
"""What a machine with a GPU shouldn't have to install for it."""

WITHOUT_THEM = f"""
import runpy, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class OnlyLight:
    def find_spec(self, name, path=None, target=None):
        # Not an error: torch asks for some of them, and can do without.
        if name.partition(".")[0] not in {HEAVY}:
            return PathFinder.find_spec(name, path, target)
sys.meta_path = [BuiltinImporter, FrozenImporter, OnlyLight()]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

CPU = torch.device("cpu")


def run(code: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_with_torch_and_numpy_alone(tmp_path: Path) -> None:
    script = str(REPOSITORY / "benchmarks" / "cuda.py")
    arguments = [script, "--miniature", "--device", "cpu", "--json", "cuda.json"]
    process = run(["-c", WITHOUT_THEM, *arguments], tmp_path)
    assert process.returncode == 0, process.stderr
    assert "NOT EXACT" not in process.stdout

    result = json.loads((tmp_path / "cuda.json").read_text())
    assert result["miniature"]
    assert [line["of"] for line in result["exactness"]] == [
        "numbers, float64", "numbers, float32", "texts, float64", "texts, float32", "CUDA graph",
    ]  # fmt: skip
    assert all(line["fine"] for line in result["exactness"])
    assert [row["slots"] for row in result["speed"]] == [1, 2, 3, 1, 2, 3]
    for row in result["speed"]:
        assert all(side["rate"] > 0 and side["reason"] is None for side in row["sides"].values())
        if row["slots"] > 1:
            assert list(row["sides"]) == ["epoch", "step", "graph"]
            assert all(side["ratio"] > 0 for side in row["sides"].values())
            assert f" {row['sides']['step']['rate']:,.0f} " in process.stdout


def test_torch_does_not_take_the_script_for_nvidias_package(tmp_path: Path) -> None:
    code = "import sys, torch; sys.exit('cuda' in sys.modules)"
    beside = REPOSITORY / "benchmarks"
    assert (
        run(["-c", f"import sys; sys.path.insert(0, {str(beside)!r}); {code}"], tmp_path).returncode
        == 0
    )


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(REPOSITORY))
    return importlib.import_module("benchmarks.cuda")


def refuse(step: Callable[[], object], device: torch.device) -> Callable[[], object]:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def test_without_a_graph_of_the_step_that_of_the_recurrence_is_measured(
    cuda: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "capture", refuse)
    result = cuda.run(cuda.MINIATURE, CPU)
    last = result["exactness"][-1]
    assert (last["of"], last["error"], last["fine"]) == ("CUDA graph", None, True)
    sides = result["speed"][1]["sides"]
    assert sides["graph"]["reason"].endswith("when stream is capturing")
    assert sides["step of the recurrence alone"]["rate"] > 0
    cuda.show(result)
    assert "graph: RuntimeError: operation not permitted" in capsys.readouterr().out


def test_what_does_not_fit_is_left_out(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 30.00 GiB.")

    monkeypatch.setattr(cuda, "train_step", step)
    shape = cuda.MINIATURE.shapes[0]
    baseline, *rows = cuda.measure_shape(cuda.MINIATURE, shape, CPU)
    assert all(side["rate"] > 0 for side in baseline["sides"].values())
    for row in rows:
        assert row["sides"]["step"]["rate"] is None
        assert row["sides"]["step"]["reason"].startswith("OutOfMemoryError: CUDA out of memory")


def test_what_is_not_exact_fails(cuda: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cuda.TOLERANCE, torch.float64, -1.0)
    monkeypatch.setattr(sys, "argv", ["cuda.py", "--miniature", "--device", "cpu", "--slots", "2"])
    with pytest.raises(SystemExit) as leaving:
        cuda.main()
    assert leaving.value.code == 1
