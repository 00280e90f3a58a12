"""Float32 that means it in torch: no TF32, no bfloat16, whatever the program around allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

_lock = threading.Lock()
_held: list[Any] = []  # what to give back; empty while nobody is inside
_inside = 0


@contextmanager
def float32_is_float32() -> Iterator[None]:
    """Context in which torch's float32 products and convolutions are IEEE float32.

    On every device and in every thread, whether the program around set torch's newer switches
    (`fp32_precision`) or its older ones (`allow_tf32`, `set_float32_matmul_precision`). Threads may
    be inside at once; the last one out gives back what the first one found.
    """
    global _inside
    with _lock:
        if not _inside:
            _held[:] = _exact()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _give_back(*_held)


def _exact() -> tuple[list[tuple[Callable[[Any], None], Any]], list[tuple[Any, str]]]:
    """Set every switch; return the older ones' setters with what they were, and the newer ones."""
    from torch import backends, get_float32_matmul_precision, set_float32_matmul_precision

    precisions = [(switch, switch.fp32_precision) for switch in _switches()]
    older: list[tuple[Callable[[Any], None], Any]] = []
    # torch refuses products where its older and newer switches differ.
    with suppress(RuntimeError):  # they do: the program mixes them
        older.append((set_float32_matmul_precision, get_float32_matmul_precision()))
        set_float32_matmul_precision("highest")
    with suppress(RuntimeError):
        older.append((partial(setattr, backends.cudnn, "allow_tf32"), backends.cudnn.allow_tf32))
        backends.cudnn.allow_tf32 = False
    for switch, _ in precisions:
        switch.fp32_precision = "ieee"
    return older, precisions


def _give_back(
    older: list[tuple[Callable[[Any], None], Any]], found: list[tuple[Any, str]]
) -> None:
    for give, before in older:
        give(before)
    for switch, was in found:
        switch.fp32_precision = "none"  # as a more general switch has it
        if switch.fp32_precision != was:
            switch.fp32_precision = was


def _switches() -> list[Any]:
    import torch

    backends: Any = torch.backends  # whose types lag behind
    of_gpu = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    return [*of_gpu, backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
