"""The arrays of a bundle's members, in safetensors files whose shapes are known in advance."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import safetensors.torch

from gru_optuna.bundle.manifest import damaged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_HEADER_BYTES = 2**20  # of a safetensors file: more than the names of any member's tensors need


def read_tensors(
    content: bytes, shapes: Mapping[str, tuple[int, ...]], what: str, source: str
) -> dict[str, Tensor]:
    """The tensors of these names and shapes, which must be all that there are.

    Raises
    ------
    BundleError
        If the content isn't a safetensors file of float32, or a value isn't finite.
    """
    # Checked before any tensor is made: the size follows from values that were checked before.
    size = sum(prod(shape) for shape in shapes.values())
    if len(content) > 4 * size + _HEADER_BYTES:
        raise damaged(
            source, f"{len(content)} bytes, too many for the {size} weights of this {what}"
        )
    try:
        tensors = safetensors.torch.load(content)
    except Exception as error:  # safetensors raises several kinds of errors
        reason = str(error).partition("\n")[0]
        raise damaged(source, f"not a safetensors file ({reason})") from None
    if tensors.keys() != shapes.keys():
        wrong = sorted(tensors.keys() ^ shapes.keys())
        raise damaged(source, f"missing or unexpected weights: {', '.join(wrong)[:200]}")
    for name, shape in shapes.items():
        got = tensors[name]
        if got.shape != shape or str(got.dtype) != "torch.float32":
            needed = f"this {what} needs torch.float32 {shape}"
            raise damaged(source, f"{name} is {got.dtype} {tuple(got.shape)}, but {needed}")
        if not bool(got.isfinite().all()):
            raise damaged(source, f"{name} contains NaN or infinite values")
    return tensors
