"""The run that a GPU is proved by runs to its end on a processor, and tells what is wrong."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.once
SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("torch")
    if not SCRIPT.is_file():
        pytest.skip("benchmarks are not in a source distribution")
    from evalkit.protocols.allpairs.kernels import by_torch

    monkeypatch.setattr(by_torch, "GPU", None)  # a dry run, also where there is one
    spec = importlib.util.spec_from_file_location("benchmark_of_gpus", SCRIPT)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    return made


def test_a_dry_run_ends_well(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [c.__name__ for c in benchmark.CHECKS if c.__name__ != "network"]
    assert benchmark.main(["--dry", *checks]) == 0
    told = capsys.readouterr().out
    assert told.count("OK    answers") == 3 and "WRONG" not in told


def test_a_wrong_product_is_told(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from evalkit.protocols.allpairs.kernels import on_gpu

    right = on_gpu.sift

    def wrong(*tile: Any) -> Any:
        return right(*tile)._replace(key=np.zeros(1))

    monkeypatch.setattr(on_gpu, "sift", wrong)
    assert benchmark.main(["--dry", "usable", "extremes"]) == 1
    told = capsys.readouterr().out
    assert "WRONG usable cuda-int8" in told and "WRONG extremes of 512 cuda-int8" in told


def test_without_a_gpu_it_says_so(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([])
    assert "no GPU: " in capsys.readouterr().err
