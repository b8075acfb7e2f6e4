"""Tensors that come part by part: the same in memory and beyond it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.errors import UserError
from gru_optuna.machine import MEMORY

if TYPE_CHECKING:
    from pathlib import Path


def grown(parts: list[torch.Tensor]) -> torch.Tensor:
    growing = Growing()
    for part in parts:
        growing.append(part)
    return growing.whole()


def run(code: str, cache: Path, allowed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {MEMORY: allowed, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any),
    channels=st.sampled_from([(), (1,), (3,)]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.int64]),
    allowed=st.sampled_from(["0", "100", "1500", "1GB"]),
)
def test_a_tensor_is_the_sum_of_its_parts_wherever_they_lie(
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[int],
    channels: tuple[int, ...],
    dtype: torch.dtype,
    allowed: str,
) -> None:
    monkeypatch.setenv(MEMORY, allowed)
    parts = [torch.randn(size, *channels).mul(100).to(dtype) for size in sizes]
    whole = grown(parts)
    assert whole.dtype == dtype
    assert torch.equal(whole, torch.cat(parts))


def test_what_lies_in_a_file_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(MEMORY, "1MB")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = grown([torch.ones(1000, 100) for _ in range(10)])
    assert whole.sum() == 1_000_000
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(MEMORY, "1kB")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Not a directory") as caught:
        grown([torch.ones(1000)])
    assert "XDG_CACHE_HOME" in str(caught.value)


FULL = """
import resource, torch
from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    Growing().append(torch.ones(1 << 20))
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    told = run(FULL, tmp_path, "1MB")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f"{tmp_path / 'gru-optuna'}: File too large, and the data don't")


BEYOND = """
import resource, torch
from gru_optuna.data.mapped_tensors import Growing
torch.set_num_threads(1)
_, hard = resource.getrlimit(resource.RLIMIT_DATA)
held = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (held + (100 << 20), hard))
growing = Growing()
for number in range(100):
    growing.append(torch.full((1 << 18, 4), float(number)))
whole = growing.whole()
print(len(whole), whole[:: 1 << 18, 0].sum().item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts otherwise elsewhere")
@pytest.mark.parametrize(("allowed", "ends"), [("80MB", 0), ("8GB", 1)])
def test_four_hundred_mebibytes_in_a_process_that_may_take_one_hundred(
    tmp_path: Path, allowed: str, ends: int
) -> None:
    """And without the file it doesn't go, or this would show nothing."""
    told = run(BEYOND, tmp_path, allowed)
    assert told.returncode == ends, told.stderr
    if ends == 0:
        assert told.stdout.split() == [str(100 << 18), "4950.0"]
