"""The result as a file: REPORT.json, and REPORT.npz with the outcomes beside it.

REPORT.npz holds the arrays of `evalkit.protocols.uncertainty.outcomes` (`PairOutcomes` and its
like), and beside them `format`, `version` and `identity`, the `SetIdentity` of the comparisons as
JSON.  docs/report-format.md describes both files, field by field.  Both are replaced together
(`replaced_together`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from evalkit.errors import ReportError
from evalkit.files import as_path, decoded, is_stream, partial_file, refuse_unwritable, whole_file
from evalkit.protocols.metrics.vocabulary import canonical
from evalkit.protocols.uncertainty import outcomes
from evalkit.replacing import OUTCOMES, REPORT, refuse_replacing
from evalkit.report.possible import refuse_impossible
from evalkit.report.replaced_together import finish, outcomes_path, put_together, waiting_path
from evalkit.strict_json import parsed
from evalkit.types import Estimate, Failures, Report, SetIdentity

FORMAT = "evalkit-report"
VERSION = 2
READ = (1, 2)  # of 1, nobody knows which comparisons it holds
_STAMPS = ("format", "version", "identity", "metrics")  # among the outcomes: of which report
_FIELDS = {field.name for field in dataclasses.fields(Estimate)}
_COUNTS = ("n", "people", "false_accepts")
_LARGEST = 256 << 20
_BINARY = (  # how files begin that are given in place of a report
    (b"PK", "a zip archive, as .npz files are"),
    (b"\x93NUMPY", "an .npy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a picture"),
)
_LARGEST_OUTCOMES = 4 << 30
_TRIED = 1 << 16  # values of an array that tell whether zlib shrinks it


def to_json(report: Report) -> dict[str, Any]:
    """Spell a report as a JSON object; outcomes are arrays and stay out of it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "protocol": report.protocol,
        "protocol_version": report.protocol_version,
        "metrics": {name: _estimate_to_json(m) for name, m in report.metrics.items()},
        "failures": dataclasses.asdict(report.failures),
        "curves": _plain(report.curves),
        "provenance": _plain(report.provenance),
        "identity": dataclasses.asdict(report.identity),
    }


def from_json(document: Any, where: str = "report") -> Report:
    """Rebuild a report from `to_json`'s object; another format or version is refused."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ReportError(f"{where} is not an evalkit report", f'expected "format": "{FORMAT}"')
    if type(document.get("version")) is not int or document["version"] not in READ:
        raise ReportError(
            f"{where} is report version {document.get('version')!r}, this evalkit reads "
            f"{' and '.join(map(str, READ))}",
            "use the evalkit that wrote it, or a newer one",
        )
    try:
        _check_kinds(document)
        report = Report(
            protocol=document["protocol"],
            protocol_version=document["protocol_version"],
            metrics=_metrics_from_json(document["metrics"]),
            failures=Failures(
                **{**document["failures"], "keys": tuple(document["failures"]["keys"])}
            ),
            curves=document["curves"],
            provenance=document["provenance"],
            identity=SetIdentity(**document["identity"])
            if document["version"] > 1
            else SetIdentity(),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ReportError(f"{where} lacks or misspells a field: {e}") from e
    return refuse_impossible(report, where)


def dumps(report: Report) -> str:
    """Spell a report as one JSON document, the text of its file."""
    return spelled(to_json(report))


def spelled(document: Mapping[str, Any]) -> str:
    """Spell an object as one JSON document, in UTF-8."""
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    # bytes of a name that are not UTF-8 are surrogates, which JSON spells as Python does
    return text.encode(errors="backslashreplace").decode()


def _spelled_identity(identity: SetIdentity) -> str:
    return json.dumps(dataclasses.asdict(identity))


def _digest_of_metrics(document: Mapping[str, Any]) -> str:
    """SHA-256 of a report's metrics, the same for 1 and 1.0, 0 and -0.0, and any order of names."""

    def real(text: str) -> float:
        return float(text) + 0.0

    text = json.dumps(document["metrics"])
    alike = json.dumps(json.loads(text, parse_int=real, parse_float=real), sort_keys=True)
    return hashlib.sha256(alike.encode()).hexdigest()


def write(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report, and its outcomes into an .npz of the same name, both or neither.

    The report holds the digest of its outcomes, and these its identity and the digest of its
    metrics, so one that was edited, or lies beside the outcomes of another, is told. At whatever
    instant the process dies, `read` gives the old pair or the new one (see `pair`). Into a device
    or a pipe the report goes alone, as it is printed.
    """
    path = as_path(path)
    if is_stream(path):
        with whole_file(path) as f:
            f.write(dumps(report).encode())
        return
    refuse_unwritable(path)
    refuse_replacing(path, REPORT)
    beside, document = outcomes_path(path), to_json(report)
    if report.outcomes is None:
        with whole_file(path) as f:
            f.write(spelled({**document, "outcomes_sha256": None}).encode())
        finish(path)
        return
    refuse_unwritable(beside)
    refuse_replacing(beside, OUTCOMES)
    if is_stream(beside):
        raise ReportError(f"{beside} is not a regular file", "outcomes go there: give another name")
    with partial_file(beside) as outcomes_file, partial_file(path) as f:
        identity, metrics = _spelled_identity(report.identity), _digest_of_metrics(document)
        stamps = (outcomes.FORMAT, outcomes.VERSION, identity, metrics)
        named = {**report.outcomes, **dict(zip(_STAMPS, map(np.array, stamps), strict=True))}
        _pack(outcomes_file, named)
        outcomes_file.flush()
        with Path(outcomes_file.name).open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        f.write(spelled({**document, "outcomes_sha256": digest}).encode())
        put_together(outcomes_file, digest, f, path)


def _pack(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz as `np.savez_compressed` does, at zlib's quickest level.

    13 million searches: a third of the time that level 6 takes, and 3 % more bytes.  What hardly
    shrinks, as scores do, lies there as it is.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as pack:
        for name, array in arrays.items():
            pack.compression = zipfile.ZIP_DEFLATED if _shrinks(array) else zipfile.ZIP_STORED
            with pack.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)


def _shrinks(array: NDArray[Any]) -> bool:
    """Whether zlib takes an eighth of the bytes or more off an array, by some from its middle."""
    some = array.reshape(-1)[array.size // 2 :][:_TRIED].tobytes()
    return len(zlib.compress(some, 1)) <= len(some) * 7 / 8


def read(path: str | os.PathLike[str]) -> Report:
    """Read a report written by `write`; its outcomes too where their file lies beside it."""
    path = as_path(path)
    document = load_document(path)
    report = from_json(document, str(path))
    early = "" if document["version"] == 1 else None  # did not keep the digest of its outcomes
    digest = document.get("outcomes_sha256", early)
    if digest is None:
        return report
    try:
        found = _outcomes(path, str(digest))
        return report if found is None else _with_outcomes(report, found, path, document)
    except ReportError:
        if load_document(path) == document:
            raise
        return read(path)  # it was replaced meanwhile


def opened(report: Report | str | os.PathLike[str], where: str = "the report") -> Report:
    """Take a report, whose estimates must be possible, or read the one at a path.

    where : what messages call it.
    """
    return refuse_impossible(report, where) if isinstance(report, Report) else read(report)


@contextmanager
def outcomes_of_strangers() -> Iterator[None]:
    """Turn what numpy says of outcomes that fit nothing into a ReportError; also a decorator.

    Whoever writes outcomes can give them the digest that their report names.
    """
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as e:
        raise ReportError(
            f"the outcomes beside the report cannot be used: {type(e).__name__}: {e}",
            "measure again with --out, or delete them to do without",
        ) from e


def _with_outcomes(
    report: Report, arrays: dict[str, NDArray[Any]], path: Path, document: Mapping[str, Any]
) -> Report:
    """Join the report of a document and its outcomes; ReportError where these are of another."""
    metrics = _digest_of_metrics(document)
    early = (outcomes.FORMAT, 1, _spelled_identity(SetIdentity()), metrics)  # without stamps
    form, version, identity, measured = (
        str(arrays.pop(*of)) for of in zip(_STAMPS, early, strict=True)
    )
    if form != outcomes.FORMAT or version not in map(str, outcomes.READ):
        raise ReportError(
            f"{outcomes_path(path)} is {form} version {version}, this evalkit reads "
            f"{' and '.join(map(str, outcomes.READ))} of {outcomes.FORMAT}",
            "use the evalkit that wrote it, or a newer one",
        )
    if identity != _spelled_identity(report.identity):
        raise _not_its_outcomes(path)
    if metrics != measured:
        raise ReportError(
            f"the metrics in {path} are not those that were measured with its outcomes",
            f"was it edited? measure again, or delete {outcomes_path(path)} to believe it",
        )
    return dataclasses.replace(report, outcomes=arrays)


def _not_its_outcomes(path: Path) -> ReportError:
    return ReportError(
        f"{outcomes_path(path)} is not the outcomes of the report beside it, or is damaged",
        "measure again with --out, or delete it to do without paired tests",
    )


def load_document(path: str | os.PathLike[str]) -> Any:
    """Read the JSON document of a file; ReportError where it is none."""
    path = as_path(path)
    try:
        if path.stat().st_size > _LARGEST:
            raise ReportError(f"{path} is larger than any report")
        data = path.read_bytes()
        return parsed(decoded(data))
    except FileNotFoundError as e:
        raise ReportError(f"no report at {path}") from e
    except OSError as e:
        raise ReportError(f"{path} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        kind = next((of for begins, of in _BINARY if data.startswith(begins)), "no text")
        outcomes_of = path.with_suffix(".json") if path.suffix == ".npz" else path
        named = outcomes_of != path and outcomes_of.is_file()
        hint = f"give {outcomes_of}" if named else "give the .json file that --out wrote"
        raise ReportError(f"{path} is not a JSON document: it is {kind}", hint) from e
    except ValueError as e:
        raise ReportError(
            f"{path} is not a JSON document: {e}", "give the .json file that --out wrote"
        ) from e


def _outcomes(path: Path, digest: str) -> dict[str, NDArray[Any]] | None:
    """Read the outcomes of the report at `path`, wherever a broken-off write left them.

    digest : their SHA-256, or "" in reports written before it was kept.  None where there are none.
    """
    beside = outcomes_path(path)
    waiting = waiting_path(path, digest)
    other = False
    for place in (beside, waiting, beside):  # a writer may move them from there meanwhile
        if not place.is_file():
            continue
        with suppress(FileNotFoundError), place.open("rb") as f:
            if digest in ("", hashlib.file_digest(f, "sha256").hexdigest()):
                arrays = _arrays(f, place)
                if place == waiting:
                    finish(path)
                return arrays
            other = True
    if other:
        raise _not_its_outcomes(path)
    return None


def _arrays(f: IO[bytes], path: Path) -> dict[str, NDArray[Any]]:
    f.seek(0)
    try:
        with zipfile.ZipFile(f) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_OUTCOMES:
                raise ReportError(f"{path} unpacks to more than any outcomes")
        f.seek(0)
        with np.load(f, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as e:
        raise ReportError(f"the outcomes {path} cannot be read: {e}") from e


def _metrics_from_json(metrics: Mapping[str, Any]) -> dict[str, Estimate]:
    """Read the metrics under the names that they have today, unless another has that name."""
    read = {name: _estimate_from_json(m) for name, m in metrics.items()}
    return {n if canonical(n) in read else canonical(n): m for n, m in read.items()}


def _estimate_to_json(m: Estimate) -> dict[str, Any]:
    always = {"value", "low", "high", "n", "threshold", "far", "note"}
    fields = {k: _plain(v) for k, v in dataclasses.asdict(m).items()}
    return {k: v for k, v in fields.items() if k in always or v not in (None, "", [])}


def _estimate_from_json(fields: Mapping[str, Any]) -> Estimate:
    return Estimate(**{**fields, "folds": tuple(fields.get("folds", ()))})


def _check_kinds(document: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where a field of a report holds what it cannot."""
    objects = ("metrics", "failures", "curves", "provenance", "identity")
    for name in objects if document["version"] > 1 else objects[:-1]:
        if not isinstance(document[name], dict):
            raise TypeError(f"{name} is a {type(document[name]).__name__}, not an object")
    for name, m in document["metrics"].items():
        if not isinstance(m, dict):
            raise TypeError(f"{name!r} is a {type(m).__name__}, not an object")
        if unknown := sorted(set(m) - _FIELDS):
            raise ValueError(f"{name!r} has a field {unknown[0]!r} that this evalkit does not know")
        for field in set(m) & _FIELDS:
            value = m[field]
            kinds = (
                str if field in ("interval", "note") else int if field in _COUNTS else int | float
            )
            optional = field not in ("n", "interval", "note", "folds")
            for each in value if field == "folds" else [value]:
                fits = isinstance(each, kinds) and not isinstance(each, bool)
                if not (fits or (each is None and optional)):
                    raise TypeError(f"{field} of {name!r} is a {type(each).__name__}")
                if isinstance(each, int | float) and not abs(each) <= sys.float_info.max:
                    raise ValueError(f"{field} of {name!r} is beyond every number")
            if field in _COUNTS and value is not None and not 0 <= value < 2**63:
                raise ValueError(f"{field} of {name!r} is not a count")
    failures = document["failures"]
    if not all(0 <= failures[name] < 2**63 for name in ("images", "genuine", "impostor")):
        raise ValueError("a number of failures is not a count")
    plain = (
        *((failures[name], int, name) for name in ("images", "genuine", "impostor")),
        (document["protocol"], str, "protocol"),
        (document["protocol_version"], int, "protocol_version"),
        (failures["keys"], list, "keys"),
        *((key, str, "a failed key") for key in failures["keys"]),
        *(
            (value, str, f"{name!r} of the identity")
            for name, value in document.get("identity", {}).items()
            if value is not None
        ),
        *((curve, dict, "a curve") for curve in document["curves"].values()),
        *((v, list, "a column") for c in document["curves"].values() for v in c.values()),
        *(
            (v, int | float | None, f"a value of the curve {name!r}")
            for name, c in document["curves"].items()
            for column in c.values()
            for v in column
        ),
    )
    for value, kind, name in plain:
        if not isinstance(value, kind):
            raise TypeError(f"{name} is a {type(value).__name__}")


def _plain(value: Any) -> Any:
    """Turn numpy values into JSON's; JSON has no number that is not finite: null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
