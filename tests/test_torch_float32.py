"""Float32 is float32 in torch, whatever the program around it allows, and is given back."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import evalkit  # noqa: E402 - only with torch
from evalkit.protocols import allpairs  # noqa: E402
from evalkit.protocols.allpairs import Engine  # noqa: E402
from evalkit.torch_float32 import float32_is_float32  # noqa: E402
from evalkit.types import InputSpec  # noqa: E402

pytestmark = pytest.mark.once
BACKENDS: Any = torch.backends
SWITCHES = [  # torch's documentation of fp32_precision
    *(BACKENDS.cuda.matmul, BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn),
    *(BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv, BACKENDS.mkldnn.rnn),
]


def allow_everything() -> None:
    BACKENDS.fp32_precision = "tf32"


def allow_bfloat16() -> None:
    BACKENDS.mkldnn.conv.fp32_precision = BACKENDS.mkldnn.matmul.fp32_precision = "bf16"


def allow_by_the_older_switches() -> None:
    torch.set_float32_matmul_precision("medium")


def forbid_convolutions() -> None:
    BACKENDS.cudnn.allow_tf32 = False


ALLOW = [lambda: None, allow_everything, allow_bfloat16, allow_by_the_older_switches]


def state() -> list[Any]:
    """Everything a program can read of the switches, old and new, a refusal included."""
    older = [
        lambda: BACKENDS.cuda.matmul.allow_tf32,
        lambda: BACKENDS.cudnn.allow_tf32,
        torch.get_float32_matmul_precision,
    ]
    found = [BACKENDS.fp32_precision, *(switch.fp32_precision for switch in SWITCHES)]
    for read in older:
        try:
            found.append(read())
        except RuntimeError:
            found.append("refused")
    return found


@pytest.fixture(params=[*ALLOW, forbid_convolutions], ids=lambda f: f.__name__)
def allowed(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """The state of the switches that a program has set, put back after the test."""
    at_first = [(switch, switch.fp32_precision) for switch in SWITCHES]
    request.param()
    yield state()
    BACKENDS.fp32_precision = "none"
    BACKENDS.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")
    for switch, before in at_first:
        switch.fp32_precision = before


def test_every_switch_is_exact_inside_and_given_back(allowed: list[Any]) -> None:
    with float32_is_float32():
        with float32_is_float32():
            pass
        assert {switch.fp32_precision for switch in SWITCHES} == {"ieee"}
        assert not BACKENDS.cuda.matmul.allow_tf32  # torch's own products ask it, and may refuse
    assert state() == allowed


def test_a_network_computes_in_float32(allowed: list[Any]) -> None:
    seen = list[set[str]]()

    class Watched(torch.nn.Flatten):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            seen.append({switch.fp32_precision for switch in SWITCHES})
            return super().forward(x)

    spec = InputSpec(size=(2, 2), color="rgb", mean=(0.0,) * 3, std=(1.0,) * 3)
    model: Callable[..., Any] = evalkit.load_model(Watched(), spec=spec).embed
    model(np.zeros((1, 2, 2, 3), np.uint8))
    assert seen and all(one == {"ieee"} for one in seen)
    assert state() == allowed


def test_all_pairs_are_exact(allowed: list[Any]) -> None:
    x = np.random.default_rng(3).normal(size=(300, 64)).astype(np.float32)
    a, fars = np.arange(300) // 4, ["0.3", "0.1", "1e-2"]
    true = allpairs.verify(x, a, fars=fars, engine=Engine(screen="float32"))
    assert allpairs.verify(x, a, fars=fars, engine=Engine(screen="torch-float32")) == true
    assert state() == allowed
