"""Resume file of an interrupted pass: the collectors' state after whole blocks."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.errors import ProtocolError
from evalkit.files import whole_file
from evalkit.protocols.allpairs.collectors import Collector


def save(
    path: Path | None,
    screen: str,
    mark: str,
    blocks: Sequence[Sequence[int]],
    done: set[int],
    collectors: Sequence[Collector],
) -> None:
    """Write the collectors' state over the finished blocks, if there is a checkpoint."""
    if path is None:
        return
    arrays: dict[str, Any] = {
        f"{n}.{name}": a for n, c in enumerate(collectors) for name, a in c.state().items()
    }
    with whole_file(path) as f:
        np.savez(
            f,
            mark=np.array(mark),
            screen=np.array(screen),
            blocks=np.array(blocks, np.int64).reshape(-1, 4),
            done=np.array(sorted(done), np.int64),
            **arrays,
        )


def screen_of(path: Path | None) -> str | None:
    """Read the name of the screen of the job that left the checkpoint; None without one."""
    screen = _part(path, "screen")
    return None if screen is None or str(screen) == "float64" else str(screen)


def blocks_of(path: Path | None) -> list[list[int]] | None:
    """Read the blocks, (i0, i1, j0, j1) each, of the job that left the checkpoint; None without."""
    blocks = _part(path, "blocks")
    return None if blocks is None else blocks.tolist()


def _part(path: Path | None, name: str) -> Any:
    try:
        return None if path is None else _arrays(path, [name])[name]
    except ProtocolError:
        return None  # `restore` reports what is wrong with it


def _arrays(path: Path, names: Sequence[str] = ()) -> dict[str, Any]:
    """Read these arrays of a checkpoint, or all; ProtocolError for another file, or a cut one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names or file.files}
    except (OSError, TypeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise ProtocolError(f"{path} is no checkpoint, or is cut", "give another name") from e


def restore(path: Path | None, mark: str, collectors: Sequence[Collector]) -> set[int]:
    """Merge a checkpoint into fresh collectors; return the numbers of the finished blocks."""
    if path is None or not path.exists() or not path.stat().st_size:
        return set()
    arrays = _arrays(path)
    if "blocks" not in arrays:
        raise ProtocolError(f"{path} is no checkpoint", "give another name")
    if str(arrays.get("mark")) != mark:
        raise ProtocolError(
            f"{path} is the checkpoint of another job", "delete it, or name another file"
        )
    for n, c in enumerate(collectors):
        prefix = f"{n}."
        c.merge({k[len(prefix) :]: a for k, a in arrays.items() if k.startswith(prefix)})
    return set(arrays["done"].tolist())


def digest(*arrays: Any) -> str:
    """SHA-256 of the arrays' bytes."""
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).data)
    return h.hexdigest()
