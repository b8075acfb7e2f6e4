"""Do the tests notice changes of the code: ``python benchmarks/mutants.py [SUBJECT ...]``.

mutmut changes one expression at a time. Of each subject's mutants (``mutants.toml``) a seeded
sample is tried against the subject's tests. Survivors are printed as differences, with the reason
where the same file names one why no test can notice them; all others are gaps in the tests.

mutmut leaves decorated functions alone (properties among them), and what isn't in a function.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from mutmut.mutation.file_mutation import mutate_file_contents

REPOSITORY = Path(__file__).parent.parent
SUBJECTS = Path(__file__).with_suffix(".toml")

# Messages of assertions are for us, and an unreachable end has no effect. The first test of the
# compiled engine compiles it for this copy, which takes minutes on a busy machine.
CONFIGURATION = """
[tool.mutmut]
source_paths = ["gru_optuna"]
only_mutate = {modules}
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:randomly", "--timeout=240"]
also_copy = {also_copy}
do_not_mutate_patterns = ["^\\\\s*assert ", "raise AssertionError"]
process_isolation = "forkserver"
"""


def main() -> int:
    """Tries the mutants; the exit code says whether a survivor is unexplained."""
    content = tomllib.loads(SUBJECTS.read_text())
    subjects = content["subjects"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(subjects))
    parser.add_argument("--number", type=int, default=40, help="mutants of each subject")
    parser.add_argument("--seed", type=int, default=22)
    arguments = parser.parse_args()
    equivalent = content["equivalent"]
    unexplained = 0
    for name in arguments.subjects or subjects:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            copy_repository(copy, **subjects[name])
            sample = draw(copy, subjects[name]["modules"], arguments.number, arguments.seed)
            survivors = run(copy, sample)
        reasons = [reason_for(change, equivalent) for change in survivors]
        for change, reason in zip(survivors, reasons, strict=True):
            print(f"{change}\n    {reason or 'no test notices this'}\n")
        gaps = reasons.count(None)
        print(
            f"{name}: {len(survivors)} of {len(sample)} survived, {gaps} unexplained\n", flush=True
        )
        unexplained += gaps
    return int(unexplained > 0)


def reason_for(change: str, equivalent: list[dict[str, str]]) -> str | None:
    """Why no test can notice a change; None if nothing is known."""
    return next((each["reason"] for each in equivalent if re.search(each["change"], change)), None)


def copy_repository(folder: Path, modules: list[str], tests: list[str]) -> None:
    """Copies what git knows of, and configures mutmut there."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        if (source := REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    # Some tests read files of the repository.
    also_copy = [
        entry.name for entry in folder.iterdir() if entry.name not in ("gru_optuna", "tests")
    ]
    with (folder / "pyproject.toml").open("a") as file:
        file.write(CONFIGURATION.format(modules=modules, tests=tests, also_copy=also_copy))


def draw(folder: Path, modules: list[str], number: int, seed: int) -> list[str]:
    """A sample of the mutants' names."""
    os.chdir(folder)  # mutmut finds its configuration there
    names = [
        f"{module.removesuffix('.py').replace('/', '.')}.{name}"
        for module in modules
        for name in mutate_file_contents(module, (folder / module).read_text()).mutant_names
    ]
    return random.Random(seed).sample(names, min(number, len(names)))


def run(folder: Path, sample: list[str]) -> list[str]:
    """The changes that no test noticed, each as its lines of a difference."""
    mutmut = (sys.executable, "-m", "mutmut")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [*mutmut, "run", "--max-children", "1", *sample],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    listed = subprocess.run(
        [*mutmut, "results"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    survivors = []
    for line in listed.stdout.splitlines():
        name, _, status = line.strip().partition(": ")
        if name in sample and status in ("survived", "no tests", "suspicious"):
            shown = subprocess.run(
                [*mutmut, "show", name],
                cwd=folder, env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            survivors.append(as_change(name, shown.stdout))
    return sorted(survivors)


def as_change(name: str, difference: str) -> str:
    """The module and the lines that differ, which outlive changes elsewhere in the module."""
    changed = [
        line
        for line in difference.splitlines()
        if line.startswith(("-", "+")) and not line.startswith(("---", "+++"))
    ]
    module = name.rpartition(".")[0].removeprefix("gru_optuna.")
    return "\n".join([module, *(f"{line[0]} {line[1:].strip()}" for line in changed)])


if __name__ == "__main__":
    sys.exit(main())
