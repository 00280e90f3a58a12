"""Published weights into a network: no code is run, names are matched, nothing is left unset."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.adapters.torch.model import import_torch
from evalkit.errors import MissingPackageError, ModelError

_COUNTERS = "num_batches_tracked"
Table = Mapping[str, Any]  # tensors by name


def fill(net: Any, path: Path, table: str | None = None) -> None:
    """Copy a checkpoint's tensors into a `torch.nn.Module`, in place.

    path : .safetensors, or what `torch.save` wrote: tensors by name, perhaps inside dictionaries.
    Names may carry a common prefix ("module.", "backbone.") and the file may hold more than the
    network, such as a training head.  table : which of several that fit, such as "ema"; without it
    they are a ModelError, unless all hold the same weights.  ModelError where a tensor of the
    network is missing or has another shape.
    """
    wanted = net.state_dict()
    if not wanted:
        raise ModelError(f"a {type(net).__name__} has no tensors to take from {path.name}")
    tables = list(_tables(_read(path)))
    if not tables:
        raise ModelError(f"{path.name} holds no tensors by name")
    found = {name: one for way, held in tables for name, one in _candidates(wanted, way, held)}
    if table is not None and table not in found:
        raise ModelError(f"{path.name} has no table {table!r}", f"it has {_listed(found)}")
    if table is not None:
        found = {table: found[table]}
    fitting = {name: one for name, one in found.items() if not _misfit(wanted, one)}
    if not fitting:
        best, own = max(found.values(), key=len), next(iter(tables[0][1]))
        raise ModelError(
            f"{path.name} {_misfit(wanted, best)}",
            f"its own names are like {own}: is it for another network, or another size of it?",
        )
    chosen, *others = fitting.values()
    if not all(_same(wanted, chosen, other) for other in others):
        raise ModelError(
            f"{path.name} holds {len(fitting)} tables of weights that fit: {_listed(fitting)}",
            "choose by --weights-table NAME",
        )
    net.load_state_dict({k: chosen[k] for k in wanted if k in chosen}, strict=False)


def _read(path: Path) -> Any:
    torch = import_torch()
    if not path.is_file():
        raise ModelError(f"no weights at {path}")
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as e:
            raise MissingPackageError("safetensors", "torch", f"reading {path.name}") from e
        try:
            return load_file(path)
        except SafetensorError as e:
            raise ModelError(f"{path.name} is not whole safetensors: {e}") from e
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # pickle, zip and storage readers raise many kinds
        program = re.search(r"GLOBAL (\S+)", str(e))
        found = (
            f"it names {program[1]}" if program else f"no file of torch.save ({type(e).__name__})"
        )
        raise ModelError(
            f"{path.name} cannot be read as weights alone: {found}",
            "evalkit runs no code of a checkpoint; save its state_dict, best as safetensors",
        ) from e


def _tables(held: Any, path: str = "") -> Iterator[tuple[str, Table]]:
    """Yield every dictionary of tensors, however deep it is inside others, with the way to it."""
    if not isinstance(held, Mapping):
        return
    torch = import_torch()
    tensors = {str(k): v for k, v in held.items() if isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, one in held.items():
        yield from _tables(one, f"{path}/{key}" if path else str(key))


def _candidates(wanted: Table, path: str, table: Table) -> Iterator[tuple[str, Table]]:
    """Yield what a table has for the network under each prefix, by a name.

    The name is the way to the table and the prefix: "ema", "state_dict/module", "." for neither.
    """
    first = next(iter(wanted))
    for prefix in sorted({k[: -len(first)] for k in table if k.endswith(first)} | {""}):
        name = "/".join(filter(None, (path, prefix.rstrip(".")))) or "."
        yield name, {k: table[prefix + k] for k in wanted if prefix + k in table}


def _misfit(wanted: Table, table: Table) -> str:
    """Say what a table lacks of the network's tensors, or has in another shape; empty if nothing.

    Counters of training are absent from old files, and change nothing.
    """
    missing = [k for k in wanted if k not in table and not k.endswith(_COUNTERS)]
    if missing:
        return f"lacks {len(missing)} of the network's {len(wanted)} tensors, first {missing[0]}"
    for k, x in table.items():
        if x.shape != wanted[k].shape:
            shape, right = tuple(x.shape), tuple(wanted[k].shape)
            return f"has {k} of shape {shape}, the network wants {right}"
    return ""


def _same(wanted: Table, a: Table, b: Table) -> bool:
    torch = import_torch()
    return all(torch.equal(a[k], b[k]) for k in wanted if not k.endswith(_COUNTERS))


def _listed(tables: Iterable[str]) -> str:
    return ", ".join(sorted(tables))
