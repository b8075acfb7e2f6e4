"""Makes a workspace: three folders, each with a README, and a first study."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gru_optuna.data.readers.column_formats import FOUND_OUT, TableFormats
from gru_optuna.errors import UserError
from gru_optuna.files import unfinished
from gru_optuna.inspection.roles import NO_ROLES, Roles

if TYPE_CHECKING:
    from gru_optuna.inspection.findings import DataFinding
    from gru_optuna.study_file import Task

_DEMO = "japanese-vowels.toml"
_DEMO_DATA = (
    "japanese_vowels_train.ts",
    "japanese_vowels_test.ts",
    "README.md",  # names the origin of the data and their licence
)
_ROOMS = Path(__file__).parent / "workspace"  # "gitignore" there: Git would obey it here


@dataclass(frozen=True)
class Made:
    """A new workspace."""

    study: Path  # the file to tune first; it runs as it is
    about: str
    choice: str | None = None  # the column to predict, and the others that could be
    findings: tuple[DataFinding, ...] = ()
    sizes: str | None = None  # the rows of each part


def make_workspace(
    folder: Path,
    data: Path | None = None,
    task: Task | None = None,
    roles: Roles = NO_ROLES,
    formats: TableFormats = FOUND_OUT,
) -> Made:
    """Makes a whole workspace, or nothing, in a folder that is new or empty.

    Parameters
    ----------
    folder
        The workspace's folder.
    data
        Rows to draft a study for; None: the demo.
    task
        What to learn from the data; None: guessed.
    roles
        The roles of its columns that are known; the others are guessed.
    formats
        What is known about how its columns are written.

    Raises
    ------
    UserError
        If the folder can't be used, or the data.
    """
    _check_folder(folder)
    place = folder.absolute()
    parents = [parent for parent in place.parents if not parent.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(place) as draft:
            made = _fill(draft, data, task, roles, formats)
            _publish(draft, place)
    except BaseException as error:
        for parent in parents:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"{error.filename or folder}: {error.strerror}.") from None
        raise
    return replace(made, study=folder / made.study.relative_to(draft))


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file. Name a folder.")
    if folder.is_dir() and (names := sorted(path.name for path in folder.iterdir())):
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise UserError(
            f"{folder}: the folder is not empty ({names[0]}{more}). Name a new or an empty one."
        )


def _fill(
    folder: Path, data: Path | None, task: Task | None, roles: Roles, formats: TableFormats
) -> Made:
    # Heavy: a folder that can't be used is refused without them.
    from gru_optuna.scaffold.draft import draft_study
    from gru_optuna.study_file import json_schema

    drafted = draft_study(data, task, roles, formats) if data is not None else None
    studies = folder / "studies"
    for file in _ROOMS.glob("*/*"):
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        name = ".gitignore" if file.name == "gitignore" else file.name
        shutil.copyfile(file, folder / file.parent.name / name)
    (studies / "data").mkdir()
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    (studies / "study.schema.json").write_text(f"{schema}\n", encoding="utf-8")
    if drafted is None:
        demo = _demo_folder()
        for name in _DEMO_DATA:
            shutil.copyfile(demo / "data" / name, studies / "data" / name)
        shutil.copyfile(demo / _DEMO, studies / _DEMO)
        return Made(studies / _DEMO, "nine speakers, recognized by how they say a vowel")
    for file in drafted.files:
        shutil.copyfile(file, studies / "data" / file.name)
    study = studies / f"{drafted.name}.toml"
    study.write_text(drafted.toml, encoding="utf-8")
    inspection, sizes = drafted.inspection, drafted.sizes
    guess = inspection.guess
    return Made(
        study,
        f"{guess.task}: {guess.reason}",
        guess.choice,
        (*inspection.findings, *(sizes.few(str(data)) if sizes is not None else ())),
        sizes.summary if sizes is not None else None,
    )


def _demo_folder() -> Path:
    """The folder of the demo's study file: part of a wheel, or a checkout's own."""
    # The build copies the demo into the wheel (pyproject.toml), so a checkout holds it only once.
    packaged = Path(__file__).parent / "demo"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "studies"


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
