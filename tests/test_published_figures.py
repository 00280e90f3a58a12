"""The page of published figures is what its table makes, and every command in it is one."""

import importlib.util
import json
import shlex
import tomllib
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType

import click
import pytest
from scipy.stats import binomtest, chi2_contingency

from evalkit.cli import cli, run

pytestmark = pytest.mark.once

MAKER = Path(__file__).resolve().parents[1] / "benchmarks" / "published_figures.py"
if not MAKER.is_file():
    pytest.skip("no documents beside the tests", allow_module_level=True)


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("published_figures", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MADE = maker()
TABLE = tomllib.loads(MADE.TABLE.read_text(encoding="utf-8"))


def test_the_page_is_made_of_the_table() -> None:
    assert MADE.made(TABLE) in MADE.PAGE.read_text(encoding="utf-8")


def test_every_figure_has_a_command_and_a_measurement_or_a_reason() -> None:
    seen = set()
    for held in TABLE["figure"]:
        assert set(held) <= {"system", "test", "published", "read", "reason"}
        assert 0 < held["published"] <= 100 and held["test"] in TABLE["tests"]
        assert held.get("reason") or held["test"] in TABLE["reasons"], held
        assert (held["system"], held["test"]) not in seen
        seen.add((held["system"], held["test"]))
    assert {*TABLE["measured"]} - {"model"} <= {*TABLE["tests"]}
    assert {*TABLE["measured"]} | {*TABLE["reasons"]} == {*TABLE["tests"], "model"}


@pytest.mark.parametrize("line", sorted(set(TABLE["tests"].values())))
def test_every_command_is_one(line: str) -> None:
    program, name, *words = shlex.split(line)
    command = cli.get_command(click.Context(cli), name)
    assert program == "evalkit" and command is not None
    known = {opt for param in command.params for opt in param.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize(("a", "b"), [(0.9915, 0.9963), (0.99, 0.9902), (0.95, 0.95)])
def test_the_p_of_two_accuracies(a: float, b: float) -> None:
    n = MADE.PAIRS
    right = [round(a * n), round(b * n)]
    table = [[r, n - r] for r in right]
    p = chi2_contingency(table, correction=False).pvalue if a != b else 1.0
    assert MADE.unpaired_p(right[0] / n, right[1] / n) == pytest.approx(p, rel=1e-9)
    gap = abs(right[0] - right[1])
    assert MADE.best_paired_p(a, b) == pytest.approx(binomtest(gap, gap).pvalue if gap else 1.0)


def geometry_said(metrics: dict[str, dict[str, float]]) -> list[str]:
    """What the page says of the geometry of the demo's vectors, of a report's metrics."""
    m = {name: held["value"] for name, held in metrics.items()}
    median = {k: m[f"{k}@space=angle,quantile=0.5"] for k in ("within", "between")}
    far = {space: m[f"farther-than-nearest-impostor@space={space}"] for space in ("l2", "angle")}
    region = metrics["region-samples-correlation@space=angle"]
    low, high = region["low"], region["high"]
    return [
        f"median angle {median['within']:.1f} degrees within, {median['between']:.1f} between",
        f"within/between of squared distances {m['within/between@space=l2']:.3f}",
        f"separation-ratio {m['separation-ratio@space=angle']:.2f}",
        f"{far['angle']:.2%} of genuine pairs are farther".replace("%", " %"),
        f"yes, in one pair of {1 / far['angle']:.0f};",
        f"region and images {region['value']:.2f} [{low:.2f}, {high:.2f}], by angle",
        f"L2 and cosine disagree | {far['l2']:.2%} by both".replace("%", " %"),
        f"ratio {m['participation-ratio']:.0f}, entropy dimension {m['entropy-dimension']:.0f}, of",
        f"skewness of the 10-occurrence {m['hubness-skewness@k=10']:.1f};",
        f"{m['antihubs@k=10']:.1%} of images are in no other".replace("%", " %"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_geometry_of_the_page_is_that_of_the_demos_vectors(tmp_path: Path) -> None:
    with as_file(files("evalkit.datasets") / "data" / "lfw_mobilefacenet.h5") as path:
        assert run(["geometry", str(path), "--json", str(tmp_path / "g.json"), "--quiet"]) == 0
    held = json.loads((tmp_path / "g.json").read_text(encoding="utf-8"))
    page = MADE.PAGE.read_text(encoding="utf-8")
    assert [said for said in geometry_said(held["metrics"]) if said not in page] == []
