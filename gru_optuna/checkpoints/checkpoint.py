"""A checkpoint: what a trial continues from, as bytes that can be checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from gru_optuna.errors import GRUOptunaError

if TYPE_CHECKING:
    from torch import Tensor


FORMAT = 1
"""The format that `Checkpoint.to_bytes` writes, and the only one that this version reads."""
_RECORD = "gru_optuna"


@dataclass(frozen=True)
class Saved:
    """A checkpoint as its row in the database describes it."""

    epoch: int
    name: str
    sha256: str
    content: bytes | None = None  # None: the store has it


class DamagedCheckpoint(GRUOptunaError):  # noqa: N818 (what it is, not what went wrong)
    """A checkpoint that is gone, unreadable or unfit. Its trial needs an earlier one."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a trial needs to continue.

    Parameters
    ----------
    tensors
        By name, on the CPU, contiguous.
    state
        Everything else, as JSON: no NaN and no infinity.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    def to_bytes(self) -> bytes:
        """The checkpoint as a safetensors file. Equal checkpoints have equal bytes.

        Raises
        ------
        ValueError
            If the state holds a NaN or an infinity.
        """
        from safetensors.torch import save

        record = {"format": FORMAT, "state": self.state}
        # A single key, because safetensors writes several in random order.
        return save(self.tensors, {_RECORD: json.dumps(record, allow_nan=False)})

    @classmethod
    def from_bytes(cls, content: bytes) -> Checkpoint:
        """The checkpoint that `to_bytes` turned into these bytes.

        Raises
        ------
        DamagedCheckpoint
            If the bytes are anything else.
        """
        from safetensors.torch import load

        try:
            tensors = load(content)
            record = _record(content)
        except MemoryError:
            raise
        except Exception as error:
            # safetensors, json and torch each have their own errors for damaged bytes.
            reason = str(error).partition("\n")[0]
            raise DamagedCheckpoint(f"not a checkpoint: {type(error).__name__}: {reason}") from None
        if not isinstance(record, dict) or not isinstance(record.get("state"), dict):
            raise DamagedCheckpoint("not a checkpoint: tensors without the state of a trial")
        if record.get("format") != FORMAT:
            raise DamagedCheckpoint(
                f"written in format {record.get('format')}; this version reads format {FORMAT}"
            )
        return cls(tensors, record["state"])


def digest(content: bytes) -> str:
    """The sha256 of a checkpoint's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _record(content: bytes) -> Any:
    """The state that `Checkpoint.to_bytes` wrote; ``safetensors.torch.load`` skips it."""
    # 8 bytes: the header's length N, little-endian; N bytes of JSON: the header.
    # https://github.com/huggingface/safetensors#format
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    record = header.get("__metadata__", {}).get(_RECORD, "null")
    return json.loads(record, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} among its numbers")
