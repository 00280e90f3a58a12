"""The recipes of docs/trackers.md, run with the real packages: `tox -e trackers`."""

import re
import shutil
from pathlib import Path

import pytest

from evalkit import report as reports
from evalkit.report.markdown import eval_results, model_card

WHY = "run by `tox -e trackers`"
mlflow = pytest.importorskip("mlflow", reason=WHY)
wandb = pytest.importorskip("wandb", reason=WHY)
trackio = pytest.importorskip("trackio", reason=WHY)
events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=WHY)
hub = pytest.importorskip("huggingface_hub", reason=WHY)
yaml = pytest.importorskip("yaml", reason=WHY)

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "demo" / "lfw.json"
PAGE = (ROOT / "docs" / "trackers.md").read_text(encoding="utf-8")
REPORT = reports.read(GOLDEN)
# what these packages warn of in themselves
pytestmark = pytest.mark.filterwarnings("ignore")


def recipe(name: str) -> str:
    """Give the Python of a tracker: the page's first lines, then its own."""
    first, *_ = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (own,) = re.findall(rf"\*\*{name}\*\*.*?```python\n(.*?)```", PAGE, re.DOTALL)[:1]
    return f"{first}\n{own}"


@pytest.fixture(autouse=True)
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(GOLDEN, "report.json")
    if GOLDEN.with_suffix(".npz").is_file():
        shutil.copy(GOLDEN.with_suffix(".npz"), "report.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the small package has no database
    monkeypatch.setenv("WANDB_MODE", "offline")
    for module in ("utils", "sqlite_storage"):  # it reads its variable when it is imported
        monkeypatch.setattr(f"trackio.{module}.TRACKIO_DIR", tmp_path / "trackio")


def test_mlflow() -> None:
    exec(recipe("MLflow"), {})
    (run,) = mlflow.search_runs(output_format="list")
    kept = {re.sub("[@=,]", "_", name): value for name, value in REPORT.flat().items()}
    assert run.data.metrics == pytest.approx(kept)
    mlflow.end_run()


def test_wandb() -> None:
    held: dict[str, object] = {}
    exec(recipe("Weights & Biases"), held)
    run = held["run"]
    kept = {name: run.summary[name] for name in REPORT.flat()}  # type: ignore[attr-defined]
    assert kept == pytest.approx(REPORT.flat())
    wandb.finish()


def test_tensorboard() -> None:
    exec(recipe("TensorBoard"), {"epoch": 3})
    read = events.EventAccumulator("runs/faces")
    read.Reload()
    kept = {tag: read.Scalars(tag)[0] for tag in read.Tags()["scalars"]}
    assert {tag: s.value for tag, s in kept.items()} == pytest.approx(REPORT.flat(), rel=1e-6)
    assert {s.step for s in kept.values()} == {3}


def test_trackio() -> None:
    exec(recipe("trackio"), {})
    api = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    (name,) = api.get_runs("faces")
    (row,) = api.get_logs("faces", name)
    kept = {name.replace("=", "_"): value for name, value in REPORT.flat().items()}
    assert {k: row[k] for k in kept} == pytest.approx(kept)


def test_the_hub_reads_eval_results() -> None:
    text = eval_results([REPORT], "org/faces@5503434d")
    (entry,) = hub.parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.dataset_revision) == ("org/faces", "5503434d")
    assert entry.value == REPORT["accuracy"].value
    assert f"list sha256:{REPORT.identity.list}" in entry.notes


def test_the_hub_reads_the_model_card() -> None:
    card = hub.ModelCard(model_card([("mine", REPORT), ("mine", REPORT)]))
    found = card.data.eval_results
    assert {r.metric_type: r.metric_value for r in found} == REPORT.flat()
    assert len(found) == 2 * len(REPORT.flat()) and card.data.model_name == "mine"
