"""SIGINT and SIGTERM: a command ends within seconds, while a model never returns too."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from types import FrameType

from evalkit.errors import EXIT_INTERRUPTED, EXIT_TERMINATED

_PATIENCE_S = 5
_ENDING = {int(signal.SIGINT): EXIT_INTERRUPTED, int(signal.SIGTERM): EXIT_TERMINATED}


def heed() -> None:
    """Make SIGINT and SIGTERM end the process with their exit codes.

    The first raises KeyboardInterrupt or SystemExit in the main thread, once that runs Python, and
    ends ONNX Runtime's passes, so that what was begun is put away.  A second one, or five seconds,
    end the process where it is, and those it started: what evalkit writes is whole at every moment.

    Python's own handler only wakes a thread, which needs the GIL: code that never returns and never
    gives it back is ended by SIGKILL alone.
    """
    signal.signal(signal.SIGTERM, _terminated)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(woken, waker), daemon=True).start()


def _terminated(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_TERMINATED)


def _watch(woken: socket.socket, waker: socket.socket) -> None:
    """Wait for a signal, and after it no longer than is promised; `waker` is kept from closing."""
    ending = _next(woken)
    try:
        if runtime := sys.modules.get("evalkit.adapters.onnx.session"):
            runtime.stop()
        woken.settimeout(_PATIENCE_S)
        _next(woken)
    except TimeoutError:
        os.write(2, b"evalkit: something does not come to an end, and is left\n")
    finally:
        try:
            if processes := sys.modules.get("multiprocessing"):
                for child in processes.active_children():
                    child.kill()
        finally:
            os._exit(_ENDING[ending])


def _next(woken: socket.socket) -> int:
    """Wait for a signal that ends; Python wakes for every one that it handles."""
    while (number := woken.recv(1)[0]) not in _ENDING:
        pass
    return number
