"""How this package's functions are compiled, and where the result is kept.

Compiling takes seconds, so numba keeps machine code on disk. On its own it would look at one
function's file alone, and an edit in ``tiles.py`` would leave stale code of ``epoch.py``; it
would also write beside the sources, or fail where that folder and the user's are read-only.
So the cache gets a folder named after a hash of all sources here: under ``NUMBA_CACHE_DIR``
if the user set it, else under the user's cache folder (`machine.cache_folder`). Where that can't
be written, each process compiles for itself. Within the folder, numba itself tells versions of
numba and kinds of processors apart.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numba

from gru_optuna import machine

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")

# Without checks for division by zero, which would hinder vector code. The GIL is free meanwhile.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def compiled(*, fastmath: set[str] | None = None) -> Callable[[Function], Function]:
    """Marks a function that other compiled functions call; compiled once for each of them."""
    return numba.njit(fastmath=fastmath or False, **_OPTIONS)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Marks a function with one caller, which takes it in before anything is compiled.

    Cheaper than `compiled` where a whole workspace would be handed over, dearer where a long
    body is: measured, all one way 20 s and all the other 21 s, as it stands 15 s.
    """
    return numba.njit(inline="always", **_OPTIONS)(function)  # type: ignore[no-any-return]


def entry(function: Function) -> Function:
    """Marks a function that Python calls; the machine code of all it calls is kept with it."""
    folder = _writable(code_folder())
    if folder is None:
        return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]
    # Numba reads the setting when it makes the function, so nobody else's cache moves.
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
    finally:
        numba.config.CACHE_DIR = before


def code_folder() -> Path:
    """Where the machine code of exactly these sources is kept, whether it exists yet or not."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else machine.cache_folder()
    return folder / f"compiled-{digest.hexdigest()[:16]}"


def _writable(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
