"""Code of users: factories called by name, and one-line errors for what they raise."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.errors import EXIT_TERMINATED, EvalkitError, ModelError

_LIBRARIES = (
    *(sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<"),
    str(Path(__file__).parent),
)
# that call the user's code: their own lines say nothing of it
_NOBODYS = (str(Path(__file__).parent), str(Path(sysconfig.get_path("purelib")) / "torch" / ""))
_NO_ARGUMENTS = "it is called without any: name a function that calls it with its arguments"
_LONGEST = 300  # characters of an exception's own message


@contextmanager
def blamed(
    who: str, doing: str = "failed", but: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what the code inside raises into a ModelError that names `who`, the kind and the line.

    evalkit's own errors, memory that runs out, `but` and the end of the process pass; `sys.exit`
    does not: its code would be read as evalkit's.
    """
    try:
        yield
    except (Exception, SystemExit) as e:
        terminated = isinstance(e, SystemExit) and e.code == EXIT_TERMINATED
        if terminated or isinstance(e, (EvalkitError, MemoryError, but)):
            raise
        raise ModelError(f"{who} {doing}: {reason(e)}", _where(e)) from e


def factory(target: str, what: str = "factory") -> Any:
    """Import `package.module:callable` or `folder/file.py:callable` and call it.

    Modules beside the user's shell count, and those beside the file.
    What the user's code raises is a ModelError that names it; what it prints, and the programs that
    it starts, goes to stderr, and the working folder stays.
    """
    _, _, attribute = target.rpartition(":")
    folder, name = _place_of(target)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    with _as_it_was(), blamed(target):
        try:
            module = importlib.import_module(name)
            make = getattr(module, attribute, None)
        except ImportError as e:
            missing = f"{name}.".startswith(f"{getattr(e, 'name', None)}.")
            hint = "give module:function, importable here, or file.py:function"
            hint = hint if missing else _where(e)
            problem = f"no such file in {folder}" if name.endswith(".py") else str(e)
            raise ModelError(f"no {what} {target}: {problem}", hint) from e
        found = getattr(module, "__file__", None)
        if (file := folder / f"{name}.py").is_file() and not (found and file.samefile(found)):
            other = f"{found or 'of Python'}, is called {name} too"
            raise ModelError(f"no {what} {target}: another module, {other}", "rename the file")
        made = hasattr(make, "state_dict") and not isinstance(make, type)
        if made or not callable(make):
            problem = f"no {attribute}" if make is None else f"a {type(make).__name__} {attribute}"
            hint = _NO_ARGUMENTS if "(" in attribute else "give module:function"
            raise ModelError(f"no {what} {target}: {name} has {problem} to call", hint)
        _refuse_arguments(make, target)
        return make()


def module_of(target: str) -> str:
    """Name the module of `package.module:callable` or `folder/file.py:callable`."""
    return _place_of(target)[1]


def _place_of(target: str) -> tuple[Path, str]:
    """Folder to import from, and the module's name there."""
    name = target.rpartition(":")[0]
    if name.endswith(".py") and Path(name).is_file():
        return Path(name).resolve().parent, Path(name).stem
    return Path.cwd(), name


def _refuse_arguments(make: Any, target: str) -> None:
    """ModelError for what cannot be called without arguments."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # of code that is not Python's
        return
    try:
        signature.bind()
    except TypeError as e:
        raise ModelError(f"{target} takes arguments: {e}", _NO_ARGUMENTS) from e


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Come back to the working folder, and send to stderr what is printed meanwhile.

    What programs print that the code starts goes there too, where both streams are the process's.
    """
    here, stack = Path.cwd(), contextlib.ExitStack()
    with stack:
        stack.callback(os.chdir, here)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError):
            stdout = os.dup(1)
            stack.callback(os.close, stdout)
            stack.callback(os.dup2, stdout, 1)
            os.dup2(2, 1)
        yield


def reason(error: BaseException) -> str:
    """Give an exception's kind and message on one line: "ValueError: no such layer"."""
    text = " ".join(str(error).split())
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return f"{type(error).__name__}: {short}" if text else type(error).__name__


def place(error: BaseException) -> str:
    """Name the innermost line outside evalkit, Python's library and packages; empty without one."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
    return _named(own[-1]) if own else ""


def _where(error: BaseException) -> str:
    """Say where it was raised: in the user's code, else in the package called first, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    first = [f for f in frames if not f.filename.startswith(_NOBODYS)]
    found = place(error) or (_named(first[0]) if first else "")
    return f"it was raised in {found}" if found else ""


def _named(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
