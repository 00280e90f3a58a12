"""Vectors made elsewhere: arrays with a name for every row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import DataError


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Row i of `features`, (N, D) or (N, V, D) with V views an image, belongs to `keys[i]`."""

    keys: tuple[str, ...]
    features: NDArray[Any]
    digest: str  # SHA-256 of the files read


def read(path: Path, keys: Path | None = None, *, allow_failures: bool = False) -> Embeddings:
    """Read embeddings from `.npy` + a list of keys, or an `.npz` or `.h5` that holds both.

    .npy : (N, D) or (N, V, D) float, memory-mapped; `keys` is a text file with N lines.
    .npz : arrays `features` and `keys` (or `keys` from the text file).
    .h5 : a feature file of evalkit's own, or datasets `features` and `keys`.
    A row that is not finite is a DataError, unless `allow_failures` says that it stands for an
    image without a template; evalkit's own files say so themselves.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".h5": _read_hdf5, ".hdf5": _read_hdf5}
    if not path.is_file():
        raise DataError(f"no embeddings at {path}")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"cannot read embeddings from {path.name!r}", f"expected one of {', '.join(readers)}"
        )
    features, held = reader(path)
    names = held if keys is None else _read_keys(keys)
    if names is None:
        raise DataError(f"{path.name} does not say which row is which image", "add --keys LIST.txt")
    _check(features, names, path)
    if not allow_failures and not _is_own(path):
        _refuse_failures(features, names, path)
    files = [path] if keys is None else [path, keys]
    return Embeddings(tuple(names), features, _digest(files))


def _check(features: NDArray[Any], keys: list[str], path: Path) -> None:
    if features.ndim not in (2, 3) or features.dtype.kind != "f":
        raise DataError(
            f"{path.name} holds {features.dtype} of shape {features.shape}",
            "expected floating point of shape (N, D) or (N, V, D)",
        )
    if len(features) != len(keys):
        raise DataError(f"{path.name} has {len(features)} rows, the list has {len(keys)} keys")


def _is_own(path: Path) -> bool:
    import h5py

    if path.suffix.lower() not in (".h5", ".hdf5"):
        return False
    with h5py.File(path, "r") as f:
        return bool(f.attrs.get("format") == "evalkit-features")


def _refuse_failures(features: NDArray[Any], keys: list[str], path: Path) -> None:
    bad: list[int] = []
    for o in range(0, len(features), 65536):
        block = features[o : o + 65536].reshape(len(features[o : o + 65536]), -1)
        bad += (o + np.flatnonzero(~np.isfinite(block).all(axis=1))).tolist()
    if bad:
        raise DataError(
            f"{path.name}: {len(bad)} rows hold NaN or infinity, the first is {keys[bad[0]]!r}",
            "--allow-failures counts them as images without a template",
        )


def _read_npy(path: Path) -> tuple[NDArray[Any], list[str] | None]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    except (ValueError, EOFError, OSError) as e:
        raise DataError(f"{path.name} is not a usable .npy array: {e}") from e


def _read_npz(path: Path) -> tuple[NDArray[Any], list[str] | None]:
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files if name in ("features", "keys")}
    except (ValueError, EOFError, OSError) as e:
        raise DataError(f"{path.name} is not a usable .npz archive: {e}") from e
    if "features" not in arrays:
        raise DataError(f"{path.name} holds no array called 'features'")
    keys = arrays.get("keys")
    return arrays["features"], None if keys is None else [str(k) for k in keys]


def _read_hdf5(path: Path) -> tuple[NDArray[Any], list[str] | None]:
    import h5py

    from evalkit.features import FeatureStore

    try:
        with h5py.File(path, "r") as f:
            own = f.attrs.get("format") == "evalkit-features"
            if not own and "features" not in f:
                raise DataError(f"{path.name} holds no dataset called 'features'")
            if not own:
                keys = f["keys"].asstr()[:].tolist() if "keys" in f else None
                return f["features"][:], keys
    except OSError as e:
        raise DataError(f"{path.name} is not a usable HDF5 file: {e}") from e
    store = FeatureStore.open(path)
    return store.features, list(store.manifest.keys)


def _read_keys(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read the key list {path}: {e}") from e


def _digest(paths: list[Path]) -> str:
    h = hashlib.sha256()
    for path in paths:
        with path.open("rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
    return h.hexdigest()
