"""Loading of published weights: no code runs, names are matched, every tensor is set."""

from __future__ import annotations

import os
import re
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from evalkit.adapters.torch.model import import_torch
from evalkit.errors import ModelError, needing
from evalkit.files import as_path, refuse_lfs_pointer

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # of numpy 1 and 2
_COUNTERS = "num_batches_tracked"
Table = Mapping[str, Any]  # tensors by name


def fill(net: Any, path: str | os.PathLike[str], table: str | None = None) -> None:
    """Copy a checkpoint's tensors into a `torch.nn.Module`, in place.

    path : .safetensors, or what `torch.save` wrote: tensors by name, perhaps inside dictionaries.
    Names may carry a common prefix ("module.", "backbone.") and the file may hold more than the
    network, such as a training head.  table : which of several that fit, such as "ema"; without it
    they are a ModelError, unless all hold the same weights.  ModelError where a tensor of the
    network is missing or has another shape.
    """
    path = as_path(path)
    needed = net.state_dict()
    if not needed:
        raise ModelError(f"a {type(net).__name__} has no tensors to take from {path.name}")
    tables = list(_tables(_read(path)))
    if not tables:
        raise ModelError(f"{path.name} holds no tensors by name")
    candidates = {
        name: one for way, inner in tables for name, one in _candidates(needed, way, inner)
    }
    if table is not None and table not in candidates:
        raise ModelError(f"{path.name} has no table {table!r}", f"it has {_listed(candidates)}")
    if table is not None:
        candidates = {table: candidates[table]}
    fitting = {name: one for name, one in candidates.items() if not _misfit(needed, one)}
    if not fitting:
        best, own = max(candidates.values(), key=len), next(iter(tables[0][1]))
        raise ModelError(
            f"{path.name} {_misfit(needed, best)}",
            f"its own names are like {own}: is it for another network, or another size of it?",
        )
    chosen, *others = fitting.values()
    if not all(_same(needed, chosen, other) for other in others):
        raise ModelError(
            f"{path.name} holds {len(fitting)} tables of weights that fit: {_listed(fitting)}",
            "choose by --weights-table NAME",
        )
    net.load_state_dict({k: chosen[k] for k in needed if k in chosen}, strict=False)


def _read(path: Path) -> Any:
    torch = import_torch()
    if not path.is_file():
        raise ModelError(f"no weights at {path}")
    refuse_lfs_pointer(path, ModelError)
    if path.suffix == ".safetensors":
        with needing("safetensors", "torch", f"reading {path.name}"):
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        try:
            return load_file(path)
        except SafetensorError as e:
            raise ModelError(f"{path.name} is not whole safetensors: {e}") from e
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # pickle, zip and storage readers raise many kinds
        program = re.search(r"GLOBAL (\S+)", str(e))
        reason = re.search(r"WeightsUnpickler error: (.+)", str(e))
        problem = f"no file of torch.save ({reason[1] if reason else type(e).__name__})"
        hint = "evalkit runs no code of a checkpoint; save its state_dict, best as safetensors"
        if program:
            problem = f"it names {program[1]}"
        elif "TorchScript archive" in str(e):
            problem, hint = (
                "it is TorchScript, a whole network",
                f"--model {path.with_suffix('.pt')}",
            )
        elif not reason:
            hint = "is it whole? compare its size with the original's"
        raise ModelError(f"{path.name} cannot be read as weights alone: {problem}", hint) from e


class _OfNumpy:
    """What stands for a number, array or type of numpy's beside the weights, and holds nothing.

    numpy's own types take a state that ends the process.
    """

    def __init__(self, *_: Any) -> None:
        """Take whatever it is made of."""

    def __setstate__(self, _: Any) -> None:
        """Take whatever it holds."""


def _harmless() -> list[Any]:
    """List what training loops keep beside the weights, and what runs nobody's code.

    What is numpy's (as `_OfNumpy`), options as `argparse` parses them, paths.
    """
    makers = [f"{module}.{make}" for module in _MULTIARRAY for make in ("_reconstruct", "scalar")]
    return [
        *((_OfNumpy, name) for name in ("numpy.ndarray", "numpy.dtype", *makers)),
        Namespace,
        *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    ]


def _tables(value: Any, path: str = "") -> Iterator[tuple[str, Table]]:
    """Yield every dictionary of tensors, nested ones included, with its path."""
    if not isinstance(value, Mapping):
        return
    torch = import_torch()
    tensors = {str(k): v for k, v in value.items() if isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, one in value.items():
        yield from _tables(one, f"{path}/{key}" if path else str(key))


def _candidates(needed: Table, path: str, table: Table) -> Iterator[tuple[str, Table]]:
    """Yield a table's tensors for the network under each prefix, by a name.

    The name is the path of the table and the prefix: "ema", "state_dict/module", "." for neither.
    """
    first = next(iter(needed))
    for prefix in sorted({k[: -len(first)] for k in table if k.endswith(first)} | {""}):
        name = "/".join(filter(None, (path, prefix.rstrip(".")))) or "."
        yield name, {k: table[prefix + k] for k in needed if prefix + k in table}


def _misfit(needed: Table, table: Table) -> str:
    """Describe tensors that a table lacks or has in another shape; empty where all fit.

    Counters of training are absent from old files, and change nothing.
    """
    missing = [k for k in needed if k not in table and not k.endswith(_COUNTERS)]
    if missing:
        return f"lacks {len(missing)} of the network's {len(needed)} tensors, first {missing[0]}"
    for k, x in table.items():
        if x.shape != needed[k].shape:
            shape, right = tuple(x.shape), tuple(needed[k].shape)
            return f"has {k} of shape {shape}, the network wants {right}"
    return ""


def _same(needed: Table, a: Table, b: Table) -> bool:
    torch = import_torch()
    return all(torch.equal(a[k], b[k]) for k in needed if not k.endswith(_COUNTERS))


def _listed(tables: Iterable[str]) -> str:
    return ", ".join(sorted(tables))
