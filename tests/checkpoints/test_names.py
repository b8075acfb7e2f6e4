"""Only names of exactly our shapes are ours, whatever stands around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gru_optuna.checkpoints import names

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKPOINT = names.checkpoint_name(1, 7, 30, 2)
WEIGHTS = names.weights_name(1, 7, 0, 2)
UPLOAD = names.upload_name("5e" * 32, "1f0c22ab")
WRITING = ".0123abcd.writing"


@pytest.mark.parametrize(
    ("is_ours", "name"),
    [
        *[(names.is_checkpoint, name) for name in (CHECKPOINT, WEIGHTS)],
        *[(names.is_complete, name) for name in (CHECKPOINT, WEIGHTS, UPLOAD)],
        *[(names.is_unfinished, name + WRITING) for name in (CHECKPOINT, WEIGHTS, UPLOAD)],
        *[(names.is_folder, name) for name in ("17", "uploads")],
    ],
)
def test_nothing_may_stand_around_a_name(is_ours: Callable[[str], bool], name: str) -> None:
    assert is_ours(name)
    for other in (f"{name}.bak", f"{name}\n", f"{name}/x", f"x{name}", f"../{name}", f" {name}"):
        assert not is_ours(other), other


def test_what_is_being_written_is_not_complete() -> None:
    assert not names.is_complete(CHECKPOINT + WRITING)
    assert not names.is_unfinished(CHECKPOINT)
