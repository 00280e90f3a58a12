"""NVIDIA GPUs that this process may use, as their driver names them; needs no other package."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU; `number` counts those that CUDA_VISIBLE_DEVICES lets through."""

    number: int
    name: str
    memory: int  # bytes


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says: the newest CUDA it can run, "13.0", its GPUs, and why there are none.

    cuda : "" where there is no driver.  problem : "" where there is a GPU.
    """

    cuda: str
    gpus: tuple[Gpu, ...]
    problem: str


def driver() -> Driver:
    """Ask the driver for its GPUs; none and the reason where something is missing."""
    try:
        library = _library()
    except OSError:
        return Driver("", (), "no NVIDIA driver is installed here")
    code = library.cuInit(0)
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    if code:
        named = "it sees no GPU" if code == _NO_DEVICE else f"it answers with error {code}"
        return Driver(cuda, (), f"an NVIDIA driver is installed, but {named}")
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    devices = tuple(_gpu(library, number) for number in range(count.value))
    return Driver(cuda, devices, "" if devices else "CUDA_VISIBLE_DEVICES lets no GPU through")


def name_of(number: int) -> str:
    """Name of a GPU, such as "NVIDIA H200"; "GPU 3" where the driver does not tell."""
    names = {gpu.number: gpu.name for gpu in driver().gpus}
    return names.get(number, f"GPU {number}")


def _library() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _gpu(library: Any, number: int) -> Gpu:
    handle, memory = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(100)
    library.cuDeviceGet(ctypes.byref(handle), number)
    library.cuDeviceGetName(name, len(name), handle)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
    return Gpu(number, name.value.decode("utf-8", "replace"), memory.value)
