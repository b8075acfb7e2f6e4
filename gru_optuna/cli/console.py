"""What all commands share: options, opening a study, plain errors."""

from __future__ import annotations

import errno
import io
import json
import sys
from ast import literal_eval
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from gru_optuna.errors import GRUOptunaError, UserError
from gru_optuna.formatting import format_list, shortened, visible
from gru_optuna.urls import masked
from gru_optuna.workspace import STORAGE_VARIABLE, Workspace, storage_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.storages import BaseStorage

    from gru_optuna.study_file import Specification


EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

_ABOUT_PATHS = {
    errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
    errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENXIO,
}  # fmt: skip
"""Errors of the system about a path that the user named. Any other is a bug of ours."""

_NEEDED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}
"""What an option takes, by the type of pydantic's error about a wrong value."""


if TYPE_CHECKING:
    _Base: TypeAlias = TyperCommand
else:
    _Base = object


class _Plain(_Base):
    """Shows no type after flags in ``--help``, and refuses values in our own words."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, as typer's own method returns them."""
        params: list[Any] = super().get_params(ctx)
        for param in params:
            # typer writes <bool> after every flag whose metavar isn't empty.
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses as typer's own method does."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            if (message := _about_value(error)) is not None:
                fail(message, EXIT_USAGE)
            raise


class Command(_Plain, TyperCommand):
    """A command."""


class Group(_Plain, TyperGroup):
    """A group of commands."""


def _about_value(error: typer.BadParameter) -> str | None:
    """The message about a value that can't be used; None where typer's own says enough."""
    param: Any = error.param
    # A ValidationError; pydantic is only imported if a value is wrong.
    faults: list[Any] = getattr(error.__cause__, "errors", list)()
    if param is None or not faults:
        return None
    kind, limits = faults[0]["type"], faults[0].get("ctx", {})
    where = max(param.opts, key=len) if param.param_type_name == "option" else param.make_metavar()
    got = f'{where}: got "{faults[0]["input"]}"'
    if kind == "value_error":
        choices = literal_eval(f"[{str(limits['error']).partition(' one of ')[2].rstrip('.')}]")
        shown = [choice if choice.isalnum() else json.dumps(choice) for choice in choices]
        return f"{got}. Choose {format_list(shown, last=' or ')}."
    return f"{got}, needs {_NEEDED[kind].format(**limits)}." if kind in _NEEDED else None


Name = Annotated[str, typer.Argument(metavar="NAME", help="The study's name, or its file.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help=f"The database: sqlite:///FILE or postgresql://USER@HOST/NAME. "
        f"Default: {STORAGE_VARIABLE}, or the workspace's own.",
    ),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="The device to train on.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Threads that train. Default: measured."),
]
Slots = Annotated[
    int | None,
    typer.Option(min=1, metavar="K", help="Trials that train at once. Default: 4 per thread."),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="The folder that data paths are relative to. Default: studies/."
    ),
]
OutFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The file to write: .csv .tsv .jsonl .parquet. Default: stdout."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _VisibleText(io.TextIOBase):
    """A stream that makes invisible characters visible: names come from databases and files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # For bytes. Programs get them as they are, and a terminal like everything else.
        self.buffer = _VisibleBytes(stream) if stream.isatty() else getattr(stream, "buffer", None)

    def write(self, text: str) -> int:
        return self._stream.write(visible(text))

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def closed(self) -> bool:
        return self._stream.closed  # libraries that keep it ask when the process ends


class _VisibleBytes(io.RawIOBase):
    """A terminal, for what is written in bytes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, content: Any) -> int:
        self._stream.write(visible(bytes(content).decode(errors="replace")))
        return len(content)

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns what the package raises into one message and an exit code, without a traceback."""
    import warnings

    # Optuna marks what it may still change; the lock pins what we have.
    warnings.filterwarnings("ignore", module="optuna")
    try:
        with redirect_stdout(_VisibleText(sys.stdout)):
            yield
    except UserError as error:
        fail(str(error), EXIT_USAGE)
    except GRUOptunaError as error:
        fail(str(error), EXIT_FAILED)
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename is None:  # from os.getcwd()
            fail("the current folder was deleted. Change to another one.", EXIT_USAGE)
        if error.errno not in _ABOUT_PATHS or error.filename is None:
            raise
        fail(f"{error.filename}: {error.strerror}. Check the path.", EXIT_USAGE)
    except KeyboardInterrupt:
        fail("stopped at once. Run the same command to resume.", EXIT_INTERRUPTED)
    except Exception as error:
        if not type(error).__module__.startswith(("sqlalchemy", "optuna")):
            raise
        cause = getattr(error, "orig", None) or error.__cause__ or error
        fail(
            f"the database failed: {getattr(cause, 'orig', cause)}. "
            f"Everything committed is safe. Run the same command to resume.",
            EXIT_FAILED,
        )


def current_workspace() -> Workspace:
    """The workspace around the current folder."""
    return Workspace.around(Path.cwd())


@dataclass(frozen=True)
class StudyPlace:
    """A study that a command names, and where it is."""

    name: str
    workspace: Workspace
    url: str  # of the database
    data: Path  # the folder that data paths are relative to

    @classmethod
    def of(cls, name: str, storage: str | None) -> StudyPlace:
        """Finds a study by its name, or by its file, whose workspace it then is.

        Raises
        ------
        UserError
            If the file can't be read.
        """
        path, workspace = Path(name), current_workspace()
        if path.suffix != ".toml":
            url = storage_url(storage, workspace)
            return cls(name, workspace, url, workspace.folder / "studies")
        from gru_optuna import study_file

        workspace = Workspace.around(path.parent)
        spec = study_file.load(path)
        return cls(spec.name, workspace, storage_url(storage, workspace), path.absolute().parent)

    def open(self) -> BaseStorage:
        """Its database.

        Raises
        ------
        UserError
            If it can't be opened.
        """
        from gru_optuna.storage.database.open import open_storage

        return open_storage(self.url)

    def load(self) -> tuple[Study, Specification]:
        """The study, and the specification that is stored with it.

        Raises
        ------
        UserError
            If there is no such study, or the database can't be opened.
        """
        from gru_optuna.study.study import load_study

        return load_study(self.open(), self.name)


def open_database(storage: str | None) -> BaseStorage:
    """The database that a flag, the environment or the workspace names."""
    from gru_optuna.storage.database.open import open_storage

    return open_storage(storage_url(storage, current_workspace()))


def say(line: str) -> None:
    """Prints a line for people, on stderr."""
    print(visible(line), file=sys.stderr, flush=True)


def fail(message: str, code: int) -> NoReturn:
    """Ends the process with one plain message."""
    say(shortened(masked(message)))  # in this order: half of a URL isn't recognized
    sys.exit(code)
