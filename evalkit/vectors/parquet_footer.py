"""Numbers of values that a parquet file says it holds, read without its library.

pyarrow ends the process where a damaged file is asked for a column's share of a group of rows
(26.0: `RowGroupMetaData.column` lets no exception of C++ through).  A footer is a struct in
Thrift's compact protocol, as Apache Parquet's `parquet.thrift` describes it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_TAIL = 8  # bytes at the end: the length of the footer, then PAR1
_GROUPS, _COLUMNS, _ABOUT, _VALUES = 4, 1, 3, 5  # the fields on the way to `num_values`


def values(path: Path) -> int:
    """Count the values of all columns, nulls and what lists hold among them.

    IndexError, KeyError, TypeError or ValueError where the footer is damaged.
    """
    with path.open("rb") as f:
        f.seek(-_TAIL, os.SEEK_END)
        size = int.from_bytes(f.read(4), "little")
        f.seek(-_TAIL - size, os.SEEK_END)
        footer = _Compact(f.read(size)).struct()
    columns = [column for group in footer[_GROUPS] for column in group[_COLUMNS]]
    return sum(abs(int(column[_ABOUT][_VALUES])) for column in columns)


class _Compact:
    """Bytes in Thrift's compact protocol, from the front; each value takes a byte or more."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> dict[int, Any]:
        """Read fields by number."""
        fields, field = dict[int, Any](), 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._whole()
            kind = head & 15
            fields[field] = kind == 1 if kind in (1, 2) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2, 3):  # within lists a truth takes a byte too
            return self._byte()
        if kind in (4, 5, 6):
            return self._whole()
        if kind == 7:
            return self._bytes(8)
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"its footer holds a value of kind {kind}")  # as no field of parquet's

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("its footer ends within a value")
        self._at += size
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        """Read a number of 7 bits a byte, the lowest first, of 10 bytes at most."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError("its footer holds a number of more than 64 bits")

    def _whole(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)
