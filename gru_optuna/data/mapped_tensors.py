"""A tensor that grows piece by piece, and may become larger than memory."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

from gru_optuna.errors import UserError
from gru_optuna.machine import MEMORY, allowance, cache_folder, scratch_file

if TYPE_CHECKING:
    from torch import Tensor

_TOGETHER = 4
"""A table and the tensors made of it for training, validation and test share the allowance."""


class Growing:
    """A tensor (M, …) that is given in parts (m, …), one after another.

    The parts stay in memory while the allowance lasts; then they go to a file without a name,
    which `whole` maps: the kernel reads what is used, and drops it when memory is short.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, part: Tensor) -> None:
        """Adds a part at the end; all parts have one type, and one shape but for the first axis.

        Raises
        ------
        UserError
            If there is no room on the disk.
        """
        self._parts.append(part)
        self._bytes += part.nbytes
        # Twice: for a moment, `whole` holds the parts and their concatenation.
        if self._file is None and 2 * self._bytes * _TOGETHER > allowance():
            self._file = scratch_file()
        if self._file is not None:
            self._write(self._file)

    def whole(self) -> Tensor:
        """All parts, of which there is at least one; changing the result changes no other file."""
        if self._file is None:
            return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts)
        kind = self._parts[-1]
        array = np.memmap(self._file, mode="r+", dtype=kind.numpy().dtype)
        return torch.from_numpy(array).view(-1, *kind.shape[1:])

    def _write(self, file: IO[bytes]) -> None:
        """Writes the parts, and keeps the last one, empty: its type and shape are those of all."""
        try:
            for part in self._parts:
                file.write(part.contiguous().numpy().data)
            file.flush()
        except OSError as error:
            raise UserError(
                f"{cache_folder()}: {os.strerror(error.errno or 0)}, and the data don't fit into "
                f"{allowance() / 2**20:,.0f} MiB of memory either. Make room there, set "
                f"XDG_CACHE_HOME to a folder on another disk, or raise {MEMORY}."
            ) from None
        self._parts = [self._parts[-1][:0]]
