"""A report and its outcomes, replaced together: at every instant one whole pair is there.

No system renames two files at once. So new outcomes wait under a hidden name, made of their digest,
until the report that holds this digest is in place:

    1. outcomes -> .evalkit-NAME.DIGEST.npz    2. report -> its name    3. outcomes -> their name

A process that dies before 2 leaves the old pair; one that dies after it the new pair, of which the
outcomes wait.  `read` finds them there.  Whoever reads or writes the report next does step 3, or
removes what waits for no report.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import IO

from evalkit.files import hidden, locked, put, real_path, rename


def outcomes_path(path: Path) -> Path:
    """Where the per-comparison arrays of the report at `path` lie."""
    return path.with_suffix(".npz")


def waiting_path(path: Path, digest: str) -> Path:
    """Where outcomes of this SHA-256 wait for the report at `path`."""
    # A stranger's digest is any text, and no part of a file name.
    of_outcomes = hashlib.sha256(digest.encode("utf-8", "surrogatepass")).hexdigest()
    return hidden(outcomes_path(path), f"{of_outcomes[:20]}.npz")


def put_together(outcomes: IO[bytes], digest: str, report: IO[bytes], path: Path) -> None:
    """Give two `files.partial_file` their names; report holds the digest of outcomes."""
    waiting = waiting_path(path, digest)
    with locked(waiting.parent):
        _finish(path)
        try:
            put(outcomes, waiting)
            put(report, path)
        finally:
            _finish(path)


def finish(path: Path) -> None:
    """Do what is left of a broken-off write of the report at `path`, where that is permitted."""
    with suppress(OSError), locked(real_path(outcomes_path(path)).parent) as alone:
        if alone:
            _finish(path)


def _finish(path: Path) -> None:
    """Move outcomes that the report names from where they wait, and remove others."""
    beside = real_path(outcomes_path(path))
    pattern = hidden(beside, "*.npz")
    left = list(pattern.parent.glob(pattern.name))
    named = waiting_path(path, _named(path)) if left else None
    for waiting in left:
        if waiting == named:
            rename(waiting, beside)
        else:
            waiting.unlink(missing_ok=True)


def _named(path: Path) -> str:
    """Read the digest of outcomes that a report names; "" where there is none."""
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return ""
    return str(document.get("outcomes_sha256") or "") if isinstance(document, dict) else ""
