"""Score files that say who is claimed and who it is: four and five columns."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import score_lists
from evalkit.errors import DataError, ProtocolError
from evalkit.protocols import score
from evalkit.protocols.claims import Claims
from evalkit.protocols.metrics import eer, tpr_at_far
from evalkit.types import PairSet

pytestmark = pytest.mark.once

PEOPLE = 12


def lines(models: int, strangers: int = 6, seed: int = 0) -> list[tuple[str, ...]]:
    """Compare three probes of each person, some of them not enrolled, with every model."""
    rng, found = np.random.default_rng(seed), []
    for real in range(PEOPLE + strangers):
        for probe in range(3):
            for claimed in range(PEOPLE):
                for model in range(models):
                    s = f"{1.5 * (claimed == real) + rng.normal():.3f}"
                    name = (f"p{claimed}", f"m{claimed}.{model}", f"p{real}", f"{real}/{probe}", s)
                    found.append(name if models > 1 else (name[0], *name[2:]))
    return found


def written(path: Path, rows: list[tuple[str, ...]], between: str = " ") -> Path:
    path.write_text("\n".join(map(between.join, rows)))
    return path


def searched(rows: list[tuple[str, ...]]) -> dict[str, list[float]]:
    """By hand: rank of each mated search, best score of each other, mates that are first."""
    probes: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    for claimed, *_, real, probe, s in rows:
        probes.setdefault((real, probe), []).append((claimed == real, float(s)))
    found: dict[str, list[float]] = {"rank": [], "mate": [], "nonmate": []}
    for held in probes.values():
        own, other = ([s for same, s in held if same is kind] for kind in (True, False))
        if not own:
            found["nonmate"].append(max(other))
            continue
        found["rank"].append(1 + sum(s > max(own) for s in other))
        found["mate"].append(max(own) if found["rank"][-1] == 1 else -np.inf)
    return found


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("between", [" ", ",", "\t"])
def test_searches_are_those_by_hand(
    models: int, between: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = lines(models)
    path = written(tmp_path / "s.txt", rows, between)
    assert run(["score", str(path), "--threshold", "2.5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    got = {name: m["value"] for name, m in document["metrics"].items()}
    by_hand = {name: np.array(column) for name, column in searched(rows).items()}
    for k in (1, 5, 10):
        assert got[f"rank-{k}"] == np.mean(by_hand["rank"] <= k)
    assert got["fpir@threshold=2.5"] == np.mean(by_hand["nonmate"] >= 2.5)
    assert got["fnir@threshold=2.5"] == np.mean(~(by_hand["mate"] >= 2.5))
    border = np.sort(by_hand["nonmate"])[::-1][len(by_hand["nonmate"]) // 10]
    assert got["tpir@fpir=1e-1"] == np.mean(by_hand["mate"] > border)
    same = np.array([row[0] == row[-3] for row in rows])
    s = np.array([float(row[-1]) for row in rows])
    assert got["eer"] == eer(s[same], s[~same]).value
    assert got["tpr@far=1e-2"] == tpr_at_far(s[same], s[~same], "1e-2").value
    for name, m in document["metrics"].items():
        if m["value"] is not None and name != "tpir@fpir=1e-2":
            assert m["interval"].startswith("95% by subject"), name
    assert document["provenance"]["searches"] == 3 * (PEOPLE + 6)


def test_a_probe_that_meets_a_model_twice_has_no_rank(tmp_path: Path) -> None:
    held = score_lists.read(written(tmp_path / "s.txt", [*lines(1), lines(1)[0]]))
    report = score.evaluate(held.score, held.genuine, claims=held.claims)
    assert "rank-1" not in report.metrics
    assert report.provenance["searches"] == score.TWICE
    assert report.metrics["eer"].interval.startswith("95% by subject")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a a p 0.5\nb a p\n", "line 2: expected 'claimed real probe score'"),
        ("a a p 0.5\n1 0.5\n", "line 2: expected 'claimed real probe score'"),
        ("1 0.5\na a p 0.5\n", "line 2: expected '0.1 score'"),
        ("a m a p 0.5\na a p 0.5\n", "line 2: expected 'claimed model real probe score'"),
        ("a a p nan\n", "line 1: expected a finite number"),
    ],
)
def test_lines_of_two_kinds_are_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "s.txt").write_text(text)
    with pytest.raises(DataError, match=told):
        score_lists.read(tmp_path / "s.txt")


def test_pairs_beside_claims_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(tmp_path / "s.txt", lines(1)))
    assert run(["score", path, "--pairs", path]) == 2
    assert "says who is compared: leave --pairs out" in capsys.readouterr().err


def test_the_score_files_of_bob(shared_data: Path) -> None:
    folder = shared_data / "peers_bob"
    four, five = (score_lists.read(folder / f"scores-cmc-{n}col.txt") for n in (4, 5))
    reports = [
        score.evaluate(held.score, held.genuine, claims=held.claims) for held in (four, five)
    ]
    assert reports[0].metrics == reports[1].metrics
    assert reports[0].metrics["rank-1"].value == 0.76
    matrices = score_lists.read(folder / "test-cmc.hdf5")  # of the same scores, without people
    assert matrices.claims is not None and "each taken for a person of its own" in matrices.told
    again = score.evaluate(matrices.score, matrices.genuine, claims=matrices.claims).metrics
    assert {k: m.value for k, m in again.items()} == {
        k: m.value for k, m in reports[0].metrics.items()
    }
    held = score_lists.read(folder / "scores-nonorm-openset-dev", distance=True)
    opened = score.evaluate(held.score, held.genuine, claims=held.claims)
    assert opened.metrics["tpir@fpir=1e-1"].value is not None


COLUMNS = {"claimed": [0, 1, 0, 1], "real": [0, 0, 1, 1], "model": [0, 1, 0, 1]}
GIVEN = {**COLUMNS, "probe": [0, 0, 1, 1]}
SCORES, SAME = [0.9, 0.1, 0.2, 0.8], [True, False, False, True]


def test_claims_take_lists() -> None:
    lists: dict[str, Any] = GIVEN
    report = score.evaluate(SCORES, SAME, claims=Claims(**lists))  # type: ignore[arg-type]
    arrays = Claims(**{name: np.array(column) for name, column in GIVEN.items()})
    assert dict(report.metrics) == dict(
        score.evaluate(np.array(SCORES), np.array(SAME), claims=arrays).metrics
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"real": ["a", "a", "b", "b"]}, "'real' holds <U1.*number names from 0"),
        ({"real": [0, 0, 1]}, r"4 claims have 'real' of shape \(3,\)"),
        ({"real": [0, 0, -1, -1]}, "'real' of a claim is -1"),
        ({"probe": [0, 0, 0, 0], "model": [0, 1, 2, 3]}, "probe 0 is of two people"),
        ({"claimed": [1, 1, 0, 1]}, "1 of 4 labels are not those of the claims"),
    ],
)
def test_claims_that_contradict_themselves_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        score.evaluate(np.array(SCORES), np.array(SAME), claims=Claims(**{**GIVEN, **wrong}))


@pytest.mark.parametrize(
    ("left", "genuine", "told"),
    [
        ([0, 1, 2, 3], [False, True, True, False], "4 of 4 labels are not those of the pairs"),
        ([0, 1, 2], [True, False, False], r"labels of shape \(4,\) have pairs of shape \(3,\)"),
        ([0, -1, 2, 3], SAME, "a pair names row -1"),
    ],
)
def test_scores_of_other_pairs_are_refused(left: Any, genuine: Any, told: str) -> None:
    pairs, who = PairSet(left, left, genuine), np.arange(4)
    with pytest.raises(ProtocolError, match=told):
        score.evaluate(np.array(SCORES), np.array(SAME), pairs=pairs, subject=who)
