"""A file or folder is written whole or not at all, whatever ends the writing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gru_optuna.files import UNFINISHED, unfinished, written_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

# Each child is killed one line later than the one before it, until one comes to the end.
CRASHES = """
import os, shutil, signal, sys
from pathlib import Path
import gru_optuna.files as files

path, line = Path(sys.argv[1]), 0
while True:
    line += 1
    child = os.fork()
    if not child:
        left = line

        def count(frame, event, argument):
            global left
            if frame.f_code.co_filename not in (files.__file__, "<string>"):
                return None
            if event == "line":
                left -= 1
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
            return count

        def write():
            with files.written_whole(path) as beside:
                if path.suffix:
                    with beside.open("w") as file:
                        file.write("new")
                        file.flush()
                        file.write("er")
                else:
                    beside.mkdir()
                    (beside / "a").write_text("new")
                    (beside / "b").write_text("er")

        try:
            sys.settrace(count)
            write()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    if path.is_dir():
        print(line, *(file.read_text() for file in sorted(path.iterdir())))
        shutil.rmtree(path)
    else:
        print(line, path.read_text() if path.exists() else "old")
    if status != signal.SIGKILL:
        sys.exit(status)
"""


def states_after_crashes(path: Path) -> list[str]:
    """What stands at a path after a kill at each line in turn, the last one undisturbed."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(path)], capture_output=True, text=True, check=True
    )
    return [line.partition(" ")[2] for line in done.stdout.splitlines()]


def test_a_kill_at_any_line_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    states = states_after_crashes(path)
    assert states == ["old"] * states.count("old") + ["newer"] * states.count("newer")
    assert states.count("old") >= 10
    assert states[-1] == "newer"
    # A killed process can't tidy up; what it leaves is known by its name.
    assert {left.suffix for left in tmp_path.iterdir()} == {".txt", UNFINISHED}


def test_a_kill_at_any_line_leaves_no_folder_or_all_of_it(tmp_path: Path) -> None:
    states = states_after_crashes(tmp_path / "folder")
    assert states == ["old"] * states.count("old") + ["new er"] * states.count("new er")
    assert states.count("old") >= 10
    assert states[-1] == "new er"


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_written_is_all_that_stands_there(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file.txt"
    for text in ("first", "second"):
        with written_whole(path, durable=durable) as beside:
            assert beside.parent == tmp_path
            beside.write_text(text)
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(path.name, text)]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("opened", [written_whole, unfinished])
@pytest.mark.parametrize("start", [Path.mkdir, Path.touch, Path.exists])
def test_an_error_leaves_the_old_content_and_nothing_else(
    tmp_path: Path,
    error: type[BaseException],
    opened: Callable[[Path], AbstractContextManager[Path]],
    start: Callable[[Path], object],
) -> None:
    path = tmp_path / "a [file].txt"  # brackets mean something to glob
    path.write_text("old")

    def write() -> None:
        with opened(path) as beside:
            start(beside)
            beside.with_name(f"{beside.name}-journal").touch()
            raise error

    with pytest.raises(error):
        write()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "old"


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(OSError, match="not empty"), written_whole(path) as beside:
        beside.mkdir()
    assert list(tmp_path.rglob("*")) == [path, path / "kept"]
