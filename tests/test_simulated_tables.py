"""Simulated tables of the documents name what the benchmarks draw, and a few trials agree.

The tables take hours.  A few trials of the smallest populations cannot tell 95 from 99 %, but tell
either from the half that a broken interval or test would hold.
"""

import importlib.util
import re
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binomtest

pytestmark = pytest.mark.once
ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TRIALS = 8
FEW = Namespace(trials=TRIALS, draws=40, seed=0, by_pair=False, power=0)


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / "benchmarks" / "decisions.py").is_file():
        pytest.skip("benchmarks are not in a source distribution")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"benchmark_{name}", ROOT / f"benchmarks/{name}.py"
    )
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def table(first: str, page: str = "intervals.md") -> list[list[str]]:
    """Rows of cells of the table whose heading begins with `first`, the heading among them."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n| {first} |")[2]
    lines = f"| {first} |{text}".partition("\n\n")[0].splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line
    ]


def agrees(share: float, shown: str) -> bool:
    """Whether a share of the few trials is one that the shown share allows."""
    number = float(re.findall(r"[\d.]+", shown)[0])
    true = min(max(number / 100 if "%" in shown else number, 0.005), 0.995)
    return bool(binomtest(round(share * TRIALS), TRIALS, true).pvalue > 0.01)


def test_the_table_of_intervals_is_of_the_benchmark() -> None:
    coverage = script("interval_coverage")
    (_, *metrics), *rows = table("people x images")
    worlds = {world.name: world for world in coverage.WORLDS}
    assert {row[0] for row in rows} <= set(worlds)
    shown = dict(zip(metrics, next(r for r in rows if r[0] == "10 x 8")[1:], strict=True))
    found = {n.lower(): held for n, (held, _) in coverage.covered(worlds["10 x 8"], FEW).items()}
    assert all(agrees(found[name.lower()], cell) for name, cell in shown.items())


def test_the_table_of_distractors_is_of_the_benchmark() -> None:
    coverage = script("distractor_coverage")
    (_, *fars), *rows = table("probes against distractors")
    assert [f"FAR={far}" for far in coverage.FARS] == fars
    names = [f"{world}, {rate}" for world in coverage.WORLDS for rate in ("TPR", "FMR")]
    assert [row[0] for row in rows] == names
    held = np.nanmean([*coverage.trials(coverage.WORLDS[0], TRIALS, 40)], axis=0)
    for shares, row in zip(held.T, rows, strict=False):
        assert all(map(agrees, shares, row[1:]))


def test_the_table_of_few_against_many_is_of_the_benchmark() -> None:
    coverage = script("distractor_coverage")
    _, *rows = table("people, and the spread of their rates")
    assert [row[0] for row in rows] == [str(world) for world in coverage.RATE_WORLDS]
    held = np.nanmean([*coverage.rate_trials(coverage.RATE_WORLDS[4], TRIALS, 40)], axis=0)
    assert all(map(agrees, held, rows[4][1:]))


def test_the_table_of_sets_as_people_hand_them_in_is_of_the_benchmark() -> None:
    few = script("few_people")
    heading, *rows = table("all pairs of a set")
    assert [row[0] for row in rows] == [world.name for world in few.SETS]
    names = [name.lower() for name in heading[1:]]
    trials = [*few.of_pairs(few.SETS[3], TRIALS, 40)]
    assert few.SETS[3].truth().keys() == set(names)
    for name, shown in zip(names, rows[3][1:], strict=True):
        assert agrees(np.mean([held[name] for held in trials]), shown), name
    for name in ("searches, 10 people x 1", "equal models, 10 errors"):
        every = [*few.WORLDS[name](TRIALS, 40)]
        held = {w: np.mean([e[w] for e in every if w in e]) for e in every for w in e}
        assert all(
            agrees(v, "3 %" if "p <" in w or "gate" in w else "98 %") for w, v in held.items()
        )


def test_the_table_of_paired_tests_is_of_the_benchmark() -> None:
    tests = script("paired_tests")
    found, fails = tests.cells(tests.WORLDS["10"], FEW)
    _, row, *_ = table("equal models")
    assert row[0] == "3,000 pairs, 10 people"
    sizes = [c.size for name in ("accuracy", "auc", "eer") for c in (found[name],)]
    sizes += [found[f"tpr@far={far}"].size for far in tests.FARS]
    assert all(map(agrees, [*sizes, fails], row[1:]))


def test_the_table_of_thresholds_is_of_the_benchmark() -> None:
    deployed = script("deployed_threshold")
    (_, _, *designs), *rows = table("people", "thresholds.md")
    by_name = {str(design): design for design in deployed.DESIGNS}
    assert set(designs) <= set(by_name)
    assert [row[0] for row in rows if row[0]] == [world.name for world in deployed.WORLDS]
    design = "100 x 4, 10,000 pairs, FAR 1e-2"
    found = deployed.trials(deployed.WORLDS[0], by_name[design], TRIALS, 0.95)
    exceeds = np.count_nonzero(found > 1, axis=0) / TRIALS
    column = 2 + designs.index(design)
    assert agrees(exceeds[0], rows[0][column]) and agrees(
        exceeds[1], rows[1][column].partition(" (")[0]
    )
    assert not np.isnan(found).any() and "(100 %)" in rows[1][column]


def test_the_table_of_damage_is_what_its_benchmark_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script("gate_demo").main(("8 bits",))
    _, *printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert set(printed) <= set((DOCS / "gates.md").read_text("utf-8").splitlines())


def test_binomial_intervals_of_the_demo_are_as_much_shorter_as_said() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = r"%s +([\d.]+) %%  \[([\d.]+), ([\d.]+)\]"

    def longer(metric: str, n: int) -> float:
        found = re.search(shown % re.escape(metric), readme.partition("all 87,549,528 pairs;")[2])
        assert found is not None
        value, low, high = (float(group) / 100 for group in found.groups())
        exact = binomtest(round(value * n), n).proportion_ci()
        return (high - low) / float(exact.high - exact.low)

    few = [longer("accuracy", 6000), *(longer(f"tpr@far=1e-{k}", 3000) for k in (1, 2))]
    every = [longer(f"tpr@far=1e-{k},pairs=all\n", 242_257) for k in (3, 4, 5)]
    text = (DOCS / "intervals.md").read_text("utf-8")
    assert f"are {min(few):.1f} to {max(few):.1f} times\n" in text
    assert f"{min(every):.0f} to {max(every):.0f} times for TPR@FAR=1e-3 to 1e-5" in text


def test_the_table_of_groups_is_of_the_benchmark() -> None:
    groups = script("group_coverage")
    heading, row, *_ = table("population", "groups.md")
    found = sum((groups.trial(groups.WORLDS[0], seed, 40) for seed in range(TRIALS)), Counter())
    for name, shown in zip(heading[1:-1], row[1:-1], strict=True):
        rate, group = name.lower().split(" of ")
        assert agrees(found["FAR 1e-2", f"{rate} {group}"] / TRIALS, shown), name
    assert agrees(found["FAR 1e-2", "fmr p < 0.05"] / TRIALS, row[-1])


def test_the_coverage_of_calibration_is_of_the_benchmark() -> None:
    calibration = script("calibration_coverage")
    shown = re.findall(
        r"(logistic|isotonic) ([\d.]+ %)", (DOCS / "calibration.md").read_text("utf-8")
    )
    assert dict(shown).keys() == {"logistic", "isotonic"}
    found = sum((calibration.trial(seed, 60) for seed in range(TRIALS // 2)), Counter())
    assert all(agrees(2 * found[fit] / TRIALS, share) for fit, share in dict(shown).items())


def test_the_table_of_qualities_is_of_the_benchmark() -> None:
    quality = script("quality_coverage")
    true = quality.truth(np.random.default_rng(0), pairs=200_000)
    found = sum((quality.trial(seed, 40, 60, true) for seed in range(TRIALS)), Counter())
    _, *rows = table("number", "protocols/quality.md")
    names = dict(zip(("before", "anew", "area", "p < 0.05"), (row[1] for row in rows), strict=True))
    assert agrees(found["p < 0.05"] / TRIALS, names.pop("p < 0.05"))
    assert all(agrees(found[kind] / (2 * TRIALS), shown) for kind, shown in names.items())
