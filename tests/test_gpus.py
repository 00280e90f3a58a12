"""GPUs as the driver names them, on a driver of our own: no GPU is needed."""

import ctypes
from typing import Any

import pytest

from evalkit.adapters import gpus
from evalkit.adapters.gpus import Driver, Gpu
from evalkit.memory import is_out_of_memory

pytestmark = pytest.mark.once


class Library:
    """CUDA's driver with some GPUs; every call gets what ctypes would hand to C."""

    def __init__(self, names: list[str], code: int = 0) -> None:
        self.names, self.code = names, code

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12080
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, handle: Any, number: int) -> int:
        handle._obj.value = number + 7
        return 0

    def cuDeviceGetName(self, name: Any, room: int, handle: ctypes.c_int) -> int:
        name.value = self.names[handle.value - 7].encode()[: room - 1]
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, handle: ctypes.c_int) -> int:
        memory._obj.value = (handle.value - 6) << 30
        return 0


@pytest.mark.parametrize(
    ("library", "found"),
    [
        (Library(["A100", "H200"]), (Gpu(0, "A100", 1 << 30), Gpu(1, "H200", 2 << 30))),
        (Library([]), "CUDA_VISIBLE_DEVICES lets no GPU through"),
        (Library([], 100), "an NVIDIA driver is installed, but it sees no GPU"),
        (Library([], 803), "an NVIDIA driver is installed, but it answers with error 803"),
    ],
)
def test_what_the_driver_says(
    library: Library, found: tuple[Gpu, ...] | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "_library", lambda: library)
    some, problem = ((), found) if isinstance(found, str) else (found, "")
    assert gpus.driver() == Driver("12.8", some, problem)
    assert gpus.name_of(1) == ("H200" if some else "GPU 1")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(gpus, "_library", missing)
    assert gpus.driver() == Driver("", (), "no NVIDIA driver is installed here")


@pytest.mark.parametrize(
    ("text", "ran_out"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer", True),
        ("Available memory of 0 is smaller than requested bytes of 256", True),
        ("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", True),
        ("std::bad_alloc", True),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED", False),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_words_for_memory_that_ran_out(text: str, ran_out: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) is ran_out
    assert is_out_of_memory(MemoryError())
