"""Train one small network with each loss of the survey and measure what each of them learns.

python examples/losses/run.py            five seeds: ten minutes of one core
python examples/losses/run.py --quick    two seeds and hardly any training: does it run at all?
"""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import torch
from experiments import EXPERIMENTS
from losses import LOSSES
from measure import OWN, student
from picture import draw
from tqdm import tqdm

SEEN = ("accuracy on seen classes %", 100, 1)
VERIFIED = {
    "tpr": ("TPR@FAR=1e-2, cosine %", 100, 1),
    "gain": ("minus softmax's", 100, 1),
    "tpr_l2": ("the same by L2 %", 100, 1),
    "cosine_gain": ("cosine minus L2", 100, 1),
    "eer": ("EER %", 100, 1),
    "ratio": ("within/between, L2²", 1, 3),
}
# experiment, title, number -> (heading, factor, decimals)
TABLES = (
    (
        "plane",
        "All ten digits in the plane, images not trained on",
        {
            "accuracy": ("accuracy %", 100, 1),
            "ratio": ("within/between, L2²", 1, 3),
            "ratio_angle": ("within/between, angle", 1, 3),
            "inverted": ("same class farther than different %", 100, 1),
            "tpr": ("TPR@FAR=1e-2, cosine %", 100, 1),
            "tpr_l2": ("the same by L2 %", 100, 1),
            "cosine_gain": ("cosine minus L2", 100, 1),
        },
    ),
    (
        "digits",
        "Three digits never trained on, seven trained on",
        {"accuracy": SEEN, **VERIFIED},
    ),
    (
        "faces",
        "Twenty people never trained on, twenty trained on",
        {"accuracy": SEEN, **VERIFIED},
    ),
    (
        "faces",
        "The same twenty people in ten folds, each loss under its own recipe and under softmax's",
        {
            "own_accuracy": ("10-fold accuracy, own %", 100, 1),
            "accuracy_gain": ("minus softmax's recipe", 100, 1),
            "own_accuracy_gain": ("minus the softmax loss", 100, 1),
            "own_tpr": ("TPR@FAR=1e-2, own %", 100, 1),
            "tpr_gain": ("minus softmax's recipe", 100, 1),
            "own_tpr_gain": ("minus the softmax loss", 100, 1),
        },
    ),
    (
        "uneven",
        "Five poor digits with 9 training images, five rich ones with about 90, in the plane",
        {
            "poor_accuracy": ("accuracy, poor %", 100, 1),
            "rich_accuracy": ("accuracy, rich %", 100, 1),
            "rich_region": ("directions that are a rich class %", 100, 1),
            "rich_norm": ("length of class mean, rich / poor", 1, 2),
            "per_class": ("numbers kept a class", 1, 0),
        },
    ),
)
AGAINST_SOFTMAX = {"gain": "tpr", "own_accuracy_gain": "own_accuracy", "own_tpr_gain": "own_tpr"}


def trial(experiment, loss, seed, quick):
    """Train and measure once, on one thread."""
    torch.set_num_threads(1)
    run = EXPERIMENTS[experiment].quick() if quick else EXPERIMENTS[experiment]
    return run(seed, LOSSES.get(loss), OWN[loss])


def table(columns, rows):
    """Write {loss: {number: values over seeds}} as Markdown: mean ± half of the 95 % interval."""
    recipes = "own_accuracy" in columns
    head = ["loss: recipe" if recipes else "loss", *(heading for heading, _, _ in columns.values())]
    lines = [head, ["---"] * len(head)]
    for loss, numbers in rows.items():
        cells = [f"{loss}: {OWN[loss]}" if recipes else loss]
        for name, (_, factor, decimals) in columns.items():
            mean, half = student(numbers[name]) if name in numbers else (None, None)
            spread = f" ± {factor * half:.{decimals}f}" if half else ""
            cells.append("" if mean is None else f"{factor * mean:.{decimals}f}{spread}")
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@click.command(help=__doc__.splitlines()[0])
@click.option(
    "--seeds",
    default=5,
    show_default=True,
    type=click.IntRange(2),
    help="Runs behind each number, at least 2.",
)
@click.option("--jobs", default=os.cpu_count(), help="Processes, one thread each; default: cores.")
@click.option("--quick", is_flag=True, help="Two seeds of two epochs: numbers mean nothing.")
@click.option(
    "--only", type=click.Choice(list(EXPERIMENTS)), multiple=True, help="Some experiments."
)
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw the plane (PNG).")
def main(seeds, jobs, quick, only, picture):
    seeds = range(2 if quick else seeds)
    chosen = only or list(EXPERIMENTS)
    tasks = [
        (experiment, loss, seed, quick)
        for experiment in chosen
        for loss in [*LOSSES, *["pixels"] * (experiment in ("digits", "faces"))]
        for seed in seeds
    ]
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        results = pool.map(trial, *zip(*tasks, strict=True))
        done = dict(zip(tasks, tqdm(results, total=len(tasks), unit="run"), strict=True))
    rows = {name: {} for name in chosen}
    for (name, loss, seed, _), (numbers, _) in done.items():
        baseline, _ = done[name, "softmax", seed, quick]
        paired = {k: numbers[v] - baseline[v] for k, v in AGAINST_SOFTMAX.items() if v in numbers}
        for number, value in (numbers | paired).items():
            rows[name].setdefault(loss, {}).setdefault(number, []).append(value)
    for name, title, columns in TABLES:
        if name in chosen:
            click.echo(f"\n{title}; {len(seeds)} seeds\n\n{table(columns, rows[name])}")
    if picture and "plane" in chosen:
        planes = {loss: done["plane", loss, 0, quick] for loss in LOSSES}
        draw(
            {k: (*held, f"accuracy {n['accuracy']:.1%}") for k, (n, held) in planes.items()},
            picture,
        )


if __name__ == "__main__":
    main()
