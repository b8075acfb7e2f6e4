"""Names of checkpoints: ``STUDY/TRIAL-EPOCH-TOKEN.safetensors``, all of them numbers.

Nothing that has another name is ever written, listed or removed, whatever else lies in the same
place and whatever a database says.
"""

from __future__ import annotations

import re

from gru_optuna.files import UNFINISHED

_FOLDER = re.compile(r"[0-9]+")
_NAME = re.compile(r"[0-9]+/[0-9]+-[0-9]+-[0-9]+\.safetensors")
# What `files.unfinished` appends while the file is written.
_UNFINISHED = re.compile(_NAME.pattern + r"\.[0-9a-f]{8}" + re.escape(UNFINISHED))


def checkpoint_name(study_id: int, number: int, epoch: int, token: int) -> str:
    """The name of a trial's checkpoint, written under this fencing token.

    >>> checkpoint_name(1, 7, 30, 2)
    '1/7-30-2.safetensors'
    """
    return f"{study_id}/{number}-{epoch}-{token}.safetensors"


def trial_number(name: str) -> int:
    """The number of the trial that a checkpoint, written whole or not, belongs to."""
    return int(name.partition("/")[2].partition("-")[0])


def is_checkpoint(name: str) -> bool:
    """Whether a checkpoint can have this name."""
    return _NAME.fullmatch(name) is not None


def is_unfinished(name: str) -> bool:
    """Whether a checkpoint can have this name while it is written, or after its writer died."""
    return _UNFINISHED.fullmatch(name) is not None


def is_folder(name: str) -> bool:
    """Whether the checkpoints of a study can lie in a folder of this name."""
    return _FOLDER.fullmatch(name) is not None
