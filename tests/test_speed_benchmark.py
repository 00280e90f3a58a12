"""The command that measures every figure runs to its end on small sets, and remakes its tables."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.once
SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "all.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("benchmarks are not in a source distribution")
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("benchmark_of_all", SCRIPT)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, made)
    spec.loader.exec_module(made)
    return made


def test_small_sets_are_measured_and_no_page_is_written(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    assert benchmark.main(["--quick", "--only", "lfw,ijbc", "--page", str(page)]) == 0
    told = capsys.readouterr().out
    assert "| LFW, 404,550 pairs, nine FARs, processor time | <= 0.5 s |" in told
    assert "| IJB-C at its counts |  | not measured |" in told
    assert not page.exists()


def test_a_part_that_fails_is_a_line_and_a_page_gets_its_table(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def broken(o: object) -> object:
        yield benchmark.Figure(name="first", measured=2.0, at_least=3, bound="nothing")
        raise OSError("no space")

    monkeypatch.setitem(benchmark.PARTS, "lfw", broken)
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- lfw: made by benchmarks/all.py -->\nold\n<!-- end of lfw -->\nafter\n"
    )
    assert benchmark.main(["--only", "lfw", "--page", str(page)]) == 0
    row = "| first | >= 3 | 2 | no | nothing |\n"
    row += "| lfw |  | not measured |  | failed: OSError: no space |"
    assert row in capsys.readouterr().out
    assert page.read_text().startswith("before\n<!-- lfw") and row in page.read_text()
    assert "old" not in page.read_text() and page.read_text().endswith("-->\nafter\n")


def test_every_part_has_its_place_in_the_page(benchmark: ModuleType) -> None:
    page = benchmark.PAGE.read_text(encoding="utf-8")
    for part in benchmark.PARTS:
        assert benchmark.with_table(page, part, "a table") != page, part


def test_every_script_is_named_in_the_overview(benchmark: ModuleType) -> None:
    overview = (SCRIPT.parent / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in SCRIPT.parent.glob("*.py") if p.name not in overview] == []
