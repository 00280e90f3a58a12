"""The installed distribution holds every file of the three source folders, and nothing beside."""

from importlib.metadata import PackageNotFoundError, entry_points, files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSTALLED_AS = {
    "evalkit": "evalkit",
    "protocols": "evalkit/protocols",
    "adapters": "evalkit/adapters",
}


@pytest.fixture(scope="module")
def installed() -> set[str]:
    try:
        listed = {p.as_posix() for p in files("face-evalkit") or []}
    except PackageNotFoundError:
        pytest.skip("evalkit is run from a checkout, not installed")
    if "evalkit/__init__.py" not in listed:
        pytest.skip("editable install")
    return {p for p in listed if "__pycache__" not in p}


def test_the_wheel_holds_every_source_file(installed: set[str]) -> None:
    want = {
        f"{name}/{p.relative_to(ROOT / folder).as_posix()}"
        for folder, name in INSTALLED_AS.items()
        for p in (ROOT / folder).rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
        # where git made no links, they are files
        if p not in (ROOT / "evalkit/protocols", ROOT / "evalkit/adapters")
    }
    assert {p for p in installed if p.startswith("evalkit/")} == want
    assert "evalkit/py.typed" in installed


def test_no_bare_protocols_or_adapters_is_installed(installed: set[str]) -> None:
    tops = {p.split("/")[0] for p in installed if not p.startswith("..")}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"evalkit"}


def test_the_command_is_installed(installed: set[str]) -> None:
    (script,) = entry_points(group="console_scripts", name="evalkit")
    assert script.value == "evalkit.cli:main"
