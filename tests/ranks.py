"""What a process of a distributed run does, for `test_training`; started by multiprocessing."""

import os
from datetime import timedelta
from pathlib import Path

import torch
from small_networks import Plain

from evalkit.adapters.presets import build
from evalkit.training import Verifier

SPEC = build({"size": (8, 8), "color": "rgb", "mean": 0, "std": 255})


def verify(rank: int, size: int, folder: Path, dies: bool = False) -> None:
    """Measure a network; rank 0 writes the report, each what it saw."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / f"store{size}{dies}"), size)
    torch.distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
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
