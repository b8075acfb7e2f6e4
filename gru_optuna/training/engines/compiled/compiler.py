"""How this package's functions are compiled, and where machine code is cached.

Compiling takes many seconds, so numba caches machine code on disk. By itself it checks only the
file of the function that is called, so that an edit of ``tiles.py`` would leave stale code for
``epoch.py``. It would also write next to the sources, or fail where that folder and the user's
are read-only. So the cache gets a folder named after a hash of numba's version and of all sources
here: under ``NUMBA_CACHE_DIR`` if the user set it, else under the user's cache folder
(`machine.cache_folder`). Every environment with these sources shares it, wherever it is. Where it
can't be written, each process compiles for itself. Within the folder, numba itself tells versions
of Python and kinds of processors apart.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numba
from filelock import FileLock, Timeout
from numba.core.caching import UserProvidedCacheLocator

from gru_optuna import machine

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT_SECONDS = 120
"""How long a process waits for another one that compiles."""

Function = TypeVar("Function", bound="Callable[..., Any]")

# "numpy" leaves out the checks for division by zero, which would prevent vector code. Without
# the interpreter's lock, threads train as fast as processes do.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(*, fastmath: set[str] | None = None) -> Callable[[Function], Function]:
    """Marks a function that other compiled functions call; it is compiled once for each of them.

    `fastmath` holds the liberties that LLVM may take: "contract" allows fused multiply-add,
    "reassoc" sums in another order, which vector code needs. Neither is granted by default,
    so that a result depends on no choice of the compiler.
    """
    return numba.njit(fastmath=fastmath or False, **_OPTIONS)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Marks a function that numba copies into its only caller before compiling.

    That compiles faster than `compiled` where a whole workspace would be passed on, but slower
    where the body is long. All functions inlined take 20 s, none 21 s, the mixture here 15 s.
    """
    return numba.njit(inline="always", **_OPTIONS)(function)  # type: ignore[no-any-return]


def entry(function: Function) -> Function:
    """Marks a function that Python calls; it is cached with the code of all that it calls."""
    folder = _writable(code_folder())
    if folder is None:
        return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]
    # Numba reads the settings when it makes the function, so other packages' caches stay.
    before = numba.config.CACHE_DIR, numba.config.CACHE_LOCATOR_CLASSES
    numba.config.CACHE_DIR = str(folder)
    numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.{AnyPlace.__name__}"
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR, numba.config.CACHE_LOCATOR_CLASSES = before


class AnyPlace(UserProvidedCacheLocator):  # type: ignore[misc]
    """Finds machine code in numba's cache folder wherever its sources are.

    Numba's own names a folder after theirs, so each environment would compile for itself.
    """

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:  # noqa: ARG003
        """No subfolder: ours is named after the sources' content."""
        return ""


def code_folder() -> Path:
    """Where the machine code of exactly these sources is kept, whether it exists yet or not."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else machine.cache_folder()
    return folder / f"compiled-{digest.hexdigest()[:16]}"


def compile_once(name: str, compile_or_load: Callable[[], object]) -> None:
    """Compiles while other processes that want the same code wait, to load it then.

    Parameters
    ----------
    name
        Of the code, for the file that says that it is cached.
    compile_or_load
        Calls an entry.
    """
    folder = _writable(code_folder())
    if folder is None or (cached := folder / f"{name}.cached").exists():
        compile_or_load()
        return
    # One lock for all code: of two processes that save at once, numba would forget one's.
    lock = FileLock(folder / "compiling.lock", timeout=WAIT_SECONDS)
    # Not for ever: that process may be suspended. And some network file systems know no locks.
    with suppress(Timeout, OSError, NotImplementedError):
        lock.acquire()
    try:
        compile_or_load()
        cached.touch()
    finally:
        lock.release()


def _writable(folder: Path) -> Path | None:
    # Machine code is kept as pickles: whatever the umask, nobody else may place one in the user's
    # own cache. A folder that the user chose may be shared.
    mode = 0o777 if os.environ.get("NUMBA_CACHE_DIR") else 0o700
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
