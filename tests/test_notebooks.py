"""The notebooks under examples/ run from top to bottom, as somebody reads them."""

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
if not FOLDER.is_dir():
    pytest.skip("the examples are in the repository only", allow_module_level=True)

pytestmark = pytest.mark.once
LARGEST = 100_000  # bytes, outputs included


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVALKIT_QUICK", "1")
    assert path.stat().st_size <= LARGEST
    cells = [c for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == [*range(1, len(cells) + 1)]
    if any("import torch" in line for cell in cells for line in cell["source"]):
        pytest.importorskip("torch")
    names: dict[str, object] = {}
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
