"""Names in a place of ours: of checkpoints, and of uploads.

A checkpoint is ``STUDY/TRIAL-EPOCH-TOKEN.safetensors``, all of them numbers; the weights of a
confirmation's run have ``runSEED`` in place of the epoch. An upload is ``uploads/SHA256-TOKEN``.
Nothing that has another name is ever written, listed or removed, whatever else lies in the same
place and whatever a database says.
"""

from __future__ import annotations

import re

from gru_optuna.files import UNFINISHED

UPLOADS = "uploads/"
"""The folder of uploads; those of checkpoints are numbers."""

_FOLDER = re.compile(rf"[0-9]+|{UPLOADS[:-1]}")
_CHECKPOINT = re.compile(r"[0-9]+/[0-9]+-(?:run)?[0-9]+-[0-9]+\.safetensors")
_UPLOAD = re.compile(UPLOADS + r"[0-9a-f]{64}-[0-9a-f]{8}")
# What `files.unfinished` appends while the file is written.
_UNFINISHED = re.compile(
    rf"(?:{_CHECKPOINT.pattern}|{_UPLOAD.pattern})\.[0-9a-f]{{8}}{re.escape(UNFINISHED)}"
)


def checkpoint_name(study_id: int, number: int, epoch: int, token: int) -> str:
    """The name of a trial's checkpoint, written under this fencing token.

    >>> checkpoint_name(1, 7, 30, 2)
    '1/7-30-2.safetensors'
    """
    return f"{study_id}/{number}-{epoch}-{token}.safetensors"


def upload_name(sha256: str, token: str) -> str:
    """The name of an upload's content; the token tells it from the same content, stored again.

    >>> upload_name("5e88" * 16, "1f0c22ab")[:24]
    'uploads/5e885e885e885e88'
    """
    return f"{UPLOADS}{sha256}-{token}"


def weights_name(study_id: int, number: int, index: int, token: int) -> str:
    """The name of the weights of a confirmation's run, written under this fencing token.

    >>> weights_name(1, 7, 0, 2)
    '1/7-run0-2.safetensors'
    """
    return f"{study_id}/{number}-run{index}-{token}.safetensors"


def is_run(name: str) -> bool:
    """Whether a checkpoint's name is that of a confirmation's run."""
    return "-run" in name


def trial_number(name: str) -> int:
    """The number of the trial that a checkpoint, written whole or not, belongs to."""
    return int(name.partition("/")[2].partition("-")[0])


def is_checkpoint(name: str) -> bool:
    """Whether a checkpoint can have this name."""
    return _CHECKPOINT.fullmatch(name) is not None


def is_complete(name: str) -> bool:
    """Whether a checkpoint or an upload can have this name."""
    return is_checkpoint(name) or _UPLOAD.fullmatch(name) is not None


def is_unfinished(name: str) -> bool:
    """Whether one can have this name while it is written, or after its writer died."""
    return _UNFINISHED.fullmatch(name) is not None


def is_folder(name: str) -> bool:
    """Whether the checkpoints of a study, or uploads, can lie in a folder of this name."""
    return _FOLDER.fullmatch(name) is not None
