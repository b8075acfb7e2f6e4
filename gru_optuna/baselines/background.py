"""A process that fits the simple models while the search runs, and ends with its parent.

The parent writes lines to the process's standard input, which the system closes when the parent
ends in any way. The process writes lines of JSON to its standard output; after the line that
announces them, predictions follow as 64-bit numbers. `python -m gru_optuna.baselines` is its
other end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from gru_optuna.machine import MEMORY, allowance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.study_file import Specification

SECONDS = 120.0
"""Processor time for the models of a study, all together."""

MOST_BYTES = 2**30
"""The most bytes of a study's files: reading more a second time would take too long."""

_LOOK_SECONDS = 0.2
_CLOSE_SECONDS = 5.0
"""How long to wait for the last lines of a process that was killed."""
_ONE_THREAD = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class BackgroundFit:
    """The simple models of a study, fitted in a process of their own.

    Parameters
    ----------
    spec
        The study.
    folder
        What the paths of its data are relative to.
    known
        Settings that were chosen before, by family; they are fitted again without a search.
    """

    def __init__(
        self, spec: Specification, folder: Path, known: Mapping[str, Any] | None = None
    ) -> None:
        self._request = {
            "specification": spec.model_dump(mode="json"),
            "folder": str(folder.resolve()),
            "seconds": SECONDS,
            "known": None if known is None else dict(known),
        }
        self._arrived = threading.Condition()
        self.models: list[dict[str, Any]] = []
        self.left_out: list[dict[str, Any]] = []
        self.rows = self.of = 0
        self._predictions: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
        self._predicted: set[str] = set()
        self._fitted = self._over = False
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._reader: threading.Thread | None = None
        if reason := _too_large(spec, folder):
            self.left_out.append({"family": "all simple models", "reason": reason})
            self._fitted = self._over = True

    def start(self) -> None:
        """Starts the process, unless it has been started."""
        if self._process is not None or self._over:
            return
        # A quarter of the allowance, because the search needs the rest.
        memory = {MEMORY: str(allowance() // 4)}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gru_optuna.baselines"],
            env=os.environ | dict.fromkeys(_ONE_THREAD, "1") | memory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Ctrl-C in the terminal reaches the parent alone, which ends this process.
            start_new_session=True,
        )
        self._ask(json.dumps(self._request))
        self._reader = threading.Thread(target=self._read, name="baselines", daemon=True)
        self._reader.start()

    @property
    def process(self) -> int | None:
        """The number of the process; None before it starts."""
        return None if self._process is None else self._process.pid

    def fitted(self, seconds: float, stop: threading.Event | None = None) -> bool:
        """Waits at most this long until all models are fitted; returns whether they are."""
        self._wait(lambda: self._fitted, seconds, stop)
        return self._fitted

    def predict(
        self, part: str, seconds: float, stop: threading.Event | None = None
    ) -> dict[str, list[NDArray[np.float64]]]:
        """The predictions of each fitted model, by family.

        Parameters
        ----------
        part
            "validation" or "test".
        seconds
            How long to wait at most.
        stop
            Set it to stop waiting.

        Returns
        -------
        dict
            For each fold (N, O): probabilities of classes, or numbers in the data's units.
        """
        if self._process is not None:
            self._ask(part)
            self._wait(lambda: part in self._predicted, seconds, stop)
        with self._arrived:
            return {
                family: list(folds)
                for (of, family), folds in self._predictions.items()
                if of == part and part in self._predicted
            }

    def close(self) -> None:
        """Ends the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        # The thread closes what it reads, since a pipe may not be closed under a reader.
        if self._reader is not None:
            self._reader.join(_CLOSE_SECONDS)

    def _ask(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended, which `_read` notices
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _wait(self, done: Any, seconds: float, stop: threading.Event | None) -> None:
        end = time.monotonic() + seconds
        with self._arrived:
            while not done() and not self._over:
                left = end - time.monotonic()
                if left <= 0 or (stop is not None and stop.is_set()):
                    return
                self._arrived.wait(min(left, _LOOK_SECONDS))

    def _read(self) -> None:
        """Reads what the process writes, until it ends."""
        assert self._process is not None
        output = self._process.stdout
        assert output is not None
        try:
            while line := output.readline():
                message = json.loads(line)
                rows: NDArray[np.float64] | None = None
                if message["kind"] == "predictions":
                    shape = tuple(message["shape"])
                    content = output.read(8 * int(np.prod(shape)))
                    # A copy, because torch warns about memory that it can't write to.
                    rows = np.frombuffer(content, "<f8").reshape(shape).copy()
                with self._arrived:
                    self._note(message, rows)
                    self._arrived.notify_all()
        except (OSError, ValueError):  # it was killed in the middle of a line
            pass
        last_words = self._last_words()
        with suppress(OSError):
            output.close()
        with self._arrived:
            if not self._fitted:
                self.left_out.append({"family": "the others", "reason": last_words})
            self._over = True
            self._arrived.notify_all()

    def _note(self, message: dict[str, Any], rows: NDArray[np.float64] | None) -> None:
        kind = message.pop("kind")
        if kind == "model":
            self.models.append(message)
        elif kind == "left out":
            self.left_out.append(message)
        elif kind == "rows":
            self.rows, self.of = message["rows"], message["of"]
        elif kind == "fitted":
            self._fitted = True
        elif rows is not None:
            self._predictions.setdefault((message["part"], message["family"]), []).append(rows)
        elif kind == "predicted":
            self._predicted.add(message["part"])

    def _last_words(self) -> str:
        """The last line that it wrote, which is its error message; closes the file of them."""
        assert self._errors is not None
        with self._errors as errors:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the process was ended"


def _too_large(spec: Specification, folder: Path) -> str | None:
    """Why a study's files are not read a second time; None if they are."""
    parts = (spec.data.train, spec.data.validation, spec.data.test)
    size = 0
    for part in parts:
        if isinstance(part, str):
            with suppress(OSError):
                size += (folder / part).stat().st_size
    if size <= MOST_BYTES:
        return None
    return f"the files hold {size / 2**30:.1f} GiB, and at most {MOST_BYTES / 2**30:g} are read"
