"""`evalkit report`: a page, a picture, Markdown or a model card from reports."""

from __future__ import annotations

from pathlib import Path

import click

from evalkit.cli.options import file_option, new_command, reports_argument
from evalkit.cli.parameters import Writable
from evalkit.cli.terminal import say, show
from evalkit.files import whole_file
from evalkit.replacing import PAGE, PICTURE
from evalkit.report import markdown as words
from evalkit.report import several
from evalkit.report.frte import frte_card
from evalkit.report.page import MOST_MODELS, page
from evalkit.report.plots import draw, save
from evalkit.report.table import table
from evalkit.types import Report
from evalkit.verdict.differences import differences


@new_command(
    "report",
    "evalkit report base.json new.json -o report.html",
    "evalkit report report.json --plot roc.png",
    "evalkit report report.json --frte -o card.html",
)
@reports_argument
@click.option(
    "-o",
    "--out",
    type=Writable(endings=(".html", ".htm"), mark=PAGE),
    metavar="FILE.html",
    help="HTML page to write.",
)
@file_option("--data", "IMAGES", "Images for thumbnails: a folder, .zip or list.", folder=True)
@click.option(
    "--name",
    "names",
    metavar="NAME",
    multiple=True,
    help="Name of each report, in order; may be repeated.",
)
@click.option(
    "--plot",
    "plots",
    type=Writable(endings=(".png", ".svg", ".pdf"), mark=PICTURE),
    multiple=True,
    metavar="KIND.png",
    help="Picture to write, as FOLDER/roc.png (.svg, .pdf), of roc, det, det-probit, histogram, "
    "cmc, folds, group-rates, group-matrix, distances-l2, distances-angle, regions-angle, norms "
    "and spectrum; may be repeated.",
)
@click.option(
    "--frte", is_flag=True, help="Make the page a report card in the form of NIST's FRTE reports."
)
@click.option("--markdown", is_flag=True, help="Print the numbers as a Markdown table.")
@click.option(
    "--model-card", is_flag=True, help="Print the model-index block of a Hugging Face model card."
)
@click.option(
    "--eval-results",
    metavar="ORG/NAME[@REVISION]",
    help="Print .eval_results/*.yaml for this benchmark dataset on Hugging Face.",
)
def command(
    paths: tuple[Path, ...],
    out: Path | None,
    data: Path | None,
    names: tuple[str, ...],
    plots: tuple[Path, ...],
    frte: bool,
    markdown: bool,
    model_card: bool,
    eval_results: str | None,
) -> None:
    """Show one report, or several beside each other: as a page, pictures, Markdown or a table.

    The page is one file without network: numbers with intervals, ROC and DET, score histograms,
    CMC, folds, the hardest pairs, provenance; several models overlaid, with paired differences.
    With --frte it is a card of one report in the form of NIST's FRTE reports and under its names:
    FNMR at each FMR, FNIR of searches, DET, groups, images without a template.
    REPORT may be the folder that bench --out wrote.
    """
    if len(names) > len(paths):
        raise click.UsageError(f"{len(names)} names for {len(paths)} reports")
    if data is not None and out is None:
        raise click.UsageError("--data shows images on the page: add -o FILE.html")
    if frte and (out is None or data is not None):
        raise click.UsageError(
            "--frte makes a page without images: give -o FILE.html, and no --data"
        )
    if markdown + model_card + (eval_results is not None) > 1:
        raise click.UsageError("give only one of --markdown, --model-card and --eval-results")
    if model_card and len(names) == 1:  # a card is of one model
        names *= len(paths)
    called = [*names, *_labels(paths[len(names) :])]
    read = [several.read(path) for path in paths]
    all_reports = [report for each in read for report in each.values()]
    labels = [
        " ".join(filter(None, (name if len(paths) > 1 or not of_set else "", of_set)))
        for name, each in zip(called, read, strict=True)
        for of_set in each
    ]
    if plots or out is not None:
        for plot in plots:
            save(draw(plot.stem, all_reports, names=labels), plot)
            say(f"{plot} drawn")
        if out is not None:
            text = _card(all_reports, labels) if frte else _page(all_reports, data, labels)
            with whole_file(out) as f:
                f.write(text.encode())
            say(f"{out} written")
    if markdown or model_card or eval_results is not None:
        models = [name for name, each in zip(called, read, strict=True) for _ in each]
        texts = [words.report_markdown(report) for report in all_reports] if markdown else []
        if model_card:
            texts = [words.model_card(zip(models, all_reports, strict=True))]
        elif eval_results is not None:
            texts = [words.eval_results(all_reports, eval_results)]
        for text in texts:
            show(*text.rstrip("\n").split("\n"))
    elif not plots and out is None:
        for label, report in zip(labels, all_reports, strict=True):
            show(*table(report, label).split("\n"))


def _page(held: list[Report], data: Path | None, names: list[str]) -> str:
    found = differences(held) if len(held) <= MOST_MODELS else []  # else the page refuses
    say(*dict.fromkeys(each.refused for each in found if each.refused))
    return page(held, data, names=names, differences=found)


def _card(held: list[Report], names: list[str]) -> str:
    if len(held) != 1:
        raise click.UsageError(f"--frte is of one report, not of {len(held)}")
    return frte_card(held[0], names[0])


def _labels(paths: tuple[Path, ...]) -> list[str]:
    stems = [p.stem for p in paths]
    return stems if len(set(stems)) == len(stems) else [str(p) for p in paths]
