"""Train one small network with each loss of the survey and measure what each of them learns.

python examples/losses/run.py RESULTS    five seeds: half an hour of one core
python examples/losses/run.py --quick RESULTS    two seeds, hardly any training: does it run at all?
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import click
import page
import torch
from experiments import Experiment
from losses import LOSSES, VARIANTS
from measure import OWN
from tqdm import tqdm

RUNS = {**LOSSES, **VARIANTS, "pixels": None}


def trial(loss, seed, quick):
    """Train and measure once, on one thread: one line of the results."""
    torch.set_num_threads(1)
    run = Experiment().quick() if quick else Experiment()
    numbers = run(seed, RUNS[loss], OWN.get(loss, "softmax"))
    return {"loss": loss, "seed": seed} | {k: float(f"{v:.6g}") for k, v in numbers.items()}


@click.command(help=__doc__.splitlines()[0])
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(2))
@click.option("--jobs", default=os.cpu_count(), help="Processes, one thread each; default: cores.")
@click.option("--quick", is_flag=True, help="Two seeds of two epochs: numbers mean nothing.")
def main(results, seeds, jobs, quick):
    """Append a line per loss and seed to RESULTS, seed by seed; what is there is not run again."""
    done = page.read(results) if results.exists() else {}
    tasks = [(loss, seed) for seed in range(2 if quick else seeds) for loss in RUNS]
    tasks = [task for task in tasks if task not in done]
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool, results.open("a") as out:
        begun = [pool.submit(trial, *task, quick) for task in tasks]
        for ended in tqdm(as_completed(begun), total=len(begun), unit="run"):
            out.write(json.dumps(ended.result()) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
