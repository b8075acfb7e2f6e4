"""The recurrence of a GRU layer over many slots, forward and backward by hand.

Autograd would record a dozen small operations at each step, and each is a launch on a GPU. Here
a step forward is one batched product and five elementwise operations, and a step backward one
product and three: whatever doesn't depend on the step before is computed for all steps at once,
before or after the loop. Letters as in the package's docstring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from gru_optuna.training.network import GATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Layer(NamedTuple):
    """The parameters of J layers, named and laid out as in torch."""

    weight_ih: Tensor  # (J, G * H, C)
    weight_hh: Tensor  # (J, G * H, H)
    bias_ih: Tensor  # (J, G * H)
    bias_hh: Tensor  # (J, G * H)


def recurrence(inputs: Tensor, layer: Layer, valid: Tensor, active: Sequence[int]) -> Tensor:
    """The states of J independent GRUs that start from zero; differentiable once.

    The rows of a GRU have falling lengths, so that those that hold data at a step come first.

    Parameters
    ----------
    inputs
        (J, T, B, C), finite everywhere, even after a row's end.
    layer
        The J layers.
    valid
        (J, T, B) bool, true where a step holds data.
    active
        (T,) how many of the first rows to compute at each step: at least those that are valid
        in any of the J, and never more than at the step before. All B rows at all steps are
        right, too.

    Returns
    -------
    Tensor
        (J, T + 1, B, H): before the first step and after each one; zero where not valid.
    """
    states: Tensor = Recurrence.apply(inputs, *layer, valid, active)  # type: ignore[no-untyped-call]
    return states


def reverse(values: Tensor, lengths: Tensor) -> Tensor:
    """Reverses each row's steps within its length: (J, T, B, C), lengths (J, B)."""
    reversed_values: Tensor = Reverse.apply(values, lengths)  # type: ignore[no-untyped-call]
    return reversed_values


class Recurrence(torch.autograd.Function):
    """`recurrence`: the reset-after GRU of cuDNN, a form of Cho et al. 2014.

    ::

        r = σ(W_r x + b_r + U_r h + c_r)        q = U_n h + c_n
        z = σ(W_z x + b_z + U_z h + c_z)        n = tanh(W_n x + b_n + r q)
        h' = (1 - z) n + z h

    r multiplies U_n h + c_n instead of h, so that one product with h serves all three gates.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        valid: Tensor,
        active: Sequence[int],
    ) -> Tensor:
        J, T, B, _ = inputs.shape
        H = weight_hh.shape[2]
        projected = torch.baddbmm(bias_ih.unsqueeze(1), inputs.flatten(1, 2), weight_ih.mT)
        gates = projected.view(J, T, B, GATES * H)
        recurrent = torch.empty_like(gates)
        # Not zeroed: every valid step is written, and the others are cleared below.
        states = gates.new_empty(J, T + 1, B, H)
        states[:, 0] = 0
        U, c = weight_hh.mT, bias_hh.unsqueeze(1)
        for t, rows in enumerate(active):
            h = states[:, t, :rows]
            from_h = torch.baddbmm(c, h, U, out=recurrent[:, t, :rows])
            gate = gates[:, t, :rows]
            rz = gate[..., : 2 * H].add_(from_h[..., : 2 * H]).sigmoid_()
            n = gate[..., 2 * H :].addcmul_(rz[..., :H], from_h[..., 2 * H :]).tanh_()
            # n + z (h - n), which is (1 - z) n + z h.
            torch.lerp(n, h, rz[..., H:], out=states[:, t + 1, :rows])
        # After a row's end are states of padding, or memory that was never written. No valid
        # step reads them, but the products over all steps would: 0 * NaN is NaN.
        states[:, 1:].masked_fill_(~valid.unsqueeze(-1), 0)
        ctx.save_for_backward(
            inputs, weight_ih, weight_hh, gates, recurrent[..., 2 * H :], states, valid
        )
        ctx.active = active
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight_ih, weight_hh, gates, q, states, valid = ctx.saved_tensors
        H = weight_hh.shape[2]
        padding = ~valid.unsqueeze(-1)  # (J, T, B, 1)
        r, z, n = gates.split(H, dim=-1)
        before = states[:, :-1]

        # The factors of h's gradient on its way to each gate's sum, and to the h before, for all
        # steps at once: they need no gradient. After a row's end they may be NaN while the
        # gradient is zero, so they are cleared: 0 * NaN would spread.
        to_n = ((1 - z) * (1 - n * n)).masked_fill_(padding, 0)
        to_sums = torch.stack([to_n * q * r * (1 - r), (before - n) * z * (1 - z), to_n * r], -2)
        to_sums.masked_fill_(padding.unsqueeze(-1), 0)  # (J, T, B, G, H)
        to_h = z.masked_fill(padding, 1)
        grads = grad_states[:, 1:].masked_fill(padding, 0).contiguous()  # (J, T, B, H)

        # From here on in place: `grads` become the gradients of h', `to_sums` those of the sums
        # that contain U h + c.
        carried = torch.zeros_like(states[:, 0])  # (J, B, H)
        for t in reversed(range(len(ctx.active))):
            rows = ctx.active[t]
            grad = grads[:, t, :rows].add_(carried[:, :rows])
            sums = to_sums[:, t, :rows].mul_(grad.unsqueeze(-2)).flatten(-2)
            torch.baddbmm(grad * to_h[:, t, :rows], sums, weight_hh, out=carried[:, :rows])

        sums = to_sums.flatten(-2).flatten(1, 2)  # (J, T * B, G * H)
        grad_weight_hh = sums.mT @ before.flatten(1, 2)
        grad_bias_hh = sums.sum(1)
        # The sums that contain W x + b have the same gradients, except that n's lacks the factor r.
        torch.mul(grads, to_n, out=to_sums[..., 2, :])
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = (sums @ weight_ih).view_as(inputs)
        grad_weight_ih = sums.mT @ inputs.flatten(1, 2)
        grad_bias_ih = sums.sum(1)
        return grad_inputs, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh, None, None


class Reverse(torch.autograd.Function):
    """`reverse`, which is its own inverse and gradient; autograd's would add up with atomics."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(values.shape[1], device=values.device).view(-1, 1)  # (T, 1)
        ends = lengths.unsqueeze(1)  # (J, 1, B)
        order = torch.where(steps < ends, ends - 1 - steps, steps)  # (J, T, B)
        ctx.save_for_backward(order)
        return _take(values, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return _take(grad, order), None


def _take(values: Tensor, order: Tensor) -> Tensor:
    return values.gather(1, order.unsqueeze(-1).expand_as(values))
