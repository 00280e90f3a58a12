"""`evalkit recipes`: how each published system gets its figure."""

from __future__ import annotations

import click

from evalkit.cli.terminal import show
from evalkit.escaping import laid_out
from evalkit.protocols.recipes.published import RECIPES
from evalkit.protocols.recipes.side_by_side import COLUMNS, row


@click.command("recipes")
def command() -> None:
    """Show how each published system turns vectors into its LFW figure, and where that is read.

    "learned" is learned on the training folds only.  Use one with --recipe NAME.
    """
    show(*laid_out([COLUMNS, *map(row, RECIPES.values())], left=range(len(COLUMNS))))
    for recipe in RECIPES.values():
        show("", f"{recipe.name}: {recipe.source}")
        if recipe.recalled:
            show(f"    not read in code: {recipe.recalled}")
        if recipe.input:
            show(f"    images: --preset {recipe.input}")
