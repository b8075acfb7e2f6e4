"""What is installed: the package alone, complete."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

from helpers.workspaces import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def test_the_wheel_holds_the_package_and_nothing_of_the_workspace(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(tmp_path), str(REPOSITORY)],
        check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gru_optuna"}
    installed = {name for name in names if name.startswith("gru_optuna/")}
    here = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "gru_optuna").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == here
