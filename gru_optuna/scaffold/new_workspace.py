"""Makes a workspace: three folders, each with a README, and a first study."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gru_optuna.errors import UserError
from gru_optuna.files import unfinished
from gru_optuna.inspection.roles import NO_ROLES, Roles

if TYPE_CHECKING:
    from gru_optuna.inspection.findings import DataFinding
    from gru_optuna.study_file import Task

_DEMO = "japanese-vowels"
_HERE = Path(
    __file__
).parent.parent.parent  # a checkout has the demo beside the package; a wheel hasn't

_READMES = {
    "studies": """# studies

What to tune: one TOML file for each study, and the data in `data/`.

`gru-optuna tune studies/NAME.toml` creates the study or continues it.
Editors use `study.schema.json` to complete these files.
""",
    "storage": """# storage

What is remembered: `gru_optuna.db`, a SQLite database that plain Optuna and
optuna-dashboard can read too. Git ignores this folder.
""",
    "dashboards": """# dashboards

What is shown: a folder for each study with its report (`index.html`, one file that
opens offline). Git ignores the reports; `gru-optuna report NAME` renders them again.
optuna-dashboard and `gru-optuna dashboard` read `optuna-dashboard.toml`.
""",
}
_IGNORED = {
    "studies": "# Name data that are large or private:\n# data/NAME.csv\n",
    "storage": "*\n!.gitignore\n!README.md\n",
    "dashboards": "*\n!.gitignore\n!README.md\n!optuna-dashboard.toml\n",
}
_DASHBOARD = """# The configuration of optuna-dashboard. Run it in the workspace's folder:
#
#   optuna-dashboard --from-config dashboards/optuna-dashboard.toml
#
# Everybody who reaches that server can see, change and delete everything. Better use
# `gru-optuna dashboard`, which takes host, port and artifact_dir from here and is read-only.
# Switches (quiet, allow_unsafe) work only on the command line, not in this file.
[optuna_dashboard]
storage = "sqlite:///storage/gru_optuna.db"
host = "127.0.0.1"
port = 8080
server = "wsgiref"
# artifact_dir = "storage/artifacts" # where scripts keep files that they attach to trials
"""
_TEMPLATE = """#:schema ./study.schema.json
# A study: what to tune, on which data. Put a file into data/ and name it below.
# gru-optuna init DIR --data FILE drafts a study from the data.
name = "my-study"
task = "classification" # or regression, forecasting
metric = "accuracy"

[data]
train = "data/train.csv" # .csv .tsv .jsonl .parquet .npz .ts
test = 0.2 # of the rows, or a file; used once, for the winner
validation = 0.2 # of the rest; compares trials
text = "text" # column of texts
label = "label" # column of their classes

# One value fixes a hyperparameter, a list gives choices, a table is a range.
# Hyperparameters that are left out are searched over their default ranges.
[model]
hidden_size = [32, 64]

[search]
learning_rate = { low = 5e-4, high = 2e-2, log = true }
dropout = { low = 0.0, high = 0.5 }

[training]
epochs = 20

[budget]
trials = 30
"""


@dataclass(frozen=True)
class Made:
    """A new workspace."""

    study: Path  # the file to tune first
    ready: bool  # whether it runs as it is
    about: str
    choice: str | None = None  # the column to predict, and the others that could be
    findings: tuple[DataFinding, ...] = ()


def make_workspace(
    folder: Path, data: Path | None = None, task: Task | None = None, roles: Roles = NO_ROLES
) -> Made:
    """Makes a whole workspace, or nothing, in a folder that is new or empty.

    Parameters
    ----------
    folder
        The workspace's folder.
    data
        Rows to draft a study for; None: the demo in a checkout, a template elsewhere.
    task
        What to learn from the data; None: guessed.
    roles
        The roles of its columns that are known; the others are guessed.

    Raises
    ------
    UserError
        If the folder can't be used, or the data.
    """
    _check_folder(folder)
    place = folder.absolute()
    try:
        with unfinished(place) as draft:
            made = _fill(draft, data, task, roles)
            _publish(draft, place)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}.") from None
    return replace(made, study=folder / made.study.relative_to(draft))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file. Name a folder.")
    if not folder.absolute().parent.is_dir():
        raise UserError(f"{folder}: there is no folder {folder.parent}. Make it first.")
    if folder.is_dir() and (names := sorted(path.name for path in folder.iterdir())):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UserError(
            f"{folder}: the folder is not empty ({names[0]}{more}). Name a new or an empty one."
        )


def _fill(folder: Path, data: Path | None, task: Task | None, roles: Roles) -> Made:
    # Heavy: a folder that can't be used is refused without them.
    from gru_optuna.scaffold.draft import draft
    from gru_optuna.study_file import json_schema

    drafted = draft(data, task, roles) if data is not None else None
    for room, readme in _READMES.items():
        (folder / room).mkdir(parents=True)
        (folder / room / "README.md").write_text(readme, encoding="utf-8")
        (folder / room / ".gitignore").write_text(_IGNORED[room], encoding="utf-8")
    settings = folder / "dashboards" / "optuna-dashboard.toml"
    settings.write_text(_DASHBOARD, encoding="utf-8")
    studies = folder / "studies"
    (studies / "data").mkdir()
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    (studies / "study.schema.json").write_text(f"{schema}\n", encoding="utf-8")
    if drafted is not None:
        for file in drafted.files:
            shutil.copyfile(file, studies / "data" / file.name)
        study = studies / f"{drafted.name}.toml"
        study.write_text(drafted.toml, encoding="utf-8")
        guess = drafted.inspection.guess
        about = f"{guess.task}: {guess.reason}"
        return Made(study, True, about, guess.choice, drafted.inspection.findings)
    demo = _HERE / "studies" / f"{_DEMO}.toml"
    if demo.is_file():
        for file in (_HERE / "studies" / "data").glob("japanese_vowels_*.ts"):
            shutil.copyfile(file, studies / "data" / file.name)
        # It names the origin of the data and their licence.
        shutil.copyfile(_HERE / "studies" / "data" / "README.md", studies / "data" / "README.md")
        shutil.copyfile(demo, studies / demo.name)
        return Made(studies / demo.name, True, "nine speakers, recognized by how they say a vowel")
    study = studies / "my-study.toml"
    study.write_text(_TEMPLATE, encoding="utf-8")
    return Made(study, False, "a template: put data into studies/data and name the file in it")


def _publish(draft: Path, folder: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    # An empty folder isn't replaced: it may be a shell's working directory.
    rooms = list(draft.iterdir())
    try:
        for room in rooms:
            room.rename(folder / room.name)
    except OSError:
        for room in rooms:
            shutil.rmtree(folder / room.name, ignore_errors=True)
        raise
    draft.rmdir()
