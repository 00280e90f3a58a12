"""`evalkit NAME` for a protocol that has no command of its own, such as one of another package."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit import run
from evalkit.cli.options import file_option, new_command, subjects_option
from evalkit.cli.output import Output, output_options
from evalkit.cli.vector_options import VectorSource, vector_options
from evalkit.errors import ProtocolError
from evalkit.protocols.catalogue import Protocol
from evalkit.types import Report

_LISTS = {
    "pairs": file_option(
        "--pairs",
        "LIST",
        "The pairs, in any layout that evalkit verify reads.",
        folder=True,
        required=True,
    ),
    "subjects": subjects_option("; else the folder of its key"),
}


def command_of(record: Protocol) -> click.Command:
    """Make the command of a protocol that compares pairs or subjects; ProtocolError for others."""
    if record.compares not in _LISTS:
        raise ProtocolError(
            f"protocol {record.name!r} takes arguments of its own and has no command",
            f"from Python: evalkit.evaluate({record.name!r}, ...)",
        )

    @_LISTS[record.compares]
    @vector_options()
    @output_options
    def measure(
        source: VectorSource,
        output: Output,
        pairs: Path | None = None,
        subjects: Path | None = None,
    ) -> int:
        report = _measured(record, source, pairs or subjects, output)
        return output.deliver(report, f"{record.name}: {source.name}")

    about = f"{record.title}\n\nMeasures: {record.summary}.  Needs: {record.needs}."
    listed = "--pairs pairs.txt " if record.compares == "pairs" else ""
    example = f"evalkit {record.command} {listed}--features F.npy --keys K.txt"
    command = new_command(record.command, example, help=about)
    return command(measure)


def _measured(
    record: Protocol, source: VectorSource, listed: Path | None, output: Output
) -> Report:
    """Run a protocol on vectors of one view each, as --flip and --recipe make them."""
    compared = None
    if listed is not None and record.compares == "pairs":
        compared = run.read_pairs(listed)
    vectors = source.vectors(None if compared is None else compared.manifest)
    return run.evaluate(
        record,
        source.without_folds(vectors),
        *(each for each in (compared or listed,) if each is not None),
        set_name=output.named,
        provenance=source.how.scored_by(),
    )
