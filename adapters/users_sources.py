"""Digest of a user's source files: a module with all that it imports, libraries aside."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import site
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

_LIBRARIES = tuple(
    {
        *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(*site.getsitepackages(), site.getusersitepackages()),
        str(Path(__file__).parents[1]),
    }
)

_WEIGHTS = (
    *(".onnx", ".pt", ".pth", ".ckpt", ".safetensors", ".npz", ".npy", ".h5", ".hdf5", ".keras"),
    *(".pb", ".tflite", ".task", ".xml", ".bin", ".param", ".params", ".caffemodel", ".prototxt"),
    *(".mlmodel", ".engine", ".plan", ".dat", ".pkl", ".json", ".yaml", ".yml"),
)
_LONGEST = 256  # characters of a text that may name a file


def digest(module: str) -> str:
    """SHA-256 of the files of a module and of the modules that these import, wherever in them.

    With the weights that texts in them name, as "det.onnx", here or beside them.  Nothing is
    imported.  Python's library, installed packages and evalkit do not count, nor does where the
    files lie; a module without a file counts by its name.
    """
    files: dict[str, bytes] = {}
    beside: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in files or (name != module and _is_library(name.partition(".")[0])):
            continue
        file = _file(name)
        files[name] = b"" if file is None else file.read_bytes()
        if file is not None and file.suffix == ".py":
            package = name if file.stem == "__init__" else name.rpartition(".")[0]
            with suppress(SyntaxError, ValueError):  # of one that is not imported yet
                tree = ast.parse(files[name])
                waiting += _imported(tree, package)
                beside |= _named(tree, (Path.cwd(), file.parent))
    h = hashlib.sha256()
    for name, content in sorted(files.items()):
        h.update(f"{name} {len(content)} ".encode() + content)
    for name, path in sorted(beside.items()):
        with path.open("rb") as f:
            h.update(f"{name} ".encode() + hashlib.file_digest(f, "sha256").digest())
    return h.hexdigest()[:16]


def _spec(name: str) -> ModuleSpec | None:
    """Find a module without importing anything; None where it is not found."""
    above = name.rpartition(".")[0]
    if above:
        package = _spec(above)
        within = None if package is None else package.submodule_search_locations
        return None if within is None else PathFinder.find_spec(name, within)
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(name)
    return None


def _file(name: str) -> Path | None:
    spec = _spec(name)
    located = spec is not None and spec.has_location and spec.origin
    return Path(located) if located else None


def _is_library(name: str) -> bool:
    """Whether a package is no user's: Python's own, installed or not found."""
    spec = _spec(name)
    if spec is None:
        return True
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return not any(p and Path(p).exists() and not p.startswith(_LIBRARIES) for p in places)


def _named(tree: ast.AST, folders: tuple[Path, ...]) -> dict[str, Path]:
    """Find the files of weights that texts of a source name, by that name."""
    found: dict[str, Path] = {}
    for node in ast.walk(tree):
        name = node.value if isinstance(node, ast.Constant) else None
        if isinstance(name, str) and len(name) < _LONGEST and name.lower().endswith(_WEIGHTS):
            with suppress(OSError, ValueError):  # a text that can name no file
                found |= [(name, folder / name) for folder in folders if (folder / name).is_file()]
    return found


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the names that a file's imports may mean, with the packages that hold them.

    Of `from a import b`, a and a.b: b may be a module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else ()), *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in filter(None, names):
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))
