"""A network behind a REST service in evalkit: `--model rest:http://localhost:8000/embed`."""

import io
import json
import urllib.error
import urllib.request

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import answers
from evalkit.errors import ModelError, UndeclaredInputError
from evalkit.types import InputSpec

TIMEOUT = 60.0  # seconds
TOO_LARGE = 413  # the answer to more images than the service takes at once


class Rest:
    """A service that takes images and gives a vector of each.

    It is sent a POST with an .npy file, (N, H, W, 3) RGB uint8, and answers with JSON: N lists of
    numbers.  Of `spec` it sees size and crop alone: colours and normalisation are the service's.
    """

    def __init__(self, model: str, *, spec: InputSpec | None, device: str = "auto") -> None:
        self._url = model.partition(":")[2]
        if not self._url.startswith(("http://", "https://")):
            raise ModelError(f"{model} names no service", "give rest:http://HOST:PORT/PATH")
        if spec is None:
            raise UndeclaredInputError(
                f"nothing says what images {self._url} wants", "add --preset, for size and crop"
            )
        self.spec, self.name, self.runtime = spec, model, f"REST {self._url}"
        self.dim, self.batch, self.doubt = answers.probe(self.embed, spec, None, model)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32."""
        body = io.BytesIO()
        np.save(body, images)
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self._url, body.getvalue(), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return np.asarray(json.load(answer), np.float32)
        except urllib.error.HTTPError as e:
            if e.code == TOO_LARGE:
                raise MemoryError(f"{self._url} takes fewer than {len(images)} images") from e
            raise ModelError(f"{self._url} answers {e.code} {e.reason}") from e
        except (OSError, ValueError) as e:
            raise ModelError(f"{self._url} gives no vectors: {e}", "does the service run?") from e
