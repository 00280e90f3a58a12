"""The tables of docs/losses.md, made from results.jsonl.

    python examples/losses/page.py

writes them into the page, between its two marks.  The rest of the page is written by hand.
"""

import json
from pathlib import Path

from hypotheses import HYPOTHESES
from measure import OWN, student

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results.jsonl", HERE.parents[1] / "docs" / "losses.md"
BEGIN = "<!-- made by examples/losses/page.py from results.jsonl -->"
END = "<!-- end of what is made -->"
LOOKED_AT = 0  # the seed that was looked at before the bounds of the hypotheses were written
# number -> (heading, factor, decimals)
COLUMNS = {
    "people trained on, other images": {
        "accuracy": ("named rightly %", 100, 1),
        "poor_accuracy": ("poorer half %", 100, 1),
        "rich_accuracy": ("richer half %", 100, 1),
        "mates": ("same person, °", 1, 1),
        "nearest": ("nearest other, °", 1, 1),
        "ratio": ("within/between, L2²", 1, 2),
        "crossed": ("farther than nearest other, L2 %", 100, 1),
    },
    "people never trained on": {
        "tpr": ("TPR@FAR=1e-3, cosine %", 100, 1),
        "gain": ("minus softmax's", 100, 1),
        "tpr_l2": ("by L2 %", 100, 1),
        "cosine_gain": ("cosine minus L2", 100, 1),
        "eer": ("EER %", 100, 1),
        "length": ("length's share of same-person L2² %", 100, 1),
    },
    "images of a person and region, training images": {
        "region_l2": ("rank correlation, L2", 1, 2),
        "region_angle": ("degrees", 1, 2),
        "region_norm": ("length of the mean", 1, 2),
        "rich_region": ("strangers taken for the richer half %", 100, 1),
    },
    "ten folds of new people, each loss by its own system's recipe": {
        "own_accuracy": ("accuracy %", 100, 1),
        "accuracy_gain": ("minus softmax's recipe", 100, 1),
        "own_tpr": ("TPR@FAR=1e-2 %", 100, 1),
        "tpr_gain": ("minus softmax's recipe", 100, 1),
    },
}


def read(path=RESULTS):
    """Results as (loss, seed) -> {name: number}; with each TPR minus softmax's of the seed."""
    runs = {}
    for line in map(json.loads, path.read_text().splitlines()):
        runs[line.pop("loss"), line.pop("seed")] = line
    for (_, seed), numbers in runs.items():
        if ("softmax", seed) in runs:
            numbers["gain"] = numbers["tpr"] - runs["softmax", seed]["tpr"]
    return runs


def whole(runs):
    """Results of the seeds that every loss ran with."""
    losses = {loss for loss, _ in runs}
    seeds = {s for _, s in runs if all((loss, s) in runs for loss in losses)}
    return {key: numbers for key, numbers in runs.items() if key[1] in seeds}


def shown(mean, half, factor, decimals):
    """A mean with half the width of its interval."""
    return f"{factor * mean:.{decimals}f} ± {factor * half:.{decimals}f}"


def table(rows):
    """Lines of a Markdown table; the first row is the head."""
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return [lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]


def made(runs):
    """The page's tables: verdicts of the seeds not looked at before, numbers of all seeds."""
    runs = whole(runs)
    seeds = sorted({seed for _, seed in runs})
    unseen = {key: numbers for key, numbers in runs.items() if key[1] != LOOKED_AT}
    told = f"Verdicts are of {len(seeds) - 1} seeds, {LOOKED_AT + 1} to {seeds[-1]}"
    lines = [f"{told}; the tables below them of {len(seeds)}, {LOOKED_AT} to {seeds[-1]}.", ""]
    rows = [["claim", "measured", "mean ± 95 %", "verdict"]]
    for h in HYPOTHESES:
        mean, half, verdict = h.judged(unseen)
        told = shown(mean, half, h.factor, 2 if h.factor == 1 and not h.unit else 1) + h.unit
        rows.append([h.claim, h.measured, told, f"**{verdict}**"])
    lines += table(rows)
    for title, columns in COLUMNS.items():
        rows = [["loss", *(heading for heading, _, _ in columns.values())]]
        for loss in dict.fromkeys(loss for loss, _ in runs):
            held = [runs[loss, seed] for seed in seeds]
            if not columns.keys() & held[0].keys() or ("own_tpr" in columns and loss not in OWN):
                continue
            cells = [f"{loss}: {OWN[loss]}" if "own_tpr" in columns else loss]
            for name, (_, factor, decimals) in columns.items():
                values = [numbers[name] for numbers in held if name in numbers]
                cells.append(shown(*student(values), factor, decimals) if values else "")
            rows.append(cells)
        lines += ["", f"### {title[0].upper()}{title[1:]}", "", *table(rows)]
    return "\n".join(lines)


def main():
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{made(read())}\n\n{END}{after}")


if __name__ == "__main__":
    main()
