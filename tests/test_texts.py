"""Texts in every encoding and with every line end, by whatever reader they come in."""

from pathlib import Path

import pytest

from evalkit import files
from evalkit.adapters import presets
from evalkit.datasets import ijb
from evalkit.images import landmarks
from evalkit.types import InputSpec
from evalkit.vectors import readers
from evalkit.verdict import rules

pytestmark = pytest.mark.once


def _spec(path: Path) -> InputSpec | None:
    return presets.resolve(str(path.with_name("m.onnx")))


_ENCODED = {
    "UTF-8 with a mark": "utf-8-sig",
    "UTF-16 with a mark": "utf-16",
    "UTF-32 with a mark": "utf-32",
    "UTF-16 without, little-endian": "utf-16-le",
    "UTF-16 without, big-endian": "utf-16-be",
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=ascii)
@pytest.mark.parametrize("encoding", _ENCODED.values(), ids=_ENCODED)
def test_texts_of_every_encoding_and_line_end_are_one(
    tmp_path: Path, encoding: str, end: str
) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(end.join(["1 0.5", "", "0 Jos\u00e9", ""]).encode(encoding))
    expected = ["1 0.5", "", "0 Jos\u00e9"]
    assert files.lines_of(files.read_text(path)) == expected
    with files.open_text(path) as f:
        assert [line.rstrip("\r\n") for line in f] == expected


def test_every_reader_of_text_takes_what_windows_writes(tmp_path: Path) -> None:
    texts = {
        "gates.toml": ('[[rule]]\nmetric = "auc"\n', rules.read_rules),
        "m.evalkit.toml": ('[input]\npreset = "arcface"\n', _spec),
        "media.txt": ("a.jpg 1 2\n", ijb.read_media),
        "pairs.txt": ("1 2 0\n3 4 1\n", ijb.read_pairs),
        "probe.csv": ("TEMPLATE_ID,SUBJECT_ID\n1,2\n", ijb.read_enrolled),
        "points.json": ('{"a": [[3, 4], [7, 4], [5, 6], [3, 8], [6, 8]]}', landmarks.read),
        "v.csv": ("key,0,1\na,0.5,0.25\n", readers.in_blocks),
    }
    for name, (text, read) in texts.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        expected = repr(read(path))
        for encoding in _ENCODED.values():
            path.write_text(text, encoding=encoding, newline="\r\n")
            assert repr(read(path)).partition("blocks=")[0] == expected.partition("blocks=")[0]
