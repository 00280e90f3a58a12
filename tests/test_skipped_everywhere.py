"""A test that ran in no environment is found in the files that pytest wrote in each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skipped_everywhere import NO_DATA, main, outcomes

pytestmark = pytest.mark.once

NO_POOCH = "could not import 'no_such_pooch': No module named 'no_such_pooch'"
MODULES = {
    "test_some.py": f"""
import os, pytest
HERE = os.environ["PACKAGES"].split()

def test_that_runs(): pass
@pytest.mark.xfail
def test_of_a_known_fault(): assert False
@pytest.mark.skipif("numba" not in HERE, reason="no numba")
def test_of_numba(): pass
@pytest.mark.parametrize("package", ["torch", "pyarrow"])
def test_of(package):
    if package not in HERE: pytest.skip(f"no {{package}}, v1.0")
@pytest.fixture
def data(): pytest.skip("{NO_DATA} at folder/")
def test_of_data(data): pass
""",
    "test_torch.py": """
import os, pytest
if "torch" not in os.environ["PACKAGES"]: pytest.skip("no torch", allow_module_level=True)
def test_a_network(): pass
""",
    "test_pooch.py": 'import pytest\npytest.importorskip("no_such_pooch")\ndef test_it(): pass\n',
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What pytest writes of these modules in two environments."""
    folder = tmp_path_factory.mktemp("suite")
    for name, text in MODULES.items():
        (folder / name).write_text(text, encoding="utf-8")
    written = [folder / f"{name}.xml" for name in ("torch", "core")]
    for path, packages in zip(written, ("torch", "numba"), strict=True):
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={path}"],
            env={**os.environ, "PACKAGES": packages, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return [str(path) for path in written]


def test_each_test_has_its_outcome(files: list[str]) -> None:
    assert outcomes(Path(files[1])) == {
        "test_some.test_that_runs": "",
        "test_some.test_of_a_known_fault": "",
        "test_some.test_of_numba": "",
        "test_some.test_of[torch]": "no torch, v1.0",
        "test_some.test_of[pyarrow]": "no pyarrow, v1.0",
        "test_some.test_of_data": f"{NO_DATA} at folder/",
        "test_torch": "no torch",
        "test_pooch": NO_POOCH,
    }


def test_what_ran_nowhere_is_named(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 1
    assert capsys.readouterr().out.splitlines() == [
        "environments: torch core",
        f"ran nowhere, excepted: 1 of {NO_DATA!r}",
        f"ran nowhere: test_pooch: {NO_POOCH}",
        "ran nowhere: test_some.test_of[pyarrow]: no pyarrow, v1.0",
        "ran nowhere, not excepted: 2",
    ]


def test_a_reason_can_be_excepted(files: list[str]) -> None:
    more = ["--excepted", "could not import 'no_such_pooch'", "--excepted", "no pyarrow"]
    assert main([*more[:2], *files]) == 1
    assert main([*more, *files]) == 0


def test_one_environment_alone_lacks_more(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(files[:1]) == 1
    assert "test_some.test_of_numba: no numba" in capsys.readouterr().out
    assert main(files[1:]) == 1
    assert "ran nowhere: test_torch: no torch" in capsys.readouterr().out
