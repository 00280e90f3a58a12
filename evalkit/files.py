"""Atomic writes, text files of every encoding, and the user's cache directory."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import IO

from evalkit.errors import DataError, EvalkitError, WrongTypeError

_HANDLES = re.compile(r"/dev/fd|/proc/\d+(/task/\d+)?/fd")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_HINT = "fetch it: git lfs install, then git lfs pull, in the repository that it came with"
LINK_HINT = "fetch what it stands for (git annex get, dvc pull), or give the file itself"
_LINKS = 40  # that a system follows
_LOOK = 1 << 16  # bytes of a text that show how its lines end
_PATIENCE_S = 1.0  # a shell's `flock FOLDER evalkit ...` holds the lock until evalkit is done


def cache_folder() -> Path:
    """Find or make the user's cache: `$EVALKIT_CACHE`, else evalkit's part of XDG's.

    DataError where it cannot be made, or the user has no home: in a container, often a mere number.
    """
    hint = "set EVALKIT_CACHE to a folder that may be written"
    try:
        user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        user = None
    named = os.environ.get("EVALKIT_CACHE") or (user and Path(user) / "evalkit")
    if not named:
        raise DataError("no home folder to keep a cache in", hint)
    try:
        Path(named).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise DataError(f"the cache {named} cannot be made: {e.strerror}", hint) from e
    return Path(named)


BLANKS = " \t"  # around and between names; any other character may be part of one
_AT_BLANKS = re.compile(f"[{BLANKS}]+")


def as_path(path: str | os.PathLike[str]) -> Path:
    """Take a path as text or as any path object; WrongTypeError for all else.

    A first part ~ is the home folder, unless something is called so here: a shell leaves it in
    quotes and in files of settings.
    """
    try:
        given = Path(path)
    except TypeError:
        kind = type(path).__name__
        raise WrongTypeError(f"a {kind} where a path belongs", "give a str or a Path") from None
    if not f"{given}/".startswith("~/") or Path("~").exists():
        return given
    try:
        return given.expanduser()
    except RuntimeError:  # nobody knows where it is
        return given


def is_lfs_pointer(begins: bytes) -> bool:
    """Whether bytes begin the note that Git LFS leaves in place of a file not yet fetched."""
    return begins.startswith(_LFS_POINTER)


def refuse_lfs_pointer(
    path: Path, error: type[EvalkitError] = DataError, begins: bytes | None = None
) -> None:
    """Raise an error where a file is a Git LFS pointer, so not the file that it stands for.

    begins : its first bytes, where they are read already, as those of a pipe can be but once.
    """
    if begins is None:
        with path.open("rb") as f:
            begins = f.read(len(_LFS_POINTER))
    if is_lfs_pointer(begins):
        raise error(f"{path.name} is a Git LFS pointer, not the file itself", LFS_HINT)


def read_text(path: Path) -> str:
    """Read a text file (see `decoded`), or raise DataError.

    Its line ends stay as they are, see `lines_of`.
    """
    try:
        data = path.read_bytes()  # once: it may be a pipe
        refuse_lfs_pointer(path, begins=data)
        return decoded(data)
    except UnicodeDecodeError as e:
        hint = f"unpack it first: gunzip {path.name}" if e.object[:2] == b"\x1f\x8b" else ""
        raise DataError(f"{path} is not a text file: {not_text(e)}", hint) from e
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror}") from e


def decoded(data: bytes) -> str:
    """Read text in UTF-8, UTF-16 or UTF-32, told by its byte order mark or its first characters.

    Windows PowerShell 5 writes UTF-16 with a mark, Notepad UTF-8 with one.  UnicodeDecodeError, a
    ValueError, for all else.
    """
    return data.decode(json.detect_encoding(data[:4]))


def not_text(error: UnicodeDecodeError) -> str:
    """Say which byte is no text."""
    return f"byte {error.start} is not {error.encoding.removesuffix('-sig').upper()}"


def open_text(path: Path) -> IO[str]:
    r"""Open a text file of any size, decoded as by `decoded`, whose lines end as in `lines_of`.

    A line that ended in \r\n still does.
    """
    with path.open("rb") as f:
        start = f.read(_LOOK)
    alone = b"\r" in start and b"\n" not in start
    return path.open(encoding=json.detect_encoding(start[:4]), newline=None if alone else "\n")


def lines_of(text: str) -> list[str]:
    r"""Part a text at \n and \r\n, without the blanks and tabs around each line.

    At \r alone where it has no \n, as spreadsheets of the Macintosh write.
    What Python also takes for the end of a line or for a blank, such as a vertical tab, U+0085 or
    U+2028, stays: it may be part of a name.

    >>> lines_of("a\x0b.jpg \r\n\nb\u2028.jpg\n")
    ['a\x0b.jpg', '', 'b\u2028.jpg']
    """
    return [*each_line(text)]


def each_line(text: str) -> Iterator[str]:
    """Yield the lines that `lines_of` lists: of ten million, the list takes a GiB."""
    end = "\n" if "\n" in text else "\r"
    for line in StringIO(text, newline=end):
        yield line.removesuffix(end).removesuffix("\r").strip(BLANKS)


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """List the lines that are not blank, each with its number from 1, see `lines_of`.

    A first one that tells Excel what parts the columns, `sep=;`, is left out.
    """
    lines = [(number, line) for number, line in enumerate(lines_of(text), 1) if line]
    return lines[names_separator(lines[0][1]) :] if lines else lines


def names_separator(line: str) -> bool:
    """Whether a line is Excel's `sep=;`; of a tab, which `lines_of` takes off, `sep=`."""
    return re.fullmatch(r'"?sep=\W?"?', line, re.IGNORECASE) is not None


def words_of(line: str) -> list[str]:
    """Part a line that `lines_of` gave at its blanks and tabs alone."""
    return _AT_BLANKS.split(line)


def leads_nowhere(path: Path) -> str:
    """Tell of a link whose file is not there, as git-annex leaves one; "" for all else."""
    if not path.is_symlink() or path.exists():
        return ""
    return f"{path} is a link that leads nowhere, to {path.readlink()}"


def refuse_unwritable(path: Path) -> None:
    """Raise OSError where a file's folder is missing, or a folder has its name."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a file cannot be written over a folder", str(path))
    if not is_stream(path) and not (folder := real_path(path).parent).is_dir():
        shown = path.parent if not path.is_symlink() else folder
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(shown))


def real_path(path: Path) -> Path:
    """Follow every link of a path, also to a file that is not there yet."""
    return Path(os.path.realpath(path))


def is_stream(path: Path) -> bool:
    """Whether a path leads to a device, a pipe, a socket or an open handle (/dev/stdout)."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or _handle(path) is not None


def hidden(path: Path, ending: str) -> Path:
    """Name a hidden file beside `path`, the same for the same file, however long its name is."""
    target = real_path(path)
    name = hashlib.sha256(target.name.encode("utf-8", "surrogatepass")).hexdigest()
    return target.with_name(f".evalkit-{name[:20]}.{ending}")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for an atomic write: it appears whole when the block ends.

    If the block raises, the process dies or the disk is full, an older file stays as it was. A link
    stays, and the file that it leads to is replaced. What `is_stream` is written into.
    See `refuse_unwritable` and `partial_file`.
    """
    refuse_unwritable(path)
    if is_stream(path):
        with named(path), _opened(path) as f:
            yield f
    else:
        with partial_file(path) as f:
            yield f
            put(f, path)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in an OSError that names none, such as that of a full disk."""
    try:
        yield
    except OSError as e:
        e.filename = e.filename or str(path)
        raise


@contextmanager
def partial_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file in the folder of `path`, under a name of its own, that `put` gives its name.

    It has the mode, and where that is permitted the owner, of the file that it is to replace; it is
    removed if the block ends without `put`. A writer that is killed leaves `.evalkit-*.partial`,
    which the next process that writes into that folder removes: the system dropped its lock.
    """
    target = real_path(path)
    partial = target.with_name(f".evalkit-{uuid.uuid4().hex}.partial")
    with locked(target.parent) as alone:
        if alone:
            _remove_leftovers(target.parent)
        try:
            f = partial.open("xb")
        except OSError as e:
            e.filename = str(path)
            raise
        with suppress(OSError):
            lock(f.fileno())
    try:
        with named(path), f:
            _take_after(partial, target)
            yield f
    finally:
        partial.unlink(missing_ok=True)


def put(f: IO[bytes], path: Path) -> None:
    """Give a `partial_file` its name, when the disk has its bytes; an older file is replaced."""
    f.flush()
    os.fsync(f.fileno())
    if os.name == "nt":
        f.close()  # no open file can be renamed there
    rename(Path(f.name), real_path(path))


def take_place(path: Path, target: Path) -> None:
    """Give a file that the disk has the name, mode and owner of an older one, and remove that."""
    target = real_path(target)
    _take_after(path, target)
    rename(path, target)


def rename(path: Path, target: Path) -> None:
    """Rename a file, replacing an older one, and flush that to the disk."""
    path.replace(target)
    try:
        folder = os.open(target.parent, os.O_RDONLY)
    except PermissionError:  # Windows, or a folder that nobody may list
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lock(handle: int) -> None:
    """Lock an open file or folder, or raise OSError; the system drops the lock with the process."""
    try:
        import fcntl
    except ImportError as e:  # pragma: no cover - Windows
        raise OSError("no locks here") from e
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(handle: int) -> None:
    """Release a lock, also for child processes that inherited the handle."""
    import fcntl

    fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Lock a folder against renames by other evalkits; yield whether the lock was taken.

    It is not where the file system has no locks for folders, and where somebody else holds this
    one longer than a second.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    held = _waited_for(handle)
    try:
        yield held
    finally:
        if held:
            unlock(handle)
        os.close(handle)


def _waited_for(handle: int) -> bool:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            lock(handle)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        except OSError:
            return False
        else:
            return True


@functools.cache  # once a process: a folder may hold a million files
def _remove_leftovers(folder: Path) -> None:
    for partial in folder.glob(".evalkit-*.partial"):
        how = "r+b" if os.access(partial, os.W_OK) else "rb"  # NFS locks what may be written
        with suppress(OSError), partial.open(how) as f:
            lock(f.fileno())
            partial.unlink()


def _take_after(partial: Path, target: Path) -> None:
    """Give a new file the mode and owner of the one it is to replace, as far as is permitted."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return
    if hasattr(os, "chown"):
        for owner in ((status.st_uid, -1), (-1, status.st_gid)):
            with suppress(PermissionError):
                os.chown(partial, *owner)
    with suppress(PermissionError):
        partial.chmod(stat.S_IMODE(status.st_mode))


def _opened(path: Path) -> IO[bytes]:
    """Open what `is_stream` to write into it, an open handle of this process where it stands."""
    handle = _handle(path)
    if handle is not None and str(handle.parent) in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
        return os.fdopen(os.dup(int(handle.name)), "wb")
    return os.fdopen(os.open(path, os.O_WRONLY), "wb")


def _handle(path: Path) -> Path | None:
    """Follow links to the name of an open handle (/dev/stdout -> /proc/7/fd/1), if it is one."""
    for _ in range(_LINKS):
        folder = os.path.realpath(path.parent)
        if _HANDLES.fullmatch(folder):
            return Path(folder, path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None
