"""Options of commands that compare all pairs: memory, cluster, checkpoint, screen."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from evalkit.cli.options import cluster_option
from evalkit.cli.output import bar
from evalkit.cli.parameters import Number, Writable
from evalkit.cli.terminal import say
from evalkit.protocols.allpairs import Engine
from evalkit.protocols.allpairs.screening.choice import SCREENS
from evalkit.replacing import CHECKPOINT

if TYPE_CHECKING:
    from evalkit.cli.vector_options import VectorSource
    from evalkit.cluster import Cluster


GIB = 1 << 30
_memory = click.option(
    "--memory",
    type=Number(min=0, max=1 << 20, min_open=True),
    metavar="GIB",
    default=1,
    help="GiB of memory for comparing all pairs, beside the features. No number depends on it.",
)


def memory_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--memory`; the command receives an `engine` that obeys it."""

    @functools.wraps(command)
    def with_engine(*args: Any, memory: float, **given: Any) -> Any:
        with bar("pairs", "pair") as progress:
            engine = Engine(memory=int(memory * GIB), progress=progress)
            return command(*args, engine=engine, **given)

    return _memory(with_engine)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command, which has a `source`, receives a `cluster` and an `engine`.

    The engine's checkpoints stay until the command forgets them.
    """

    @functools.wraps(command)
    def with_engine(
        *args: Any,
        source: VectorSource,
        cluster: Cluster | None,
        checkpoint: Path | None,
        screen: str,
        memory: float,
        **given: Any,
    ) -> Any:
        if source.choice.model.options.get("device") == "cpu" and screen == "auto":
            screen = "cpu"
        with bar("pairs", "pair") as progress:
            engine = Engine(
                screen=screen,
                memory=int(memory * GIB),
                cluster=cluster,
                checkpoint=checkpoint,
                keep=True,
                progress=progress,
            )
            done = command(*args, source=source, cluster=cluster, engine=engine, **given)
        if why := engine.tally.get("no_gpu"):
            say(f"all pairs were compared on the processor, not the GPU: {why}")
        return done

    resumed = click.option(
        "--checkpoint",
        type=Writable(mark=CHECKPOINT),
        metavar="FILE",
        help="Resume file for an interrupted run.",
    )
    sifted = click.option(
        "--screen",
        callback=_known,
        metavar="NAME",
        default="auto",
        help="Arithmetic that screens all pairs; cpu: no GPU. No number depends on it.",
    )
    return cluster_option(resumed(sifted(_memory(with_engine))))


def _known(_: click.Context, __: click.Parameter, name: str) -> str:
    if not re.fullmatch(f"({'|'.join(SCREENS)})(/[0-9]+)?", name):
        raise click.BadParameter(f"{name!r} is not one of {', '.join(SCREENS)}")
    return name
