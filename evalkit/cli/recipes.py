"""`evalkit recipes`: how each published system gets its figure."""

from __future__ import annotations

import click

from evalkit.cli.terminal import show
from evalkit.escaping import narrow
from evalkit.protocols.recipes.published import RECIPES
from evalkit.protocols.recipes.side_by_side import COLUMNS, row
from evalkit.report.spelling import wrapped


@click.command("recipes")
def command() -> None:
    """Show how each published system turns vectors into its LFW figure, and where that is read.

    "learned" means on the training folds only.  Use one with --recipe NAME.
    """
    table = narrow([COLUMNS, *map(row, RECIPES.values())], left=range(len(COLUMNS)))
    show(*(line for lines in table for line in lines))
    for recipe in RECIPES.values():
        show("", *wrapped(f"{recipe.name}: {recipe.source}", 4, 0))
        if recipe.recalled:
            show(*wrapped(f"not read in code: {recipe.recalled}", 6, 4))
        if recipe.input:
            show(f"    images: --preset {recipe.input}")
