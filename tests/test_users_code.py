"""Factories: found by module or by file, called without arguments, and what is told of others."""

import contextlib
import re
import sys
from pathlib import Path

import pytest

from evalkit.adapters import load, users_code
from evalkit.errors import ModelError

with contextlib.suppress(ImportError):
    import torch  # noqa: F401 (before a test has modules of its own)

pytestmark = pytest.mark.once

CODE = """
from evalkit.types import InputSpec
import beside_it

class Pixels:
    spec = InputSpec(size=(4, 4), color="rgb", mean=(0,) * 3, std=(1,) * 3)
    dim = beside_it.DIM
    def __init__(self, times=1):
        self.times = times
    def embed(self, images):
        return self.times * images.reshape(len(images), -1).astype("float32")

def kind():
    return Pixels

def deep(layers):
    return Pixels(layers)

def nothing():
    return None

class Network(Pixels):
    def state_dict(self): return {}
    def __call__(self, x): return x

made = Network()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of factories in a folder of its own, with a module beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    (tmp_path / "my nets").mkdir()
    (tmp_path / "my nets" / "made_here.py").write_text(CODE)
    (tmp_path / "my nets" / "beside_it.py").write_text("DIM = 48")
    (tmp_path / "needs.py").write_text("import not_installed_here_at_all")
    return tmp_path


@pytest.mark.parametrize("absolute", [False, True])
def test_a_factory_is_found_by_its_file(folder: Path, absolute: bool) -> None:
    path = Path("my nets") / "made_here.py"
    assert load(f"{folder / path if absolute else path}:Pixels").dim == 48


@pytest.mark.parametrize(
    ("target", "says", "hint"),
    [
        ("my nets/made_here.py:deep", "takes arguments: missing .*'layers'", "without any"),
        ("my nets/made_here.py:deep(3)", "has no deep.3. to call", "without any"),
        ("my nets/made_here.py:kind", "gave a class, Pixels, not a model", r"return Pixels\(\)"),
        ("my nets/made_here.py:made", "has a Network made to call", "give module:function"),
        ("my nets/made_here.py:nothing", "gave a NoneType without", "return a torch.nn.Module"),
        ("my nets/none_here.py:kind", "no such file in", "file.py:function"),
        ("none_here:kind", "No module named 'none_here'", "file.py:function"),
        ("needs:kind", "No module named 'not_installed_here_at_all'", "needs.py, line 1"),
    ],
)
def test_what_is_no_factory_is_told(target: str, says: str, hint: str) -> None:
    with pytest.raises(ModelError, match=says) as told:
        load(target)
    assert re.search(hint, told.value.hint)


def test_another_module_of_the_same_name_is_not_taken_for_it(folder: Path) -> None:
    assert users_code.factory("my nets/made_here.py:Pixels").times == 1
    (folder / "other").mkdir()
    (folder / "other" / "made_here.py").write_text("def Pixels(): return 3")
    with pytest.raises(ModelError, match=r"another module, .*my nets.made_here.py, is called"):
        users_code.factory("other/made_here.py:Pixels")


@pytest.mark.parametrize("kind", ["LazyLinear(5)", "Linear(4, 5, device='meta')"])
def test_a_factory_whose_network_has_no_values_is_told(folder: Path, kind: str) -> None:
    pytest.importorskip("torch")
    (folder / "unmade.py").write_text(f"import torch\ndef net(): return torch.nn.{kind}")
    with pytest.raises(ModelError, match=r"unmade:net has (layers without|weights on)") as told:
        load("unmade:net", preset="arcface")
    assert "programs.py" not in told.value.hint


def test_a_line_of_evalkit_itself_is_not_where_it_was_raised(folder: Path) -> None:
    pytest.importorskip("torch")
    (folder / "two.py").write_text(
        "import torch\nclass Two(torch.nn.Module):\n    def forward(self, x, landmarks): return x"
    )
    with pytest.raises(ModelError, match="positional argument: 'landmarks'") as told:
        load("two:Two", preset="arcface")
    assert not told.value.hint
