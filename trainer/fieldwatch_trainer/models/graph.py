"""A small hand for writing ONNX graphs, so that a model reads like its formula.

Only operations whose result for a row is free of its neighbours have a method here: elementwise ones, MatMul, and
:meth:`Graph.shift`, which looks a fixed number of rows back. Reductions are absent on purpose: onnxruntime adds along
an axis in an order that follows memory alignment, hence the row's place in the block. A sum over sensors is a MatMul
with ones, 16 columns wide, because with a single column the runtime takes a path of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR = 8
LANES = 16
"""Columns of the ones matrix in :meth:`Graph.total`."""


class Graph:
    """Builds one graph; every method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant; equal ones are stored once."""
        value = np.ascontiguousarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(value, name))
        return self._constants[key]

    def number(self, value: float) -> str:
        """Add a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node of one output."""
        name = output or f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def shift(self, value: str, rows: int, width: int, kind: type = np.float32) -> str:
        """Return ``value`` ``[R, width]`` as it was ``rows`` rows ago; zeros (or False) before the first row."""
        longer = self.op("Concat", self.constant(np.zeros((rows, width), kind)), value, axis=0)
        start, stop, axis = (self.constant(np.array([n], np.int64)) for n in (0, -rows, 0))
        return self.op("Slice", longer, start, stop, axis)

    def columns(self, value: str, first: int, last: int) -> str:
        """Return columns ``first`` to ``last``, exclusive."""
        start, stop, axis = (self.constant(np.array([n], np.int64)) for n in (first, last, 1))
        return self.op("Slice", value, start, stop, axis)

    def total(self, value: str, width: int, kind: type = np.float32) -> str:
        """Return the sum over ``[R, width]``'s columns, ``[R, 1]``."""
        return self.columns(self.op("MatMul", value, self.constant(np.ones((width, LANES), kind))), 0, 1)

    def top(self, value: str, count: str) -> str:
        """Return the indices of each row's ``count`` smallest values."""
        name = f"v{len(self._nodes)}"
        outputs = [f"{name}_values", name]
        self._nodes.append(helper.make_node("TopK", [value, count], outputs, axis=1, largest=0, sorted=1))
        return name

    def clip(self, value: str, low: float, high: float) -> str:
        """Return ``value`` held between the bounds."""
        return self.op("Clip", value, self.number(low), self.number(high))

    def model(self, sensors: int, outputs: Sequence[tuple[str, Sequence[str | int]]]) -> bytes:
        """Return the checked model: input ``rows`` float64 ``[R, sensors]``, float32 ``outputs``."""
        graph = helper.make_graph(
            self._nodes,
            "fieldwatch",
            [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, ["R", sensors])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs],
            self._initializers,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="fieldwatch"
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))
