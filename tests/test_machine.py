"""Free memory, the data's share of it, and the cache folder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from gru_optuna import machine
from gru_optuna.errors import UserError
from gru_optuna.machine import MEMORY, allowance, cache_folder, free_memory

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
UNLIMITED_V1 = 9223372036854771712  # what the kernel writes where version 1 sets no limit


def group(folder: Path, limit: tuple[str, object], usage: tuple[str, int], stat: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (limit, usage, ("memory.stat", stat)):
        (folder / name).write_text(f"{content}".strip() + "\n")


def unified(folder: Path, limit: object, used: int, cached: int = 0) -> None:
    """A control group of version 2."""
    stat = f"anon {used - cached}\ninactive_file {cached}\n"
    group(folder, ("memory.max", limit), ("memory.current", used), stat)


def legacy(folder: Path, limit: int, used: int, cached: int = 0) -> None:
    """A control group of version 1."""
    stat = f"inactive_file 0\ntotal_inactive_file {cached}\n"
    limited, usage = ("memory.limit_in_bytes", limit), ("memory.usage_in_bytes", used)
    group(folder, limited, usage, stat)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a machine with 16 GiB available, without control groups so far."""
    available = SimpleNamespace(available=16 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    monkeypatch.setattr(machine, "_ROOT", tmp_path)
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def member_of(host: Path, *lines: str) -> Path:
    (host / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
    return host / "sys/fs/cgroup"


def test_without_a_container_the_machine_decides(host: Path) -> None:
    assert free_memory() == 16 * GIB
    unified(member_of(host, "0::/user.slice") / "user.slice", "max", GIB)
    assert free_memory() == 16 * GIB


def test_inside_a_container_its_limit_counts(host: Path) -> None:
    unified(member_of(host, "0::/"), 4 * GIB, GIB)
    assert free_memory() == 3 * GIB


def test_a_limit_above_the_own_group_counts_too(host: Path) -> None:
    groups = member_of(host, "0::/system.slice/study.service")
    unified(groups / "system.slice", 2 * GIB, GIB // 2)
    unified(groups / "system.slice/study.service", 8 * GIB, GIB // 4)
    assert free_memory() == 3 * GIB // 2


def test_cached_files_are_not_taken_memory(host: Path) -> None:
    unified(member_of(host, "0::/"), 4 * GIB, 4 * GIB, cached=3 * GIB)
    assert free_memory() == 3 * GIB


def test_a_container_that_exceeds_its_limit_has_no_memory_left(host: Path) -> None:
    unified(member_of(host, "0::/"), GIB, 2 * GIB)
    assert free_memory() == 0


@pytest.mark.parametrize("path", ["", "docker/0123"], ids=["own tree", "whole tree"])
def test_version_1_of_control_groups_is_read(host: Path, path: str) -> None:
    groups = member_of(host, "5:cpu,cpuacct:/docker/0123", "4:memory:/docker/0123")
    legacy(groups / "memory" / path, 6 * GIB, 5 * GIB, cached=GIB)
    assert free_memory() == 2 * GIB
    legacy(groups / "memory" / path, UNLIMITED_V1, 5 * GIB)
    assert free_memory() == 16 * GIB


@pytest.mark.parametrize(
    ("chosen", "bytes_"), [("2GiB", 2 << 30), ("500 MB", 500_000_000), ("7", 7)]
)
def test_the_allowance_may_be_chosen(
    monkeypatch: pytest.MonkeyPatch, chosen: str, bytes_: int
) -> None:
    monkeypatch.setenv(MEMORY, chosen)
    assert allowance() == bytes_


@pytest.mark.parametrize("chosen", ["plenty", "much", "2 GiBs", "-1", "1e9"])
def test_an_allowance_that_is_not_a_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setenv(MEMORY, chosen)
    with pytest.raises(UserError, match=f'"{chosen}" is not a number of bytes. Write .*=2GiB'):
        allowance()


def test_half_of_the_free_memory_is_for_data(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MEMORY, raising=False)
    machine._default_allowance.cache_clear()
    assert allowance() == 8 * GIB
    machine._default_allowance.cache_clear()


def test_the_cache_folder_is_where_users_expect_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen/gru-optuna"


@pytest.mark.skipif("sys.platform != 'linux'")
def test_without_xdg_the_cache_folder_is_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/gru-optuna"
