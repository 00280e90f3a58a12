"""`import evalkit` as a newcomer uses it: every name from the package itself."""

import importlib
import inspect
import subprocess
import sys

import pytest

import evalkit

HEAVY = ["torch", "onnxruntime", "h5py", "click", "PIL", "tqdm", "matplotlib", "scipy", "numpy"]
MODULES = ("ijb", "lfw", "megaface", "trillion", "verification")


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_importing_the_package_imports_nothing_heavy() -> None:
    told = python(f"import evalkit, sys; print([m for m in {HEAVY} if m in sys.modules])")
    assert told == "[]"


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
