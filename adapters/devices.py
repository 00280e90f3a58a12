"""One model on several devices of a machine, with one process per device."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.adapters import calling
from evalkit.adapters.contract import fingerprint
from evalkit.errors import EvalkitError, ModelError

_LANES = 2  # passes at once on a device, if its adapter allows: one is copied, one computed


class OnDevices:
    """An adapter that sends each pass to a free device.

    make : makes the adapter of a `device`, picklable; called once in each process.
    The devices must give the same vectors, so they must be of one kind: a ModelError otherwise.
    A process ends with the one that started it, however that ends.
    """

    fills_passes = True

    def __init__(self, make: Callable[..., Any], devices: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._idle: queue.Queue[tuple[Any, str, Connection]] = queue.Queue()
        lanes = []
        for device in devices:
            pipes = [context.Pipe() for _ in range(_LANES)]
            theirs = [pipe[1] for pipe in pipes]
            process = context.Process(target=_serve, args=(make, device, theirs), daemon=True)
            process.start()
            for pipe in theirs:
                pipe.close()
            lanes.append([(process, device, pipe[0]) for pipe in pipes])
        replies = [_answer(*first) for first, *_ in lanes]
        self.spec, self.dim, self.fingerprint, self.runtime, self.batch, at_once = replies[0]
        if any(one != replies[0] for one in replies):
            raise ModelError(
                f"the devices {', '.join(devices)} differ: {replies[0][3]}, "
                f"{next(one for one in replies if one != replies[0])[3]}",
                "give devices of one kind, whose vectors are the same",
            )
        self.streams = at_once * len(devices)
        for of_device in lanes:
            for lane in of_device[:at_once]:
                self._idle.put(lane)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn (N, H, W, 3) RGB uint8 into (N, D) float32 on the next free device."""
        lane = self._idle.get()
        try:
            lane[2].send(images)
            rows: NDArray[np.float32] = _answer(*lane)
        except OSError as e:
            raise _ended(lane[0], lane[1]) from e
        finally:
            self._idle.put(lane)
        return rows


def _answer(process: Any, device: str, pipe: Connection) -> Any:
    try:
        kind, reply = pipe.recv()
    except (EOFError, OSError) as e:
        raise _ended(process, device) from e
    if kind == "memory":
        raise MemoryError(reply)
    if kind == "failed":
        raise ModelError(f"{device}: {reply[0]}", reply[1])
    return reply


def _ended(process: Any, device: str) -> ModelError:
    process.join(1)
    return ModelError(
        f"the process on {device} ended with {process.exitcode}",
        "run the same command again; it goes on where it stopped",
    )


def _serve(make: Callable[..., Any], device: str, pipes: list[Connection]) -> None:
    """Embed the images sent through the pipes, one thread per pipe, until the sender is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides
    sys.stdout = sys.stderr  # a result alone goes there, whatever the model prints
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        adapter = make(device=device)
    except EvalkitError as e:
        pipes[0].send(("failed", (e.message, e.hint)))
        return
    line = str(getattr(adapter, "runtime", type(adapter).__name__))
    batch = getattr(adapter, "batch", None)
    at_once = min(_LANES, getattr(adapter, "streams", 1))
    description = (adapter.spec, adapter.dim, fingerprint(adapter), line, batch, at_once)
    pipes[0].send(("made", description))
    with ThreadPoolExecutor(len(pipes)) as threads:
        for _ in threads.map(lambda pipe: _lane(adapter, pipe), pipes):
            pass


def _end_with_parent() -> None:
    """End this process when its parent ends, even during a pass that never returns."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _lane(adapter: Any, pipe: Connection) -> None:
    while True:
        try:
            images = pipe.recv()
        except (EOFError, OSError):
            return
        answer: tuple[str, Any]
        try:
            answer = ("rows", calling.embed(adapter, images))
        except MemoryError as e:
            answer = ("memory", str(e))
        except EvalkitError as e:
            answer = ("failed", (e.message, e.hint))
        try:
            pipe.send(answer)
        except OSError:
            return
