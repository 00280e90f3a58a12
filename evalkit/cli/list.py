"""`evalkit list`: what can be measured, by which protocol, with which data."""

from __future__ import annotations

import click

from evalkit.cli.terminal import say, show
from evalkit.errors import ProtocolError
from evalkit.escaping import laid_out
from evalkit.protocols import catalogue


@click.command("list")
@click.option("--metrics", is_flag=True, help="List the metrics instead, with direction and unit.")
def command(metrics: bool) -> None:
    """List the protocols: what each measures, needs and follows."""
    if metrics:
        from evalkit.protocols.metrics.vocabulary import METRICS

        head = ("metric", "better", "unit", "what it is")
        rows = [(m.grammar, m.better or "-", m.shown_unit, m.means) for m in METRICS]
        show(*laid_out([head, *rows], left=range(len(head))))
        return
    for record in catalogue.OWN:
        _show(record)
    for entry in catalogue.installed().values():
        try:
            _show(catalogue.load(entry))
        except ProtocolError as e:  # of one package; the others work
            say(f"warning: {e}")


def _show(record: catalogue.Protocol) -> None:
    show(f"evalkit {record.command}")
    lines = {"measures": record.summary, "needs": record.needs, "where": record.where}
    for name, text in {**lines, "source": record.source}.items():
        show(f"    {name:<9} {text}")
