"""LiteRT models of a few numbers, made for a test: they embed 8x8 images in four dimensions."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from small_models import DIM, SIZE

KINDS = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8}
NUMBERS = 3 * SIZE * SIZE


def save(path: Path, by: NDArray[np.float32], steps: float = 0.0, zero_point: int = 0) -> Path:
    """Write a model that flattens an NHWC image and multiplies it by `by`, (D, H x W x 3).

    steps : quantise it: a step of the input, whose zero point is `zero_point`.
    """
    kind = "int8" if steps else "float32"
    weight = float(np.abs(by).max()) / 127
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT() for _ in range(5)]
    held = np.rint(by / weight).astype(np.int8) if steps else by.astype(np.float32)
    model.buffers[2].data = np.frombuffer(held.tobytes(), np.uint8)
    model.buffers[4].data = np.frombuffer(np.int32([1, NUMBERS]).tobytes(), np.uint8)
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("x", [1, SIZE, SIZE, 3], kind, 0, steps, zero_point),
        _tensor("flat", [1, NUMBERS], kind, 1, steps, zero_point),
        _tensor("w", [DIM, NUMBERS], kind, 2, weight if steps else 0.0, 0),
        _tensor("y", [1, DIM], kind, 3, 0.5 if steps else 0.0, 3),
        _tensor("shape", [2], "int32", 4, 0.0, 0),
    ]
    graph.inputs, graph.outputs = [0], [3]
    model.operatorCodes = [_code(name) for name in ("RESHAPE", "FULLY_CONNECTED")]
    graph.operators = [
        _operator(0, [0, 4], [1], schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()),
        _operator(
            1,
            [1, 2, -1],
            [3],
            schema.BuiltinOptions.FullyConnectedOptions,
            schema.FullyConnectedOptionsT(),
        ),
    ]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(
    name: str, shape: list[int], kind: str, buffer: int, scale: float, zero_point: int
) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
    tensor.type = KINDS.get(kind, schema.TensorType.INT32)
    if scale:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    return tensor


def _code(name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    return code


def _operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator
