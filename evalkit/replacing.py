"""What a result may replace: an earlier one of its kind, and nobody else's file.

A run in CI writes over the report of the last one; `--out vectors.json` would write its outcomes
over vectors.npz.  Each kind of file that evalkit writes has a mark, a regular expression of bytes
that its first or last 64 KiB hold.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from evalkit.errors import DataError
from evalkit.files import as_path, is_stream

REPORT = rb'"evalkit-report"'
# Those of an early evalkit have no stamps, and are known by their arrays.
OUTCOMES = (
    rb"(format\.npy.*identity|genuine_score|rank_subject|genuine\.npy.*score|score\.npy.*genuine)"
    rb"\.npy"
)
# Reports, one or several; then what `check` and `drift`, `compare`, `threshold`, `reproduce` print.
DOCUMENT = rb'"(evalkit-reports?|evalkit|why_unpaired|threshold_low|unsaid)"'
CALIBRATION = rb'"evalkit-calibration"'
VERDICT = rb"evalkit gate"
PAGE = rb"evalkit"
PICTURE = rb"Matplotlib"
TABLE = rb"95 % interval|of its column|not told|not compared| standing|evalkit|n=\d"
DOUBTFUL_LABELS = rb"^image,doubt,"
LANDMARKS = rb"\Akey,x1,y1,"
CHECKPOINT = rb"blocks\.npy.*done\.npy"
# As Python spells them: those that the devkit itself wrote beside them stay.
DEVKIT = rb'\A(\{"cmc": |\[\{"distractors": )'
SUBMISSION = rb"\A.{12}\x05\0\0\0"  # the header of a devkit matrix of float32
_ENDS = 1 << 16


def refuse_replacing(path: str | os.PathLike[str], mark: bytes) -> None:
    """Raise DataError where a file is there, not empty, that lacks the mark of its kind.

    Devices and pipes are written into, and what cannot be read is told by who writes.
    """
    path, held = as_path(path), b""
    with suppress(OSError):
        if path.is_file() and not is_stream(path):
            with path.open("rb") as f:
                held = f.read(_ENDS)
                f.seek(max(f.tell(), path.stat().st_size - _ENDS))
                held += f.read()
    if held and not re.search(mark, held, re.DOTALL):
        raise DataError(
            f"{path} is there already, and is no earlier result of this kind",
            "give another name, or delete it",
        )
