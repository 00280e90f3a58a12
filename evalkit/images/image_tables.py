"""Images in parquet and Arrow tables, as Hugging Face's datasets keep them; pyarrow reads them."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from evalkit.errors import DataError, EvalkitError, needing
from evalkit.images.members import labelled, of_container, of_nobody, refuse_large
from evalkit.images.source import ImageSource
from evalkit.table_headers import place_of

ENDINGS = (".parquet", ".arrow")
_TIMES, _ROOM = 64, 64 << 20  # what a byte of a table may become, and all of them in any case
_HELD = 2  # row groups in memory


def read(path: Path) -> ImageSource:
    """Open a table: its column of images, in the order of its rows.

    The column holds encoded images as bytes, or {bytes, path} as Hugging Face's `Image` does; an
    image is called as its path, else by its row.  A column `label` (or identity, subject, person,
    class) is its subject, by the names of a `ClassLabel`: `17/0000001`.
    """
    table = _as_data_error(path, lambda: _Table(path))
    names, notes = _as_data_error(path, table.names)
    return of_container(path, names, table.image, int, notes)


class _Table:
    """Batches of rows that are read when they are wanted; a worker opens the file for itself."""

    def __init__(self, path: Path) -> None:
        self.path, self._alone = path.absolute(), Lock()
        self._room = _TIMES * path.stat().st_size + _ROOM
        opened = _parquet if path.suffix.lower() == ".parquet" else _arrow
        self.schema, rows, self._batch = opened(path, self._room)
        self._column = _image_column(self.schema, path)
        self._starts = list(accumulate(rows, initial=0))
        self._images = lru_cache(_HELD)(self._images_of)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Table, (self.path,)

    def image(self, row: int) -> bytes:
        """Read an image's bytes."""
        number = bisect_right(self._starts, row) - 1
        with self._alone:
            images = _as_data_error(self.path, lambda: self._images(number))
            value = images[row - self._starts[number]]
            if not value.is_valid:
                raise DataError("the table has no image in its row")
            data = getattr(value, "value", value).as_buffer()  # of a dictionary the value itself
            refuse_large(data.size)
            return bytes(data)

    def names(self) -> tuple[list[str], tuple[str, ...]]:
        """Name every image, under its label where the table has one; tell how many have none."""
        total = self._starts[-1]
        paths = [str(p) for p in self._values(f"{self._column}.path")] if self._has_path() else []
        names = [f"{row:07d}" for row in range(total)]
        if len(set(paths)) == total and "None" not in paths:
            names = paths
        if (place := place_of("class", self.schema.names)) < 0:
            return names, ()
        label = self.schema.names[place]
        known = _class_names(self.schema, label)
        labels = [
            str(known[v] if isinstance(v, int) and 0 <= v < len(known) else v)
            for v in self._values(label)
        ]
        names = list(map(labelled, names, labels))
        return names, of_nobody(names)

    def _has_path(self) -> bool:
        kind = self.schema.field(self._column).type
        return "path" in [kind.field(i).name for i in range(kind.num_fields)]

    def _values(self, column: str) -> list[Any]:
        name, _, part = column.partition(".")
        found, room = list[Any](), self._room
        for number in range(len(self._starts) - 1):
            values = self._batch(number, column).column(name)
            for value in _field(values, part) if part else values:
                found.append(value.as_py())
                room -= len(found[-1]) if isinstance(found[-1], str | bytes) else 0
                if room < 0:
                    raise DataError(f"{self.path.name} has longer names than its size allows")
        return found

    def _images_of(self, number: int) -> Any:
        kind = self.schema.field(self._column).type
        part = "bytes" if kind.num_fields else ""
        batch = self._batch(number, f"{self._column}.{part}" if part else self._column)
        values = batch.column(self._column)
        return _field(values, part) if part else values


def _as_data_error(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (EvalkitError, MemoryError):
        raise
    except Exception as e:  # pyarrow raises a dozen kinds on damaged files
        reason = (str(e).splitlines() or [type(e).__name__])[0][:200]
        raise DataError(f"{path.name} is not a whole table of images: {reason}") from e


def _parquet(path: Path, room: int) -> tuple[Any, list[int], Callable[[int, str], Any]]:
    with needing("pyarrow", "parquet", f"reading {path.name}"):
        import pyarrow.parquet as parquet
    # Mapped: a buffered stream of pyarrow 26 does not come back from a damaged page size.
    # One image for a million rows is kept once, as in the file.
    with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as f:
        schema, columns = f.schema_arrow, [f.schema.column(k) for k in range(len(f.schema))]
    once = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=once)
    groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
    if file.metadata.num_rows > path.stat().st_size:
        raise DataError(f"{path.name} says it has {file.metadata.num_rows:,} images")

    def batch(number: int, column: str) -> Any:
        # Of a group: to ask for a column's share ends the process where the file is damaged.
        if groups[number].total_byte_size > room:
            raise DataError(f"{path.name} unpacks to more than {room >> 20:,} MiB")
        group = file.read_row_group(number, columns=[column], use_threads=False)
        group.validate(full=True)  # else a damaged index ends the process
        if group.num_rows != groups[number].num_rows:
            raise ValueError(f"it has {group.num_rows} of {groups[number].num_rows} rows")
        return group

    return schema, [group.num_rows for group in groups], batch


def _arrow(path: Path, room: int) -> tuple[Any, list[int], Callable[[int, str], Any]]:
    with needing("pyarrow", "parquet", f"reading {path.name}"):
        import pyarrow as arrow
    with path.open("rb") as f:
        as_file = f.read(6) == b"ARROW1"
    mapped = arrow.memory_map(str(path))
    opened = (arrow.ipc.open_file if as_file else arrow.ipc.open_stream)(mapped)
    batches = []
    found = map(opened.get_batch, range(opened.num_record_batches)) if as_file else opened
    for batch in found:
        batch.validate(full=True)  # else a damaged offset ends the process
        room -= batch.nbytes
        if room < 0:
            raise DataError(f"{path.name} unpacks to more than its size allows")
        batches.append(batch)
    return opened.schema, [b.num_rows for b in batches], lambda number, column: batches[number]


def _image_column(schema: Any, path: Path) -> str:
    """Find the one column of bytes, or of structs that hold `bytes`."""
    import pyarrow as arrow

    def holds(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    columns = [f.name for f in schema if holds(f.type)]
    if len(columns) != 1:
        raise DataError(
            f"{path.name} has {len(columns)} columns of encoded images among "
            f"{', '.join(schema.names)}",
            "expected one, of bytes or of {bytes, path}",
        )
    return str(columns[0])


def _field(values: Any, name: str) -> Any:
    """Take a field of structs, in one piece or in chunks."""
    import pyarrow.compute as compute

    return compute.struct_field(values, name)


def _class_names(schema: Any, label: str) -> Sequence[str]:
    """Read the names that Hugging Face's datasets keep of a `ClassLabel`; none elsewhere."""
    try:
        document = json.loads((schema.metadata or {})[b"huggingface"])
        names = document["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()
