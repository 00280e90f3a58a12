"""What a command reads, it does not write; nor two results into one file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from unicodedata import normalize

import click

from evalkit.files import is_stream, real_path
from evalkit.keys import IMAGES, VECTORS

Named = tuple[Path, str]  # and the option that says so


def refuse_clashes(read: Sequence[Named], written: Sequence[Named]) -> None:
    """UsageError where a file would be written over one that is read, or written, too.

    What one option both reads and writes is its own matter; devices and pipes take anything.
    """
    for number, (output, option) in enumerate(written):
        if is_stream(output):
            continue
        for path, other in read:
            if (option != other and (over := _same(output, path))) or _among(output, path):
                how = "over" if over else "among"
                _refuse(f"{option}: {output} would be written {how} what {other} reads")
        for path, other in written[:number]:
            if _same(output, path):
                _refuse(f"{option}: {output} is what {other} writes")


def _refuse(clash: str) -> None:
    raise click.UsageError(f"{clash}: give another name")


def _same(a: Path, b: Path) -> bool:
    """Tell whether two paths lead to one file, by links of any kind, or will.

    Where neither is there, names that differ in case alone are one: on some disks they are.
    """
    with suppress(OSError):
        return a.samefile(b)
    with suppress(OSError):  # a name that is too long
        if a.exists() or b.exists():
            return False
    a, b = real_path(a), real_path(b)
    return _folded(a.name) == _folded(b.name) and _same(a.parent, b.parent)


def _among(made: Path, folder: Path) -> bool:
    """Tell whether a file would lie in a folder that is read, and be taken for one of its files."""
    return (
        made.suffix.lower() in IMAGES + VECTORS
        and folder.is_dir()
        and any(_same(parent, folder) for parent in real_path(made).parents)
    )


def _folded(name: str) -> str:
    return normalize("NFC", name).casefold()
