"""LiteRT (TensorFlow Lite) networks in evalkit: `--model net.tflite`."""

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from evalkit.adapters import answers
from evalkit.adapters.onnx.model import feed
from evalkit.errors import ModelError, UndeclaredInputError
from evalkit.types import InputSpec


class LiteRT:
    """A network of floats, or one whose input or output is quantised.

    Its axes are (N, H, W, C) unless its first image axis is that of the colours.
    """

    def __init__(self, model: str, *, spec: InputSpec | None, device: str = "auto") -> None:
        if spec is None:
            raise UndeclaredInputError(f"the input spec of {model} is not declared", "add --preset")
        if device not in ("auto", "cpu"):
            raise ModelError(f"{model} runs on the processor, not on {device}")
        self._network = Interpreter(model_path=model, num_threads=1)
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]
        self._output = self._network.get_output_details()[0]
        shape = self._input["shape"]
        self.spec = replace(spec, layout="nchw" if shape[1] == spec.channels else "nhwc")
        self.name = model
        kind = np.dtype(self._input["dtype"])
        self.runtime = f"ai-edge-litert {version('ai-edge-litert')} {kind}"
        self.dim, self.batch, self.doubt = answers.probe(self.embed, self.spec, shape[0], model)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8, N as the network takes them, into (N, D) float32."""
        x = _quantised(feed(images, self.spec), self._input)
        self._network.set_tensor(self._input["index"], x)
        self._network.invoke()
        return _floats(self._network.get_tensor(self._output["index"]), self._output)


def _quantised(x: NDArray[np.float32], tensor: dict[str, Any]) -> NDArray[Any]:
    """Round numbers to a tensor's steps: value = scale x (number - zero point)."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return x.astype(tensor["dtype"], copy=False)
    ends = np.iinfo(tensor["dtype"])
    return np.rint(x / scale + zero_point).clip(ends.min, ends.max).astype(tensor["dtype"])


def _floats(y: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    """Give the values of a tensor's numbers."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return y.astype(np.float32, copy=False)
    return (np.float32(scale) * (y.astype(np.int32) - zero_point)).astype(np.float32)
