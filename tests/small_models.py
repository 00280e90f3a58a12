"""ONNX models of a few numbers, made for a test: they embed 8x8 images in four dimensions."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE, DIM = 8, 4


def weights() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((3 * SIZE * SIZE, DIM)).astype(np.float32)


def save(
    path: Path,
    *,
    batch: int | str = "n",
    kind: int = TensorProto.FLOAT,
    layout: str = "nchw",
    outputs: int = 1,
    rank: int = 4,
    image: list[int | str] | None = None,
) -> Path:
    """Write a model that flattens its input and multiplies it by `weights`.

    image : the shape that it declares for an image, instead of the layout's.
    """
    shape = [batch, 3, SIZE, SIZE] if layout == "nchw" else [batch, SIZE, SIZE, 3]
    shape = shape if rank == 4 else [batch, 3 * SIZE * SIZE]
    shape = shape if image is None else [batch, *image]
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"])]
    names = ["y", "other"][:outputs]
    nodes += [helper.make_node("MatMul", ["flat", "w"], [name]) for name in names]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, [batch, DIM]) for name in names],
        [numpy_helper.from_array(weights().astype(dtype), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def save_endless(path: Path) -> Path:
    """Write a model that flattens its input, and never comes back from white images."""
    same = [helper.make_node("Identity", [a], [b]) for a, b in (("go", "on"), ("in", "out"))]
    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("in", "out")]
    step = [helper.make_tensor_value_info("step", TensorProto.INT64, [])]
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
    body = helper.make_graph(same, "body", [*step, flags[0], state[0]], [flags[1], state[1]])
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ReduceMin", ["x"], ["darkest"], keepdims=0),
        helper.make_node("Greater", ["darkest", "bright"], ["white"]),
        helper.make_node("Loop", ["", "white", "flat"], ["y"], body=body),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3 * SIZE * SIZE])],
        [numpy_helper.from_array(np.float32(25), "bright")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path
