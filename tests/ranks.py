"""What a process of a distributed run does, for tests that start it by multiprocessing."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_networks import Plain

import evalkit
from evalkit.adapters.presets import build
from evalkit.errors import ModelError
from evalkit.training import Verifier
from evalkit.types import InputSpec

SPEC = build({"size": (8, 8), "color": "rgb", "mean": 0, "std": 255})


def join(rank: int, size: int, store: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        store=torch.distributed.FileStore(str(store), size),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=60),
    )


def verify(rank: int, size: int, folder: Path, dies: bool = False) -> None:
    """Measure a network; rank 0 writes the report, each what it saw."""
    join(rank, size, folder / f"store{size}{dies}")
    net, seen = Plain(), []
    net.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    lines: list[str] = []
    verify = Verifier(folder / "set.bin", spec=SPEC, batch=8, timeout=30, log=lines.append)
    if dies and rank == size - 1:
        net.register_forward_hook(lambda *_: os._exit(9))
    try:
        verify(net, 0)
    except Exception as e:
        (folder / f"error{rank}").write_text(str(e))
        os._exit(3)
    if verify.reports is not None:
        verify.reports["set"].save(folder / f"{size}.json")
    told = [verify.best, verify.value, verify.improved, len(lines), sum(seen)]
    (folder / f"told{size}.{rank}").write_text(repr(told))


def shard(rank: int, size: int, folder: Path, spec: InputSpec, images: NDArray[np.uint8]) -> None:
    """Measure networks under FSDP: refused, then whole, then trained on as if it had not been."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    warnings.simplefilter("ignore")  # torch's of itself; one rank has nothing to shard
    join(rank, size, folder / "store")
    expected = evalkit.load_model(Plain(), spec=spec).embed(images)
    for kind in (False, True, None):
        net, spared = sharded(kind, size), sharded(kind, size)
        with pytest.raises(ModelError, match=r"\(FSDP\)") as refused:
            evalkit.load_model(net, spec=spec)
        options = StateDictOptions(full_state_dict=True)
        assert "options=StateDictOptions(full_state_dict=True)" in refused.value.hint
        copied = Plain()
        copied.load_state_dict(get_model_state_dict(net, options=options))
        made = evalkit.load_model(copied, spec=spec).embed(images)
        np.testing.assert_array_equal(made, expected)
        with whole(net, kind):
            before = state(net)
            made = evalkit.load_model(net, spec=spec).embed(images)
            np.testing.assert_array_equal(made, expected)
            assert state(net) == before
        with whole(spared, kind):
            pass
        assert trained(net) == trained(spared)
    (folder / f"done{rank}").touch()
    torch.distributed.destroy_process_group()


def sharded(original: bool | None, size: int) -> Any:
    """Make a network with one layer of its own shards; None for FSDP's second kind."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    net: Any = Plain()
    if original is None:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (size,))
        fully_shard(net.fc, mesh=mesh)
        return fully_shard(net, mesh=mesh)
    how = {"device_id": torch.device("cpu"), "use_orig_params": original}
    net.fc = FullyShardedDataParallel(net.fc, **how)
    return FullyShardedDataParallel(net, **how)


@contextmanager
def whole(net: Any, original: bool | None) -> Iterator[None]:
    """Gather the weights of a network on every rank, for the time."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    if original is not None:
        with FullyShardedDataParallel.summon_full_params(net):
            yield
        return
    layers = (net, net.fc)
    for layer in layers:
        layer.unshard()
    yield
    for layer in layers:
        layer.reshard()


def state(net: Any) -> list[Any]:
    """All that a measurement must leave: places, strides, values, flags, modes, hooks."""
    tensors = [*net.named_parameters(), *net.named_buffers()]
    held = [
        (name, one.data_ptr(), one.stride(), one.tolist(), one.requires_grad)
        for name, one in tensors
    ]
    layers = [
        (layer.training, sorted(vars(layer)), [*layer._forward_hooks], [*layer._forward_pre_hooks])
        for layer in net.modules()
    ]
    return [held, layers, torch.get_rng_state().tolist()]


def trained(net: Any) -> list[float]:
    """Losses of two steps of training."""
    steps = torch.optim.SGD(net.parameters(), 1e-3)
    losses = []
    for _ in range(2):
        loss = net(torch.ones(2, 3, 8, 8)).pow(2).mean()
        loss.backward()
        steps.step()
        steps.zero_grad()
        losses.append(loss.item())
    return losses
