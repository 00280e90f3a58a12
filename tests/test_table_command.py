"""`evalkit table`: reports of models and sets in one table, ties, reasons and every format."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jinja2")

from evalkit.cli import run
from evalkit.errors import ReportError, UnknownMetricError
from evalkit.protocols import verification
from evalkit.types import Estimate, Failures, PairSet, Report
from evalkit.verdict.leaderboard import leaderboard
from evalkit.verdict.leaderboard_formats import csv_text, html, markdown, text

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

ACCURACY = ("", "accuracy")


def measured(noises: list[float], set_name: str, seed: int = 0) -> list[Report]:
    """Measure models of more and more noise on one list of pairs."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(60), 4).astype(np.int32)
    x = rng.normal(size=(60, 16))[subject] + 0.5 * rng.normal(size=(240, 16))
    left = np.arange(800) % 240
    genuine = np.arange(800) % 2 == 0
    mate, stranger = left // 4 * 4 + (left + 1) % 4, (left + 4 * (1 + np.arange(800) % 59)) % 240
    pairs = PairSet(
        left, np.where(genuine, mate, stranger), genuine, (np.arange(800) // 80).astype(np.int16)
    )
    noise = rng.normal(size=x.shape)
    keys = [f"p{who}/{row}.jpg" for row, who in enumerate(subject)]
    return [
        verification.evaluate(
            (x + each * noise).astype(np.float32), pairs, subject, keys=keys, set_name=set_name
        )
        for each in noises
    ]


@pytest.fixture(scope="module")
def three() -> list[Report]:
    return measured([0.0, 0.02, 0.8], "people")


@pytest.fixture(scope="module")
def folder(three: list[Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the reports of three models on two sets as MODEL/SET.json."""
    root = tmp_path_factory.mktemp("runs")
    for set_name, reports in (
        ("people", three),
        ("others", measured([0.0, 0.02, 0.8], "others", 1)),
    ):
        for model, report in zip(("large", "near", "small"), reports, strict=True):
            (root / model).mkdir(exist_ok=True)
            report.save(root / model / f"{set_name}.json")
    return root


def test_the_best_its_ties_and_the_worse_are_told_apart(three: list[Report]) -> None:
    board = leaderboard(three, ["large", "near", "small"])
    best = max(three, key=lambda r: r["accuracy"].value or 0)
    standing = {name: board.standings[name, ACCURACY] for name in board.names}
    assert standing[("large", "near", "small")[three.index(best)]] == "best"
    assert sorted(standing.values()) == ["behind", "best", "tied"]
    assert standing["small"] == "behind"
    shown = text(board)
    row = next(line for line in shown.split("\n") if line.startswith("small"))
    assert "+" not in row and "=" not in row
    assert "= not told from the best" in shown and "n=800 pairs, 60 people" in shown
    assert max(map(len, shown.split("\n"))) <= 80


def test_ten_reports_and_long_names_keep_every_name(three: list[Report]) -> None:
    names = [f"{'a-network-of-our-own-' * (n == 3)}{n}" for n in range(10)]
    board = leaderboard([three[n % 3] for n in range(10)], names)
    for form in (text, markdown, csv_text, html):
        assert all(
            re.search(rf"^\W*(<tr><th[^>]*>)?{name}\b", form(board), re.M) for name in names
        ), form


def test_models_by_sets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = sorted(map(str, folder.rglob("*.json")))
    assert run(["table", *paths, "--metric", "accuracy", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == ["large", "near", "small"]
    for row in rows:
        for of_set in ("people", "others"):
            kept = Report.load(folder / row["name"] / f"{of_set}.json")["accuracy"]
            assert float(row[f"{of_set} accuracy"]) == kept.value
            assert float(row[f"{of_set} accuracy low"]) == kept.low
            assert int(row[f"{of_set} accuracy people"]) == kept.people == 60
    assert rows[2]["people accuracy standing"] == "behind"


def test_other_comparisons_have_no_best_and_the_reason_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["table", *map(str, sorted((folder / "large").glob("*.json")))]) == 0
    shown = capsys.readouterr().out
    assert "no best is marked" in shown and "differ in 'set'" in " ".join(shown.split())
    assert not re.search(r"[+=?]$", shown, re.M)


def test_one_that_cannot_be_compared_is_marked_and_the_others_are_not(
    three: list[Report],
) -> None:
    lone = replace(three[2], outcomes=None)
    board = leaderboard([*three[:2], lone], ["a", "b", "lone"], metrics=["accuracy"])
    standing = [board.standings[name, ACCURACY] for name in board.names]
    assert standing[2] == "not compared" and sorted(standing[:2]) == ["best", "tied"]
    assert "no outcomes" in csv_text(board) and "lone: not compared with" in text(board)


def test_cautions_notes_and_reasons_survive_in_every_format(three: list[Report]) -> None:
    doubtful = replace(
        three[0],
        failures=Failures(images=2, genuine=3, impostor=4),
        metrics={
            **three[0].metrics,
            "accuracy": replace(three[0]["accuracy"], note="only for show"),
            "tpr@far=1e-2": Estimate(value=None, note="too few to say"),
        },
    )
    board = leaderboard([doubtful, three[1]], ["doubtful", "plain"])
    for form in (text, markdown, csv_text, html):
        shown = form(board)
        for said in ("2 images without a template", "only for show", "too few to say"):
            assert said in shown, (form, said)
    assert "doubtful accuracy: only for show" in text(board)


def test_a_metric_nobody_has_and_one_name_for_two(three: list[Report]) -> None:
    with pytest.raises(UnknownMetricError) as unknown:
        leaderboard(three, ["a", "b", "c"], metrics=["acuracy"])
    assert unknown.value.hint == "did you mean 'accuracy'?"
    with pytest.raises(ReportError, match="two reports of people are called 'a'"):
        leaderboard(three, ["a", "a", "b"])


def test_rows_are_sorted_by_a_column_the_best_first(three: list[Report]) -> None:
    board = leaderboard(three[::-1], ["small", "near", "large"], metrics=["eer", "accuracy"])
    value = {n: board.estimates[n, ACCURACY].value for n in board.names}
    by_accuracy = board.sorted_by("accuracy").names
    assert (
        list(by_accuracy) == sorted(value, key=lambda n: -value[n]) and by_accuracy[-1] == "small"
    )
    errors = {n: board.estimates[n, ("", "eer")].value for n in board.names}
    assert list(board.sorted_by("eer").names) == sorted(errors, key=errors.__getitem__)
    with pytest.raises(UnknownMetricError, match="no such column: 'auc'"):
        board.sorted_by("auc")


def test_reports_with_nothing_in_common_say_so(three: list[Report]) -> None:
    other = replace(three[0], metrics={"rank-1": Estimate(value=0.5)})
    with pytest.raises(ReportError, match="no metric in common"):
        leaderboard([three[0], other], ["a", "b"])
    board = leaderboard([three[0], other], ["a", "b"], metrics=["accuracy", "rank-1"])
    assert ("b", ACCURACY) not in board.estimates and len(board.estimates) == 2


def test_a_text_that_a_spreadsheet_would_compute_is_no_formula(three: list[Report]) -> None:
    board = leaderboard(three[:1], ["=cmd|' <b>/C calc'!A0"])
    assert csv_text(board).split("\n")[1].startswith("'=cmd")
    assert "&lt;b&gt;" in html(board) and "<b>" not in html(board)


@pytest.mark.parametrize(
    ("ending", "begins"),
    [(".txt", " "), (".md", "| "), (".csv", "name,"), (".html", "<!doctype html>")],
)
def test_the_file_ends_as_its_format(
    folder: Path, tmp_path: Path, ending: str, begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"board{ending}"
    words = ["--name", "A", "--name", "B", "-o", str(out)]
    assert (
        run(["table", *(str(folder / m / "people.json") for m in ("large", "near")), *words]) == 0
    )
    shown = capsys.readouterr()
    assert out.read_text().startswith(begins) and "A" in out.read_text()
    assert shown.out == "" and f"2 reports written to {out}" in shown.err


def test_more_names_than_reports_is_wrong_usage(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = str(folder / "large" / "people.json")
    assert run(["table", report, "--name", "a", "--name", "b"]) == 2
    assert "2 names for 1 reports" in capsys.readouterr().err
