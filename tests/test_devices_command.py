"""`evalkit devices` on machines with and without a GPU, its driver and its packages."""

from typing import Any

import pytest

from evalkit.adapters import gpus
from evalkit.adapters.gpus import Driver, Gpu
from evalkit.cli import run

pytestmark = pytest.mark.once


def test_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(
        gpus, "driver", lambda: Driver("", (), "no NVIDIA driver is installed here")
    )
    assert run(["devices"]) == 0
    told = capsys.readouterr().out
    assert "driver       none\n" in told
    assert "GPUs         none: no NVIDIA driver is installed here\n" in told
    assert "on the processor: this onnxruntime is built for processors alone" in told
    assert "all pairs    on the processor: torch finds no GPU" in told


def test_a_machine_with_a_gpu_and_its_missing_pieces(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from evalkit.adapters.onnx import session
    from evalkit.protocols.allpairs.screening import choice

    card = Gpu(0, "NVIDIA H200", 150 << 30)
    monkeypatch.setattr(gpus, "driver", lambda: Driver("13.0", (card,), ""))
    monkeypatch.setattr(session, "gpu_problem", lambda: "Failed to load libcublasLt.so.13")
    missing = {"triton-int8": "CompilationError: int8 is not for sm_75"}
    monkeypatch.setattr(choice, "problem", lambda way: missing.get(way, ""))
    assert run(["devices"]) == 0
    told = capsys.readouterr().out
    assert "driver       CUDA 13.0\ncuda:0       NVIDIA H200, 150.0 GiB\n" in told
    assert "on the processor: Failed to load libcublasLt.so.13\n" in told
    ways = "triton-float32, cuda-int8, cuda-float32"
    assert f"all pairs    {ways}; not the others: CompilationError: int8 is not for sm_75\n" in told


def test_packages_that_are_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from evalkit.cli import devices
    from evalkit.protocols.allpairs.screening import choice

    for module in (devices, choice):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert run(["devices"]) == 0
    told = capsys.readouterr().out
    assert "onnxruntime  not installed; for ONNX models: pip install 'face-evalkit[gpu]'" in told
    assert "all pairs    on the processor: it needs torch" in told


def test_the_smallest_model_is_one() -> None:
    import numpy as np
    import onnxruntime

    from evalkit.adapters.onnx import session

    started = session._session(session._SMALLEST, 1, [session.CPU])
    assert started.run(None, {"x": np.array([-2], np.float32)})[0].tolist() == [0]
    assert ("CUDAExecutionProvider" in onnxruntime.get_available_providers()) or (
        session.gpu_problem() == "this onnxruntime is built for processors alone"
    )
