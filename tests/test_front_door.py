"""`import evalkit` as a newcomer uses it: every name from the package itself."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit
from evalkit import Estimate, Report
from evalkit.errors import DataError, EvalkitError, UnknownMetricError, WrongTypeError, as_keywords
from evalkit.protocols import score
from evalkit.report.table import table
from evalkit.types import Failures

HEAVY = ["torch", "onnxruntime", "h5py", "click", "PIL", "tqdm", "matplotlib", "scipy", "numpy"]
MODULES = ("ijb", "lfw", "megaface", "people", "trillion", "verification")


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    told = python(f"import evalkit, sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert told == "[]"


def test_rows_of_npy_are_read_without_h5py_and_pillow(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3))
    reads = f"from evalkit import run; run.matching.by_position({str(tmp_path / 'x.npy')!r})"
    assert python(f"import sys; {reads}; print({{'h5py', 'PIL'}} & {{*sys.modules}})") == "set()"


@pytest.mark.parametrize("name", evalkit.__all__)
def test_each_name_is_there_documented_and_listed(name: str) -> None:
    given = getattr(evalkit, name)
    assert inspect.getdoc(given)
    assert name in dir(evalkit)
    assert inspect.ismodule(given) == (name in MODULES)
    if name in MODULES:
        assert given is importlib.import_module(f"evalkit.protocols.{name}")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'evalkit' has no attribute 'evaluat'"):
        _ = evalkit.evaluat  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="cannot import name 'megaphone'"):
        from evalkit import megaphone  # type: ignore[attr-defined]  # noqa: F401


def test_editors_and_the_program_name_the_same_things() -> None:
    """What a type checker imports is what `__getattr__` gives."""
    source = inspect.getsource(evalkit).partition("if TYPE_CHECKING:")[2].partition("\n__")[0]
    seen: dict[str, object] = {}
    exec(inspect.cleandoc(source.partition("\n")[2]), seen)
    assert {n: v for n, v in seen.items() if n != "__builtins__"} == {
        n: getattr(evalkit, n) for n in evalkit.__all__
    }


def test_a_star_import_gives_the_names() -> None:
    assert python("from evalkit import *; print(lfw.NAME, Report.__name__)") == "lfw Report"


@pytest.fixture
def report(two_reports: tuple[Report, Report]) -> Report:
    return two_reports[0]


def test_a_metric_is_asked_for_by_its_name(report: Report) -> None:
    assert report["accuracy"] is report.metrics["accuracy"]
    assert "auc" in report and "AUC" not in report
    assert list(report) == list(report.metrics)
    with pytest.raises(KeyError) as told:
        _ = report["acuracy"]
    assert isinstance(told.value, EvalkitError)
    assert str(told.value) == (
        "the report of verification has no metric 'acuracy' (did you mean 'accuracy' or 'auc'?)"
    )
    with pytest.raises(UnknownMetricError, match="did you mean 'tpr@far=1e-2' or 'tpr@far=1e-1'"):
        _ = report["tpr@far=1e-3"]
    with pytest.raises(UnknownMetricError, match="it has accuracy, auc, eer, tpr@far=1e-1"):
        _ = report["zzzzzzzzz"]
    with pytest.raises(UnknownMetricError, match="has no metric 0"):
        _ = report[0]  # type: ignore[index]


def test_a_report_and_an_estimate_read_as_one_line(report: Report) -> None:
    m = report["tpr@far=1e-2"]
    assert m.low is not None and m.high is not None and m.threshold is not None
    assert str(m) == (
        f"{m.value:.5g}, 95 % interval [{m.low:.5g}, {m.high:.5g}], n=800, {m.people} people, "
        f"threshold {m.threshold!r}, {m.false_accepts} false accepts, {m.note}"
    )
    assert re.match(r"0\.\d+ ± 0\.\d+ \(standard error\), 95 %", str(report["accuracy"]))
    assert repr(m) == f"<Estimate {m}>"
    assert str(Estimate(value=None, note="no\nimpostors")) == "no value, n=0, no\\nimpostors"
    assert re.fullmatch(
        r"<Report of verification: accuracy [\d.]+, auc [\d.]+, eer [\d.]+ and 2 more>",
        repr(report),
    )
    empty = Report(protocol="p\x1b[2J", protocol_version=1, metrics={})
    assert repr(empty) == r"<Report of p\x1b[2J: no metrics>"


def test_rows_are_plain_dicts(report: Report) -> None:
    rows = report.rows()
    assert [row["metric"] for row in rows] == list(report)
    assert all(type(row) is dict and row["value"] == report[row["metric"]].value for row in rows)
    frame = pytest.importorskip("pandas").DataFrame(rows).set_index("metric")
    assert frame.loc["accuracy", "n"] == 800


def test_a_report_is_kept_and_read_under_the_same_name(report: Report, tmp_path: Path) -> None:
    for path in (tmp_path / "a.json", str(tmp_path / "b.json")):
        report.save(path)
        again = Report.load(path)
        assert dict(again.metrics) == dict(report.metrics)
        assert set(again.outcomes or {}) == set(report.outcomes or {})
    with pytest.raises(WrongTypeError, match="a NoneType where a path belongs"):
        Report.load(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        report.save(3)  # type: ignore[arg-type]


def test_the_table_is_that_of_the_commands(report: Report) -> None:
    assert report.table() == table(report)
    assert report.table("mine").startswith("mine\n ")


def test_a_notebook_shows_a_table_in_which_every_text_is_escaped(report: Report) -> None:
    evil = "<script>alert(1)</script>\x1b"
    shown = replace(
        report,
        protocol=evil,
        metrics={**report.metrics, evil: Estimate(value=None, note=evil)},
        failures=Failures(images=1, keys=(evil,)),
    )._repr_html_()
    assert "<script" not in shown and "\x1b" not in shown
    assert shown.count("&lt;script&gt;") == 4
    assert shown.count("<tr>") == 2 + len(report.metrics)


def test_a_picture_is_drawn_on_the_axes_of_the_caller(report: Report) -> None:
    pyplot = pytest.importorskip("matplotlib.figure")
    figure = pyplot.Figure()
    left, right = figure.subplots(1, 2)
    assert report.plot("roc", ax=left) is figure
    assert plots_draw()("roc", [report, report], names=["old", "new"], ax=right) is figure
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["old", "new"]
    assert left.get_ylabel() == right.get_ylabel() == "TPR"
    assert len(report.plot("det").axes) == 1
    for wrong in (figure, "ax"):
        with pytest.raises(WrongTypeError, match="ax is a"):
            report.plot("roc", ax=wrong)


def test_pictures_take_reports_and_nothing_else(report: Report) -> None:
    pytest.importorskip("matplotlib")
    draw = plots_draw()
    for wrong, kind in ((["a.json"], "str"), ("a.json", "str"), (None, "NoneType")):
        with pytest.raises(WrongTypeError, match=f"a {kind} where a report belongs"):
            draw("roc", wrong)
    with pytest.raises(EvalkitError, match="1 names for 2 reports"):
        draw("roc", [report, report], names=["a"])
    legend = draw("roc", (report, report)).axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["1", "2"]


def plots_draw() -> Callable[..., Any]:
    from evalkit.report.plots import draw

    return draw


def test_a_rate_may_be_a_float_that_means_its_decimal_text() -> None:
    genuine = np.arange(2000) % 2 == 0
    scores = genuine + np.random.default_rng(0).normal(size=2000)
    given = score.evaluate(scores, genuine, fars=[0.1, 1e-3, np.float64(0.3)])
    text = score.evaluate(scores, genuine, fars=["0.1", "0.001", "0.3"])
    assert dict(given.metrics) == dict(text.metrics)
    for wrong in (True, 2, float("nan"), None):
        with pytest.raises(EvalkitError):
            score.evaluate(scores, genuine, fars=[wrong])  # type: ignore[list-item]


HERE = Path(evalkit.__file__).parent
TOLD = re.compile(r"(?<![\w(-])--[a-z]")


def _texts(of: type) -> list[tuple[str, ast.AST]]:
    """Every node of a kind in the modules outside the command line, with its module's name."""
    folders = [HERE, *(HERE / name for name in ("protocols", "adapters"))]
    modules = {path.resolve() for folder in folders for path in folder.rglob("*.py")}
    outside = [p for p in sorted(modules) if p.parent.name != "cli" and p.stem != "pytest_plugin"]
    trees = [(path.name, ast.parse(path.read_text("utf-8"))) for path in outside]
    return [(name, n) for name, tree in trees for n in ast.walk(tree) if isinstance(n, of)]


def test_an_error_in_a_program_names_keywords_and_no_options() -> None:
    functions = [n for _, n in _texts(ast.FunctionDef)]
    known = {a.arg for f in functions for a in (*f.args.args, *f.args.kwonlyargs)}
    known |= {n.target.id for _, n in _texts(ast.AnnAssign) if isinstance(n.target, ast.Name)}
    calls = [(name, n) for name, n in _texts(ast.Call) if ast.unparse(n.func).endswith("Error")]
    found = 0
    for name, call in calls:
        for given in call.args:
            said = re.sub(r"\{[^{}]*\}", "VALUE", ast.unparse(given))
            if TOLD.search(said) is None:
                continue
            found += 1
            spelled = as_keywords(said)
            rest = re.sub(r"(?:evalkit|dask) [^,;()`]*", "", spelled)
            assert TOLD.search(rest) is None, (name, spelled)
            assert {*re.findall(r"\b([a-z_]+)=[\w\[{]", rest)} <= known, (name, spelled)
    assert found > 40


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("--device cpu here, --allow-cpu", "device=cpu here, allow_cpu=True"),
        ("leave out --preset and the rest", "leave out preset and the rest"),
        ("--input-size 112x112, and crops", "InputSpec(size=112x112), and crops"),
        ("--mean 0 --std 1: so", "InputSpec(mean=0, std=1): so"),
        ("--columns label=L --columns score=S", 'columns={"label": L, "score": S}'),
        ("evalkit import --shape N D; --keys LIST", "evalkit import --shape N D; keys=LIST"),
        ("--set NAME, or --ignore set", 'set_name=NAME, or ignore=["set"]'),
        ("--resize only squashes", "ImageSource.resized only squashes"),
    ],
)
def test_options_are_spelled_as_keywords(hint: str, told: str) -> None:
    assert as_keywords(hint) == told
    error = EvalkitError("it fails", hint)
    assert str(error) == f"it fails ({told})" and error.hint == hint


def test_photographs_handed_to_embed_are_told_the_functions_that_align() -> None:
    def model(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)[:, :8].astype(np.float32)

    photographs = np.random.default_rng(0).integers(0, 256, (2, 250, 250, 3), dtype=np.uint8)
    with pytest.raises(EvalkitError) as e:
        evalkit.embed(model, photographs, preset="arcface")
    assert "--align" in e.value.hint and "--" not in str(e.value)
    assert "evalkit.images.alignment.detected" in str(e.value)


@pytest.mark.parametrize(
    ("option", "function"), [("align", "detected"), ("landmarks", "aligned"), ("resize", "resized")]
)
def test_options_of_images_are_told_their_functions(option: str, function: str) -> None:
    def model(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)[:, :8].astype(np.float32)

    crops = np.zeros((2, 112, 112, 3), np.uint8)
    with pytest.raises(EvalkitError) as e:
        evalkit.embed(model, crops, preset="arcface", **{option: "mtcnn"})
    assert f"takes no {option}: images are aligned before they come to it (use " in str(e.value)
    assert str(e.value).endswith(f".{function})")


def test_a_model_of_ones_own_without_a_spec_is_told_so() -> None:
    def network(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1)

    for model in (network, lambda images: images):
        with pytest.raises(DataError, match=r"takes no keys=.*preset=NAME or spec=InputSpec"):
            evalkit.evaluate(model, ["FACES/"])
    with pytest.raises(DataError, match=r"m\.onnx is a model, expected vectors.*load_model"):
        evalkit.evaluate("lfw", "m.onnx")


def test_lists_of_thousands_print_on_one_line() -> None:
    keys = [f"p{k // 2}/{k}.jpg" for k in range(5000)]
    listed = evalkit.Manifest(tuple(keys), np.arange(5000) // 2 - 1)
    assert repr(listed) == "<Manifest of 5,000 images of 2,499 people, the first 'p0/0.jpg'>"
    pairs = evalkit.PairSet([0, 1, 2], [1, 2, 3], [True, False, True], [0, 1, 1])
    assert repr(pairs) == "<PairSet of 2 genuine and 1 impostor pairs, 2 folds>"
    assert repr(evalkit.PairSet([0], [1], [0])).endswith("0 genuine and 1 impostor pairs>")
