"""Published weights into a network: no code is run, names are matched, nothing is left unset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.adapters.torch_model import import_torch
from evalkit.errors import MissingPackageError, ModelError


def fill(net: Any, path: Path) -> None:
    """Copy a checkpoint's tensors into a `torch.nn.Module`, in place.

    path : .safetensors, or what `torch.save` wrote: tensors by name, perhaps inside dictionaries.
    Names may carry a common prefix ("module.", "backbone.") and the file may hold more than the
    network, such as a training head. ModelError where a tensor of the network is missing or has
    another shape.
    """
    wanted = net.state_dict()
    tables = list(_tables(_read(path)))
    if not tables:
        raise ModelError(f"{path.name} holds no tensors by name")
    best = max((_matched(wanted, table) for table in tables), key=len)
    counters = "num_batches_tracked"  # statistics of training, absent from old files
    missing = [k for k in wanted if k not in best and not k.endswith(counters)]
    if missing:
        raise ModelError(
            f"{path.name} lacks {len(missing)} of the network's {len(wanted)} tensors, "
            f"first {missing[0]}",
            f"its own names are like {next(iter(tables[0]))}: is it for another network?",
        )
    for name, tensor in best.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{path.name}: {name} has shape {tuple(tensor.shape)}, "
                f"the network wants {tuple(wanted[name].shape)}",
                "is it for another size of the network?",
            )
    net.load_state_dict(best, strict=False)


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


def _tables(held: Any) -> Any:
    """Yield every dictionary of tensors, however deep it is inside others."""
    if not isinstance(held, Mapping):
        return
    torch = import_torch()
    tensors = {str(k): v for k, v in held.items() if isinstance(v, torch.Tensor)}
    if tensors:
        yield tensors
    for one in held.values():
        yield from _tables(one)


def _matched(wanted: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Take the network's tensors out of a table, under the prefix that finds most of them."""
    first = next(iter(wanted))
    prefixes = {k[: -len(first)] for k in table if k.endswith(first)} | {""}
    return max(
        ({k: table[p + k] for k in wanted if p + k in table} for p in sorted(prefixes)), key=len
    )
