"""What a trial minimizes, for all tasks. Letters: B rows, O outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def loss(
    outputs: Tensor,
    targets: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The mean over rows: cross entropy of classes, squared error of numbers.

    Parameters
    ----------
    outputs
        (B, O): logits, or scaled numbers.
    targets
        (B,) classes; or (B, O) numbers. A missing one (NaN) counts as predicted exactly.
    class_weights
        (O,) factors of each row's cross entropy. The sum is still divided by B, as in Keras, and
        not by the weights in the batch, as in torch: a mean over batches is then one over rows.
    label_smoothing
        The share of a row's target that is spread evenly over all classes, as in torch: each class
        has its own weight there (Szegedy et al. 2016).
    """
    if targets.is_floating_point():
        return (outputs - targets).where(targets.isfinite(), 0).square().mean()
    if class_weights is None:
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)
    losses = F.cross_entropy(
        outputs, targets, class_weights, reduction="none", label_smoothing=label_smoothing
    )
    return losses.mean()
