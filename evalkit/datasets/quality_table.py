"""Qualities of images: a table with a header, then a key per line and a number per column.

    key,quality                           key,sharpness,pose
    Ann_Lee/Ann_Lee_0001.jpg,0.61         Ann_Lee/Ann_Lee_0001.jpg,61,80

A column called "quality" or "score" is called as its file, the others by their own name.  Lines of
a key and one number need no header.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from evalkit.datasets import group_table
from evalkit.datasets.group_table import GroupTable
from evalkit.errors import DataError
from evalkit.files import as_path
from evalkit.types import Floats

_UNNAMED = ("quality", "score")


def read(path: str | os.PathLike[str]) -> GroupTable:
    """Read a table of qualities; DataError where it is none, or a cell is no number."""
    table = group_table.read(path, ("key", _UNNAMED[0]))
    if table.named_by != "key":
        problem = f"{table.source} names a {table.named_by} a line"
        raise DataError(problem, "a quality is of an image: name its key")
    for column, cells in table.columns.items():
        for line, cell in enumerate(cells):
            group_table.number_of(cell, f"{column} of {table.names[line]!r} in {table.source}")
    return table


def of_rows(tables: Sequence[GroupTable], keys: Sequence[str]) -> dict[str, Floats]:
    """Qualities of the rows that have these keys, by name: (N,) float64, NaN where none is given.

    DataError where two columns are of one name, or a table names none of the rows.
    """
    qualities: dict[str, Floats] = {}
    for table in tables:
        line = group_table.lines_of_rows(table, keys)
        for column, cells in table.columns.items():
            name = as_path(table.source).stem if column.lower() in _UNNAMED else column
            if name in qualities:
                raise DataError(f"two qualities are called {name!r}", "rename a column of one")
            values = np.array([*(group_table.number_of(cell, name) for cell in cells), np.nan])
            qualities[name] = values[line]
    return qualities
