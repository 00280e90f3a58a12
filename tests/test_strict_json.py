"""Numbers that no number is: hundreds of digits, 1e999, NaN, negative counts, in every file."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import EvalkitError, ReportError
from evalkit.report.markdown import model_card, report_markdown
from evalkit.report.plots import draw
from evalkit.report.table import table
from evalkit.strict_json import parsed
from evalkit.types import Estimate, Report
from evalkit.verdict.compare import compare, comparison_table
from evalkit.verdict.gate import Rule, check, verdict_table
from evalkit.verdict.threshold import operating_point

pytestmark = pytest.mark.once

NONSENSE = [
    *("9" * 400, "-" + "9" * 400, "9" * 5000, "1e999", "-1e999", "NaN", "Infinity", "1e308", "-1"),
    *(str(2**63), str(2**63 - 1), "0." + "1" * 5000, "null", '"1"', "true", "[]", "{}"),
    "[" * 100_000,
]
REPORT = Report(
    protocol="p",
    protocol_version=1,
    metrics={
        "accuracy": Estimate(
            value=0.5, low=0.25, high=0.75, n=7, standard_error=0.125, folds=(0.5,)
        ),
        "tpr@far=1e-1": Estimate(
            value=0.5, low=0.25, high=0.75, n=9, threshold=0.5, far=0.1, false_accepts=3
        ),
    },
    curves={
        "roc": {"far": [0.0, 0.5, 1.0], "tpr": [0.5, 0.75, 1.0], "threshold": [0.5, 0.25, 0.0]},
        "histogram": {
            "low": [0.0, 1.0],
            "high": [1.0, 2.0],
            "genuine": [0.5, 0.5],
            "impostor": [1, 0],
        },
        "cmc": {"rank": [1, 2], "rate": [0.5, 1.0]},
        "norms": {"low": [0.0, 1.0], "high": [1.0, 2.0], "share": [0.5, 0.5]},
    },
)
TEXT = reports.dumps(REPORT)
PLACES = [found.span() for found in re.finditer(r"(?<=[ \[])-?\d[\d.e+-]*", TEXT)]


@pytest.mark.parametrize("text", ["9" * 400, "1e999", "NaN", "-Infinity", str(2**63), "[" * 10**5])
def test_what_no_number_can_be_is_refused_in_one_line(text: str) -> None:
    for document in (text, f'{{"a": [{text}]}}'):
        with pytest.raises(ValueError, match=r"not a number|too deep|Expecting") as e:
            parsed(document)
        assert len(str(e.value)) < 100
    assert parsed(f"[{2**63 - 1}, {-(2**63)}, 1e308]") == [2**63 - 1, -(2**63), 1e308]


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    text = TEXT.replace('"value": ', '"value": 0.75, "value": ', 1)
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match="an object has 'value' twice"):
        reports.read(tmp_path / "r.json")
    assert parsed('[{"a": 1}, {"a": 2}]') == [{"a": 1}, {"a": 2}]


def use(path: Path, kinds: list[str]) -> None:
    report = reports.read(path)
    table(report, "x")
    report_markdown(report)
    model_card([("m", report)])
    comparison_table(compare(report, REPORT), ("a", "b"))
    verdict_table(check(report, REPORT, [Rule(metric="accuracy", test="plain")]))
    for kind in kinds:
        draw(kind, report)
    operating_point(report, "1e-1")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(st.sampled_from(PLACES), st.sampled_from(NONSENSE))
def test_a_number_of_nonsense_anywhere_in_a_report(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[int, int], number: str
) -> None:
    path = tmp_path_factory.mktemp("r") / "r.json"
    path.write_text(TEXT[: place[0]] + number + TEXT[place[1] :])
    try:
        use(path, [])
    except EvalkitError as e:
        assert "\n" not in str(e)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(
    st.sampled_from(["roc", "det", "histogram", "cmc", "norms", "folds"]),
    st.sampled_from([p for p in PLACES if p[0] > TEXT.index('"curves"')]),
    st.sampled_from(["1e308", "-1", "null", '"1"', "-1e300", str(2**63 - 1)]),
)
def test_a_curve_of_nonsense_is_drawn_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, place: tuple[int, int], number: str
) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path_factory.mktemp("r") / "r.json"
    path.write_text(TEXT[: place[0]] + number + TEXT[place[1] :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            use(path, [kind])
        except EvalkitError as e:
            assert "Traceback" not in str(e)


@pytest.mark.parametrize("curve", [{}, {"far": []}, {"far": [1.0]}, {"far": [0.0], "tpr": [1, 2]}])
def test_a_curve_that_lacks_its_columns_is_one_line(curve: dict[str, list[float]]) -> None:
    pytest.importorskip("matplotlib")
    report = Report(protocol="p", protocol_version=1, metrics={}, curves={"roc": curve})
    with pytest.raises(EvalkitError, match="'roc' cannot be drawn"):
        draw("roc", report)


FIVE = " ".join(["1 2", "3 2", "2 3", "1 4", "3 4"])
FILES = {
    "scores": ("s.txt", "1 {}\n0 .1\n", "score s.txt"),
    "a label": ("s.txt", "{} .5\n0 .1\n", "score s.txt"),
    "a fold": ("s.txt", "1 .5 {}\n0 .1 2\n", "score s.txt"),
    "rules": (
        "g.toml",
        "[[rule]]\nmetric = 'accuracy'\nfloor = {}\n",
        "gate r.json --baseline r.json --rules g.toml",
    ),
    "a list of keys": ("k.json", '{{"path": [{}]}}', "import x.npy f.h5 --keys k.json"),
    "embeddings": ("x.csv", "a,{},1\nb,2,3\n", "import x.csv f.h5"),
    "pairs": ("p.txt", "10 300\nA 1 {}\n", "verify p.txt --features x.npy --keys k.txt"),
    "subjects": ("w.txt", "{}\n{}\n", "geometry --features x.npy --keys k.txt --subjects w.txt"),
}


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "1e999", "NaN", "-1", str(2**63)])
@pytest.mark.parametrize("name", FILES)
def test_a_number_of_nonsense_in_a_file_is_one_line(
    tmp_path: Path,
    name: str,
    number: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    Path("r.json").write_text(TEXT)
    Path("k.txt").write_text("A/1\nA/2\n")
    np.save("x.npy", np.eye(2, dtype=np.float32))
    file, text, line = FILES[name]
    Path(file).write_text(text.replace("{}", number).replace("{{", "{").replace("}}", "}"))
    code = run(line.split())
    said = capsys.readouterr().err
    assert code in (0, 1, 3) and "Traceback" not in said and "fault of evalkit" not in said
    assert code != 3 or len(said.splitlines()) <= 2


@pytest.mark.parametrize("name", ["keys", "left", "score", "genuine"])
def test_outcomes_that_fit_nothing_are_one_line(name: str) -> None:
    import numpy as np

    from evalkit.report.hardest import hardest

    row, genuine = np.arange(6), np.arange(6) % 2 == 0
    outcomes = {"score": np.linspace(0, 1, 6), "genuine": genuine, "left": row, "right": row}
    for nonsense in (np.zeros((2, 2)), np.array("x")):
        crafted = {**outcomes, "keys": np.array([*"abcdef"]), name: nonsense}
        report = replace(REPORT, outcomes=crafted)
        for use_it in (hardest, lambda r: operating_point(r, "3e-1")):
            try:
                use_it(report)
            except EvalkitError as e:
                assert "\n" not in e.message
