"""Modules under the names that they had in version 0.1 before they moved into rooms."""

import importlib
import sys

import pytest

from evalkit.moved import NEW_NAMES


@pytest.mark.parametrize(("former", "new"), NEW_NAMES.items())
def test_a_former_name_is_the_module_itself(former: str, new: str) -> None:
    if "torch" in new:
        pytest.importorskip("torch")
    module = importlib.import_module(new)
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=f"{former} is {new} now"):
        assert importlib.import_module(former) is module
    assert module.__spec__ is not None and module.__spec__.name == new


def test_a_name_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"evalkit\.nosuch"):
        importlib.import_module("evalkit.nosuch")
