"""`evalkit cache`: the vectors that commands keep, listed or cleared."""

from __future__ import annotations

import time

import click

from evalkit import cache
from evalkit.cli.options import Command
from evalkit.cli.parameters import Size
from evalkit.cli.terminal import show
from evalkit.files import cache_folder


@click.group("cache")
def command() -> None:
    """List the vectors that commands keep in the cache, or make room there.

    Vectors are reused only where model and images are the same, and all can be made again.
    EVALKIT_CACHE names another folder, EVALKIT_CACHE_SIZE limits its size.
    """


@command.command("list", cls=Command, examples=["evalkit cache list"])
def list_() -> None:
    """List the feature files of the cache, the most recently used first."""
    entries = cache.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        name = entry.path.relative_to(cache_folder())
        show(f"{_size(entry.size):>8}  {used}  {entry.describe()}  {name}")
    total = sum(entry.size for entry in entries)
    show(f"{_files(len(entries))}, {_size(total)} in {cache_folder()}")


@command.command(
    "clear", cls=Command, examples=["evalkit cache clear --keep 10GB", "evalkit cache clear"]
)
@click.option(
    "--keep",
    type=Size(),
    metavar="SIZE",
    default="0",
    help="Size of what may stay, as 10GB; what was used last stays.",
)
def clear(keep: int) -> None:
    """Delete feature files from the cache, the least recently used first.

    A file that a command is writing stays. Without --keep what is known of images goes too, and
    every one is read again; so do the input specs that were found by trial.
    """
    gone = cache.clear(keep=keep)
    if not keep:
        cache.clear_known()
    freed = sum(entry.size for entry in gone)
    show(f"{_files(len(gone))} deleted, {_size(freed)}")


def _files(count: int) -> str:
    return f"{count:,} feature file" + "s" * (count != 1)


def _size(size: float) -> str:
    """Spell a number of bytes in powers of 1000: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
