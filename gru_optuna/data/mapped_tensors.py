"""Tensors that come part by part, and may become larger than memory."""

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
"""A table and what becomes of it in training, validation and test share the allowance."""


class Growing:
    """Parts (m, …) of one tensor (M, …), one after another.

    They stay in memory as long as they may, and go to a file without a name then. `whole` maps
    it: the kernel reads what is looked at, and forgets it when memory is short.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, part: Tensor) -> None:
        """Puts a part behind those before it; all are of one kind and shape but the first axis.

        Raises
        ------
        UserError
            If there is no room on the disk.
        """
        self._parts.append(part)
        self._bytes += part.nbytes
        # Twice: `whole` has the parts and their sum for a moment.
        if self._file is None and 2 * self._bytes * _TOGETHER > allowance():
            self._file = scratch_file()
        if self._file is not None:
            self._write(self._file)

    def whole(self) -> Tensor:
        """All parts; at least one. Changing it changes no file that anyone else sees."""
        if self._file is None:
            return self._parts[0] if len(self._parts) == 1 else torch.cat(self._parts)
        kind = self._parts[-1]
        array = np.memmap(self._file, mode="r+", dtype=kind.numpy().dtype)
        return torch.from_numpy(array).view(-1, *kind.shape[1:])

    def _write(self, file: IO[bytes]) -> None:
        """The last part stays, empty: it knows what kind all are."""
        try:
            for part in self._parts:
                file.write(part.contiguous().numpy().data)
            file.flush()
        except OSError as error:
            raise UserError(
                f"{cache_folder()}: {os.strerror(error.errno or 0)}, and the data don't fit into "
                f"{allowance() / 2**20:,.0f}MiB of memory either. Make room there, set "
                f"XDG_CACHE_HOME to another disk, or {MEMORY} to more."
            ) from None
        self._parts = [self._parts[-1][:0]]
