"""What is installed: the package alone, complete, and able to run its demo without a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from helpers.workspaces import REPOSITORY

DEMO = {
    "japanese-vowels.toml",
    "data/README.md",
    "data/japanese_vowels_train.ts",
    "data/japanese_vowels_test.ts",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--wheel-dir", str(folder), str(REPOSITORY)],
        check=True,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_the_demo(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gru_optuna"}
    installed = {name for name in names if name.startswith("gru_optuna/")}
    here = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "gru_optuna").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == here | {f"gru_optuna/scaffold/demo/{name}" for name in DEMO}


SMALL = (
    " --trials 2 --set training.epochs=2 --set confirmation.candidates=1 --set confirmation.seeds=2"
    " --set fit_baselines=false"  # other tests fit them
)
"""What makes a tuning of the README one of seconds."""


def readme_blocks() -> list[list[str]]:
    """The README's commands, by block; the installation is this test's own."""
    blocks = re.findall(r"```console\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    shown = [[line for line in block.splitlines() if line.startswith("$ ")] for block in blocks]
    commands = [[re.split(r"\s+#", line[2:])[0] for line in block] for block in shown]
    return [[c for c in block if not c.startswith("pip ")] for block in commands]


@pytest.mark.timeout(600)
def test_the_readmes_commands_run_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has the dependencies, and of this project only the wheel."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    bin_folder = environment / "bin"
    python = bin_folder / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
         "--no-index", str(wheel)],
        check=True,
    )  # fmt: skip
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    # A line of a .pth file adds a folder, but not what the .pth files in that folder add: the
    # dependencies, not the editable checkout.
    (Path(site) / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "GRU_OPTUNA"))}

    def run(command: str) -> str:
        return subprocess.run(
            ["/bin/sh", "-ec", command],
            check=True,
            cwd=tmp_path,
            env=kept | {"PATH": f"{bin_folder}:{kept['PATH']}", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=220,
        ).stdout

    where = run('python -c "import gru_optuna; print(gru_optuna.__file__)"')
    assert Path(where).is_relative_to(site)
    assert run("gru-optuna --version").startswith("gru-optuna ")
    assert "gru-optuna" in run("_GRU_OPTUNA_COMPLETE=source_bash gru-optuna")
    words = [("a delight", "good"), ("a bore", "bad"), ("what a joy", "good"), ("so dull", "bad")]
    rows = [f"{text} {n},{label}" for n in range(20) for text, label in words]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    demo, own, again = (
        [command + SMALL if "tune" in command else command for command in block]
        for block in readme_blocks()
    )
    assert "test accuracy" in run("\n".join(demo))
    assert (tmp_path / "demo" / "dashboards" / "japanese-vowels" / "index.html").is_file()
    run("\n".join(own))
    assert len((tmp_path / "reviews" / "predictions.csv").read_text().splitlines()) == 81
    assert "is finished" in run("\n".join(["cd demo", *again]))


def test_a_package_index_shows_no_link_that_leads_nowhere(wheel: Path) -> None:
    """An index has no folders around README, so it can't resolve relative links."""
    with zipfile.ZipFile(wheel) as opened:
        (path,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        readme = opened.read(path).decode().partition("\n\n")[2]
    assert readme.startswith("# gru_optuna")
    links = re.findall(r"\]\(([^)]*)\)", readme)
    assert all(link.startswith(("http:", "https:")) for link in links), links
