"""OpenVINO networks in evalkit: `--model net.xml`."""

import numpy as np
import openvino
from numpy.typing import NDArray

from evalkit.adapters import answers
from evalkit.adapters.onnx.model import feed
from evalkit.errors import ModelError, UndeclaredInputError
from evalkit.types import InputSpec


class OpenVino:
    """A network compiled for the processor, in float32 unless the file says otherwise."""

    def __init__(self, model: str, *, spec: InputSpec | None, device: str = "auto") -> None:
        if spec is None:
            raise UndeclaredInputError(f"the input spec of {model} is not declared", "add --preset")
        if device not in ("auto", "cpu"):
            raise ModelError(f"{model} runs on the processor, not on {device}")
        self.spec, self.name = spec, model
        # a processor that has bfloat16 would take it for float32 networks
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        self._network = openvino.Core().compile_model(model, "CPU", exact)
        self.runtime = f"openvino {openvino.__version__} CPU"
        shape = self._network.input(0).partial_shape
        batch = shape[0].get_length() if shape[0].is_static else None
        self.dim, self.batch, self.doubt = answers.probe(self.embed, spec, batch, model)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32."""
        vectors = self._network(feed(images, self.spec))[0]
        return np.array(vectors)  # the next call writes into the same memory
