"""A bundle's network for other runtimes: ONNX, whose GRU is torch's (``linear_before_reset = 1``).

    inputs   values   (N, T, C) float32, scaled as the preprocessing says; or (N, T) int64 tokens
             lengths  (N,) int64: steps after a row's length are never read
    outputs  probabilities (N, O) of classes, or predictions (N, O), still scaled, of numbers

N and T are free. The outputs of an ensemble are the mean over its networks. The preprocessing
(tokenizer, scaler, windows) and the data's units are in ``preprocessing/0.json``: ONNX has no
operators for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.bundle.folder import ONNX
from gru_optuna.errors import BundleError
from gru_optuna.training.network import EMBEDDING, GATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gru_optuna.bundle.bundle import Bundle, TrainedNetwork

OPSET, IR_VERSION = 17, 8
"""From 2022, so that runtimes of recent years read the file."""

_TORCH_TO_ONNX = (1, 0, 2)  # torch stacks reset, update, new; ONNX update, reset, hidden


def with_onnx(bundle: Bundle) -> Bundle:
    """A copy of the bundle that also holds its networks as ``model.onnx``.

    Raises
    ------
    BundleError
        If the onnx package is missing, or the bundle's networks read different inputs.
    """
    return replace(bundle, files={**bundle.files, ONNX: to_onnx(bundle)})


def to_onnx(bundle: Bundle) -> bytes:
    """The ONNX file.

    Raises
    ------
    BundleError
        As `with_onnx`.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise BundleError(
            "--onnx needs the package onnx, which is not installed. "
            "Try: pip install 'gru-optuna[onnx]'."
        ) from None
    if bundle.linear:
        raise BundleError(
            "the ensemble contains a linear model, which one ONNX model can't hold. "
            "Export with --single."
        )
    if len({(id(one.preprocessing), one.longest) for one in bundle.networks}) > 1:
        raise BundleError(
            "the bundle's networks come from several folds or configurations, and each reads its "
            "inputs in its own way, which one ONNX model can't do. Export with --single, and a "
            "study with folds with --refit."
        )
    graph = _Graph(onnx)
    first = bundle.networks[0].network
    tokens = bool(first.vocabulary)
    values = graph.input(
        "values", "INT64" if tokens else "FLOAT", ["N", "T"] + [first.inputs] * (not tokens)
    )
    lengths = graph.input("lengths", "INT64", ["N"])
    limit = bundle.networks[0].longest
    if limit is not None:
        lengths = graph.node("Min", lengths, graph.constant(np.array(limit, np.int64)))
    lengths32 = graph.node("Cast", lengths, to=onnx.TensorProto.INT32)
    outputs = [
        _add_network(graph, network, values, lengths, lengths32) for network in bundle.networks
    ]
    if bundle.labels:
        outputs = [graph.node("Softmax", logits, axis=-1) for logits in outputs]
    name = "probabilities" if bundle.labels else "predictions"
    combine = "Mean" if len(outputs) > 1 else "Identity"
    weights = [network.weight for network in bundle.networks]
    if len(set(weights)) > 1:
        shares = np.array(weights, np.float32) / sum(weights)
        outputs = [
            graph.node("Mul", output, graph.constant(share))
            for output, share in zip(outputs, shares, strict=True)
        ]
        combine = "Sum"
    if bundle.labels and bundle.manifest.temperature != 1:
        power = graph.constant(np.array(1 / bundle.manifest.temperature, np.float32))
        powers = graph.node("Pow", graph.node(combine, *outputs), power)
        last = graph.constant(np.array([-1], np.int64))
        graph.node("Div", powers, graph.node("ReduceSum", powers, last), output=name)
    else:
        graph.node(combine, *outputs, output=name)
    model = helper.make_model(
        graph.finished(bundle.manifest.study, name, first.outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gru-optuna",
        producer_version=bundle.manifest.versions["gru-optuna"],
    )
    helper.set_model_props(model, {"labels": "\n".join(bundle.labels)} if bundle.labels else {})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


class _Graph:
    """The nodes and constants of an ONNX graph, each with a unique name."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []

    def input(self, name: str, kind: str, shape: Sequence[str | int]) -> str:
        element = getattr(self._onnx.TensorProto, kind)
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, element, shape))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(
            self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        )
        return name

    def node(
        self, operator: str, *inputs: str, output: str | None = None, **attributes: Any
    ) -> str:
        return self.nodes(operator, *inputs, outputs=[output or ""], **attributes)[0]

    def nodes(
        self, operator: str, *inputs: str, outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        at = len(self._nodes)
        names = [name or f"{operator.lower()}{at}_{n}" for n, name in enumerate(outputs)]
        self._nodes.append(
            self._onnx.helper.make_node(operator, list(inputs), names, f"node{at}", **attributes)
        )
        return names

    def finished(self, name: str, output: str, outputs: int) -> Any:
        predictions = self._onnx.helper.make_tensor_value_info(
            output, self._onnx.TensorProto.FLOAT, ["N", outputs]
        )
        return self._onnx.helper.make_graph(
            self._nodes, name, self._inputs, [predictions], self._constants
        )


def _add_network(
    graph: _Graph, trained: TrainedNetwork, values: str, lengths: str, lengths32: str
) -> str:
    """Adds a network to the graph; returns the name of its logits or scaled numbers (N, O)."""
    network = trained.network
    weights = {name: weight.numpy() for name, weight in trained.weights.items()}
    sequence = values
    if network.vocabulary:
        sequence = graph.node("Gather", graph.constant(weights[EMBEDDING]), values)
    sequence = graph.node("Transpose", sequence, perm=[1, 0, 2])  # (T, N, C)
    features = graph.constant(np.array([0, 0, -1], np.int64))  # (T, N, D * H)
    last = ""
    for layer in range(network.layers):
        w, r, b = _kernels(weights, layer, network.directions)
        outputs, states = graph.nodes(
            "GRU", sequence, graph.constant(w), graph.constant(r), graph.constant(b), lengths32,
            outputs=["", ""], hidden_size=network.hidden_size, linear_before_reset=1,
            direction="bidirectional" if network.bidirectional else "forward",
        )  # fmt: skip
        # (T, D, N, H) to (T, N, D * H), and (D, N, H) to (N, D * H)
        by_row = graph.node("Transpose", outputs, perm=[0, 2, 1, 3])
        sequence = graph.node("Reshape", by_row, features)
        last = graph.node("Transpose", states, perm=[1, 0, 2])
    if network.pooling == "last":
        pooled = graph.node("Flatten", last, axis=1)
    else:
        pools = []
        if network.pooling != "max":
            pools.append(_mean_over_steps(graph, sequence, lengths))
        if network.pooling != "mean":
            pools.append(_maximum_over_steps(graph, sequence, lengths))
        pooled = pools[0] if len(pools) == 1 else graph.node("Concat", *pools, axis=1)
    return graph.node(
        "Gemm", pooled, graph.constant(weights["head.weight"]),
        graph.constant(weights["head.bias"]), transB=1,
    )  # fmt: skip


def _mean_over_steps(graph: _Graph, sequence: str, lengths: str) -> str:
    """Adds the mean (N, F) over each row's steps of a sequence (T, N, F)."""
    # The GRU's output is zero after a row's length, so padding adds nothing to the sum.
    total = graph.node("ReduceSum", sequence, graph.constant(np.array([0], np.int64)), keepdims=0)
    steps = graph.node("Cast", lengths, to=1)
    column = graph.node("Unsqueeze", steps, graph.constant(np.array([1], np.int64)))
    return graph.node("Div", total, column)


def _maximum_over_steps(graph: _Graph, sequence: str, lengths: str) -> str:
    """Adds the maximum (N, F) over each row's steps of a sequence (T, N, F)."""
    zero, one = (graph.constant(np.array(number, np.int64)) for number in (0, 1))
    first, last = (graph.constant(np.array([axis], np.int64)) for axis in (0, -1))
    count = graph.node("Gather", graph.node("Shape", sequence), zero)
    steps = graph.node("Unsqueeze", graph.node("Range", zero, count, one), last)  # (T, 1)
    whole = graph.node("Cast", lengths, to=7)
    held = graph.node("Less", steps, graph.node("Unsqueeze", whole, first))  # (T, N)
    lowest = graph.constant(np.array(-np.inf, np.float32))
    reached = graph.node("Where", graph.node("Unsqueeze", held, last), sequence, lowest)
    return graph.node("ReduceMax", reached, axes=[0], keepdims=0)


def _kernels(
    weights: dict[str, NDArray[np.float32]], layer: int, directions: int
) -> tuple[NDArray[np.float32], ...]:
    """W (D, 3 H, C), R (D, 3 H, H) and both biases (D, 6 H), with the gates in ONNX's order."""
    kernels: dict[str, list[NDArray[np.float32]]] = {"w": [], "r": [], "b": []}
    for direction in ("", "_reverse")[:directions]:

        def kernel(name: str, direction: str = direction) -> NDArray[np.float32]:
            gates = np.split(weights[f"layers.{layer}.{name}_l0{direction}"], GATES)
            return np.concatenate([gates[place] for place in _TORCH_TO_ONNX])

        kernels["w"].append(kernel("weight_ih"))
        kernels["r"].append(kernel("weight_hh"))
        kernels["b"].append(np.concatenate([kernel("bias_ih"), kernel("bias_hh")]))
    return tuple(np.stack(parts) for parts in kernels.values())
