"""Kinds of values that options take: what is read, what is written, rates; told wrong at once."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from evalkit.cli.clashes import refuse_clashes
from evalkit.errors import DataError, ProtocolError
from evalkit.files import LINK_HINT, as_path, leads_nowhere, refuse_lfs_pointer, refuse_unwritable
from evalkit.protocols import catalogue
from evalkit.protocols.metrics import false_accepts_allowed
from evalkit.replacing import OUTCOMES, refuse_replacing

# How files of these kinds begin; their readers would complain about what follows.
_BEGINNINGS = {".npy": b"\x93NUMPY", ".npz": b"PK", ".zip": b"PK", ".parquet": b"PAR1"}


STDOUT = Path("-")


class FileKind(click.Path):
    """What a command does with the files that an option names."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take a path, below the home folder where it begins with ~."""
        path: Any = super().convert(value, param, ctx)
        if isinstance(path, Path):
            return as_path(path)
        return str(as_path(path)) if path.startswith("~/") else path  # perhaps a network's name

    def check(self, path: Path, name: str) -> None:
        """DataError, before any work is done, where this cannot be; name : of the option."""

    def reads(self, path: Path) -> tuple[Path, ...]:
        """Name all files and folders that are read."""
        return ()

    def writes(self, path: Path, options: Mapping[str, Any]) -> tuple[Path, ...]:
        """Name all files that are written, and folders that are written into."""
        return ()


class Readable(FileKind):
    """A file or folder that is there and holds something; what it holds is its reader's matter.

    folder : one may be given.  empty : a file without a byte says something, a list that names
    nothing.  beside : suffix of a file that is read with it.  stream : it is read once, from end to
    end, so a pipe will do, and - is stdin.
    """

    def __init__(
        self, *, folder: bool = False, empty: bool = False, beside: str = "", stream: bool = False
    ) -> None:
        super().__init__(path_type=Path)
        self.folder, self.empty, self.beside, self.stream = folder, empty, beside, stream

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take - for stdin, where a stream will do."""
        return super().convert("/dev/stdin" if value == "-" and self.stream else value, param, ctx)

    def reads(self, path: Path) -> tuple[Path, ...]:
        """Name the file, and the one beside it."""
        return _with_beside(path, self.beside)

    def check(self, path: Path, name: str) -> None:
        """DataError says which option names what is missing, empty, a folder or another kind."""
        if link := leads_nowhere(path):
            raise DataError(f"{name}: {link}", LINK_HINT)
        if not path.exists():
            near = difflib.get_close_matches(path.name, _beside(path), n=1, cutoff=0.8)
            hint = "" if path.is_absolute() else f"looked in {Path.cwd()}"
            if near:
                hint = f"did you mean {path.with_name(near[0])}?"
            elif str(path) in {record.command for record in catalogue.OWN}:
                hint = f"it has a command of its own: evalkit {path}"
            raise DataError(f"{name}: no such file or folder: {path}", hint)
        if path.is_dir() and not self.folder:
            raise DataError(f"{name}: {path} is a folder", "give the file itself")
        if path.is_dir() or (self.stream and not path.is_file()):
            return
        if not path.is_file():
            raise DataError(f"{name}: {path} is a pipe or device", "write it into a file first")
        refuse_lfs_pointer(path)
        with path.open("rb") as f:
            begins = f.read(8)
        if not begins and not self.empty:
            raise DataError(f"{name}: {path} is empty", "was its writing broken off?")
        kind = path.suffix.lower()
        if not begins.startswith(_BEGINNINGS.get(kind, b"")):
            raise DataError(f"{name}: {path} is not a {kind} file: it begins with {begins!r}")


class Baseline(Readable):
    """A report to hold others against; with `--accept` it is written."""

    def __init__(self) -> None:
        super().__init__(beside=".npz")

    def check(self, path: Path, name: str) -> None:
        """Leave it to its reader, who says how the first one is made."""

    def writes(self, path: Path, options: Mapping[str, Any]) -> tuple[Path, ...]:
        """Name what becomes the new baseline."""
        return self.reads(path) if options.get("accept") else ()


class Writable(FileKind):
    """A file that can be made: its folder is there, and it is no folder itself.

    endings : of the name, the only ones allowed.  beside : suffix of the outcomes written next to
    it.  parents : its folder is made where it is not there.  mark : of `replacing`, of its kind;
    None leaves it to who writes.
    """

    def __init__(
        self,
        *,
        allow_dash: bool = False,
        endings: tuple[str, ...] = (),
        beside: str = "",
        parents: bool = False,
        mark: bytes | None = None,
    ) -> None:
        super().__init__(path_type=Path, allow_dash=allow_dash)
        self.endings, self.beside, self.parents, self.mark = endings, beside, parents, mark

    def check(self, path: Path, name: str) -> None:
        """DataError before any work is done, rather than after it."""
        for output in self.writes(path, {}):
            try:
                if not self.parents or output.is_dir():
                    refuse_unwritable(output)
            except OSError as e:
                raise DataError(f"{name}: {e.strerror}: {e.filename}") from None
        if self.endings and path.suffix.lower() not in self.endings:
            raise DataError(f"{name}: {path} does not end in {' or '.join(self.endings)}")
        if self.mark is None:
            return
        for output, mark in zip(self.writes(path, {}), (self.mark, OUTCOMES), strict=False):
            try:
                refuse_replacing(output, mark)
            except DataError as e:
                raise DataError(f"{name}: {e.message}", e.hint) from None

    def writes(self, path: Path, options: Mapping[str, Any]) -> tuple[Path, ...]:
        """Name the file, and the one beside it."""
        if self.allow_dash and path == STDOUT:
            return ()
        return _with_beside(path, self.beside)


class Folder(FileKind):
    """A folder that files are written into; it is made where it is not there."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def check(self, path: Path, name: str) -> None:
        """DataError where a file has its name."""
        if path.exists() and not path.is_dir():
            raise DataError(f"{name}: {path} is a file", "give a folder")
        if path.suffix.lower() == ".json":
            raise DataError(f"{name}: {path} is named as a file", "give the name of a folder")

    def writes(self, path: Path, options: Mapping[str, Any]) -> tuple[Path, ...]:
        """Name the folder."""
        return (path,)


def check_files(ctx: click.Context) -> None:
    """Hold every file of a command line against what its option says of it, and against the others.

    UsageError where a file would be written over one that is read or written too.
    """
    files: list[tuple[FileKind, Path, str]] = []
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(param.type, FileKind) and value is not None:
            name = param.opts[0] if isinstance(param, click.Option) else _spelled(param)
            paths = value if isinstance(value, tuple) else (value,)
            files += [(param.type, path, name) for path in paths]
    refuse_clashes(
        [(read, name) for kind, path, name in files for read in kind.reads(path)],
        [(output, name) for kind, path, name in files for output in kind.writes(path, ctx.params)],
    )
    for kind, path, name in files:
        kind.check(path, name)
    pipes: set[int] = set()
    for kind, path, name in files:
        if isinstance(kind, Readable) and path.is_fifo():
            number = path.stat().st_ino
            if number in pipes:
                raise DataError(f"{name}: {path} is given twice and can be read once", "give files")
            pipes.add(number)


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A number of bytes, with or without a unit: 500MB, 20GB, 1.5TB (powers of 1000)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Turn the text into bytes."""
        match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)B?", str(value).strip(), re.I)
        if match is None:
            self.fail(f"{value!r} is not a size, such as 500MB or 20GB", param, ctx)
        return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


class Number(click.FloatRange):
    """A number of a range, or any; nan and inf, which Python reads too, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse what is not finite."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def rate(_: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse what no FAR or FPIR can be."""
    for text in value if isinstance(value, tuple) else (value,):
        try:
            false_accepts_allowed(text, 1)
        except ProtocolError as e:
            name, what, hint = param.opts[0], e.message.removeprefix("FAR "), e.hint
            if "," in text and param.multiple:
                hint = f"one at a time, {name} 1e-3 {name} 1e-4"
            raise click.BadParameter(f"{what}: {hint}", param=param) from None
    return value


def rate_of_part(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """As `rate`; what follows a comma names a set of comparisons."""
    if value is not None:
        rate(ctx, param, value.replace("@", ",").partition(",")[0])
    return value


def _spelled(argument: click.Parameter) -> str:
    return argument.human_readable_name.strip("[].")


def _with_beside(path: Path, suffix: str) -> tuple[Path, ...]:
    """Name a file, and the one of that suffix next to it, if any; `.` and `/` have no names."""
    beside = path.with_suffix(suffix) if suffix and path.name else path
    return (path, beside) if beside != path else (path,)


def _beside(path: Path) -> list[str]:
    try:
        return [each.name for each in path.parent.iterdir()]
    except OSError:
        return []
