"""Every public function that takes a path takes it as text and as any path object."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evalkit
from evalkit import cli
from evalkit.errors import WrongTypeError
from evalkit.files import as_path
from evalkit.protocols import allpairs

# What is called with paths that evalkit itself made.
PLUMBING = {
    "evalkit.bench_sets.BenchSet",
    "evalkit.datasets.ijb.MetaLists",
    "evalkit.templates.PooledPairs",
    "evalkit.cache",
    "evalkit.files",
    "evalkit.keys.people_of",
    "evalkit.locks",
    "evalkit.report.replaced_together",
    "evalkit.run.Compared",
    "evalkit.run.groups_of",
    "evalkit.embedding.reuse",
    "evalkit.images.folders",
    "evalkit.images.image_tables",
    "evalkit.images.lmdbs",
    "evalkit.images.members",
    "evalkit.images.record_io",
    "evalkit.images.tars",
    "evalkit.images.zips",
    "evalkit.vectors.hdf5",
    "evalkit.tables.with_header",
    "evalkit.vectors.layout",
    "evalkit.vectors.parquet_footer",
    "evalkit.vectors.row_blocks",
    "evalkit.vectors.text_tables",
    "evalkit.protocols.allpairs.resume",
    "evalkit.protocols.allpairs.scan",
    "evalkit.adapters.onnx.declared",
    "evalkit.adapters.onnx.session",
    "evalkit.vectors.readers.read_arrays",
    "evalkit.vectors.store.FeatureStore",
}
TAKEN = re.compile(r"str \| os\.PathLike\[str\]")


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Name every public function, method and class of the package."""
    for found in pkgutil.walk_packages(evalkit.__path__, "evalkit."):
        if re.search(r"\.(cli|_\w+|__main__|networks)(\.|$)", found.name) or found.name in PLUMBING:
            continue
        try:
            module = importlib.import_module(found.name)
        except ImportError:
            continue  # an optional part that is not here
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            elif inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
                for method, held in inspect.getmembers(value, inspect.isroutine):
                    if not method.startswith("_"):
                        yield f"{module.__name__}.{name}.{method}", held


def paths_of(function: Callable[..., Any]) -> dict[str, str]:
    """Find the parameters of a function that are paths, and their annotations."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    told = {p.name: str(p.annotation) for p in parameters}
    return {name: text for name, text in told.items() if re.search(r"\bPath(Like)?\b", text)}


DOORS = {n: f for n, f in public() if paths_of(f) and n not in PLUMBING}


@pytest.mark.parametrize("name", DOORS)
def test_every_path_is_text_or_a_path_object(name: str) -> None:
    for parameter, annotation in paths_of(DOORS[name]).items():
        assert TAKEN.search(annotation), f"{name}({parameter}: {annotation})"


# These keep their path for later.
LATE = ("allpairs.engine.Engine", "report.hardest.hardest", "report.page.page")
CASES = [(n, p) for n, f in DOORS.items() if not n.endswith(LATE) for p in paths_of(f)]


def outcome(name: str, parameter: str, path: object) -> object:
    """Call a function with one path, and None for all else that it requires; what came of it."""
    function = DOORS[name]
    required = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    several = paths_of(function)[parameter].startswith("Sequence[")
    filled = {**dict.fromkeys(required), parameter: [path] if several else path}
    try:
        given = function(**filled)
        return repr(next(given) if inspect.isgenerator(given) else given)
    except WrongTypeError:
        return WrongTypeError
    except Exception as e:
        return type(e), str(e)


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_text_does_what_a_path_object_does(name: str, parameter: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.npy"
    assert outcome(name, parameter, str(missing)) == outcome(name, parameter, missing)


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_what_is_no_path_is_an_error_of_the_tree(name: str, parameter: str) -> None:
    assert outcome(name, parameter, 3) is WrongTypeError


def test_a_checkpoint_of_the_engine_is_text(tmp_path: Path) -> None:
    x = np.eye(4, dtype=np.float32)
    engine = allpairs.Engine(checkpoint=str(tmp_path / "c"), keep=True)
    allpairs.verify(x, np.array([0, 0, 1, 1]), fars=["0.5"], engine=engine)
    assert list(tmp_path.iterdir())
    engine.forget()
    assert not list(tmp_path.iterdir())


def test_the_front_door_takes_paths_of_reports(
    two_reports: tuple[evalkit.Report, evalkit.Report], tmp_path: Path
) -> None:
    base, new = str(tmp_path / "base.json"), tmp_path / "new.json"
    for report, path in zip(two_reports, (base, new), strict=True):
        report.save(path)
    rules = tmp_path / "gates.toml"
    rules.write_text('[[rule]]\nmetric = "accuracy"\ntest = "plain"\nmax-drop = 0.5\n')
    for given in (rules, str(rules)):
        verdict = evalkit.gate(new, base, given)
        assert verdict.passed and "gate passed: 1 of 1 rules kept" in str(verdict)
    assert not evalkit.gate(new, two_reports[0]).passed
    found = evalkit.compare(base, new)
    assert found.values["accuracy"] == (
        two_reports[0]["accuracy"].value,
        two_reports[1]["accuracy"].value,
    )
    assert str(found).splitlines()[0].split()[:2] == ["base", "other"]


def test_a_home_folder_that_no_shell_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In quotes, in the environment and in Python ~ stays as it is written."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    assert as_path("~/a/b") == home / "a" / "b" and as_path("~") == home
    assert as_path("~a/b") == Path("~a/b") and as_path("a/~/b") == Path("a/~/b")
    (home / "s.txt").write_text("1 0.9\n0 0.1\n1 0.8\n0 0.2\n")
    monkeypatch.setenv("EVALKIT_SCORE_OUT", "~/r.json")
    assert cli.run(["score", "~/s.txt", "--far", "0.5"]) == 0
    assert f"written to {home / 'r.json'}" in capsys.readouterr().err
    (here / "~").mkdir()  # of a program that did not know either
    assert as_path("~/a") == Path("~/a")
