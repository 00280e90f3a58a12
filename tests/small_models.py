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
    by: NDArray[np.float32] | None = None,
) -> Path:
    """Write a model that flattens its input and multiplies it by `weights`, or by others.

    image : the shape that it declares for an image, instead of the layout's.
    """
    by = weights() if by is None else by
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
        [helper.make_tensor_value_info(name, kind, [batch, by.shape[1]]) for name in names],
        [numpy_helper.from_array(by.astype(dtype), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def save_with_head(
    path: Path,
    head: list[onnx.NodeProto],
    shape: list[int | str],
    flag: str = "",
    kind: int = TensorProto.BOOL,
) -> Path:
    """Write the model with more nodes, from "y" to "z" of that shape.

    flag : one more input, of one number of a kind.
    """
    model = onnx.load(save(path))
    model.graph.node.extend(head)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, shape))
    if flag:
        model.graph.input.append(helper.make_tensor_value_info(flag, kind, []))
    onnx.save(model, path)
    return path


def dropout() -> list[onnx.NodeProto]:
    """Make nodes of a dropout that is on."""
    half, on = np.float32(0.5), np.array(True)
    made = [_constant("half", half), _constant("on", on)]
    return [*made, helper.make_node("Dropout", ["y", "half", "on"], ["z"])]


def centred() -> list[onnx.NodeProto]:
    """Make nodes that take the mean of a pass away, as batch normalisation in training does."""
    mean = helper.make_node("ReduceMean", ["y"], ["mean"], axes=[0], keepdims=1)
    return [mean, helper.make_node("Sub", ["y", "mean"], ["z"])]


def mapped(height: int) -> list[onnx.NodeProto]:
    """Make nodes that shape four numbers as (N, 4 / height, height, 1)."""
    shape = np.array([0, DIM // height, height, 1])
    return [_constant("shape", shape), helper.make_node("Reshape", ["y", "shape"], ["z"])]


def switched(flag: str) -> list[onnx.NodeProto]:
    """Make nodes that double the vectors in training."""
    two, one = np.float32(2), np.float32(1)
    made = [_constant("two", two), _constant("one", one)]
    scale = helper.make_node("Where", [flag, "two", "one"], ["scale"])
    return [*made, scale, helper.make_node("Mul", ["y", "scale"], ["z"])]


def _constant(name: str, value: np.ndarray | np.generic) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=numpy_helper.from_array(np.asarray(value), name)
    )


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
