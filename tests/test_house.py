"""The three folders keep their direction: a protocol needs numpy and scipy, nothing else."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from statistics import median

import pytest

import evalkit
from evalkit import adapters, protocols

ROOMS = [Path(package.__file__ or "").parent for package in (evalkit, protocols, adapters)]
WITH_EXAMPLES = sorted(
    f"{package.__name__}.{'.'.join(module.relative_to(room).with_suffix('').parts)}".removesuffix(
        ".__init__"
    )
    for package, room in zip((evalkit, protocols, adapters), ROOMS, strict=True)
    for module in room.rglob("*.py")
    if room / "protocols" not in module.parents and room / "adapters" not in module.parents
    if ">>> " in module.read_text(encoding="utf-8")
)
HEAVY = ["torch", "onnxruntime", "h5py", "click", "PIL", "tqdm", "matplotlib"]
HEAVY += [f"scipy.{part}" for part in ("integrate", "ndimage", "optimize", "stats")]
PROTOCOLS = sorted(module.name for module in pkgutil.iter_modules(protocols.__path__))


@pytest.mark.once
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_imports_nothing_heavy(name: str) -> None:
    code = f"import sys, evalkit.protocols.{name}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings(name: str) -> None:
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed


def test_a_public_type_has_a_name_of_its_own() -> None:
    places: dict[str, set[Path]] = {}
    for module in {module.resolve() for room in ROOMS for module in room.rglob("*.py")}:
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            alias = isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)
            name = node.targets[0] if isinstance(node, ast.Assign) else node
            named = getattr(name, "id", "") if alias else getattr(node, "name", "")
            if named[:1].isupper() and not named.isupper():
                places.setdefault(named, set()).add(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_a_module_fits_a_reader() -> None:
    lines = {
        module: len(module.read_text(encoding="utf-8").splitlines())
        for room in ROOMS
        for module in room.rglob("*.py")
    }
    assert {module: n for module, n in lines.items() if n > 400} == {}


ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").is_file(), reason="no documents beside the tests"
)
@pytest.mark.parametrize("folder", ["evalkit", "protocols", "adapters"])
def test_the_size_table_is_true(folder: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{folder}/` \|(.*)\|$", text, re.MULTILINE)
    assert row is not None
    told = [int(cell.replace(",", "")) for cell in row[1].split("|")]
    lines = [
        len(module.read_text(encoding="utf-8").splitlines())
        for module in (ROOT / folder).rglob("*.py")
    ]
    true = [len(lines), round(median(lines)), max(lines), sum(lines)]
    assert all(abs(a - b) <= 0.1 * b for a, b in zip(told, true, strict=True)), (
        f"CONTRIBUTING.md says {told} of {folder}/, it is {true}"
    )


@pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").is_file(), reason="no documents beside the tests"
)
def test_every_dependency_earns_its_line() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| ([^|]+) \|", text.partition("## Dependencies")[2], re.MULTILINE)
    told = {word.lower() for row in table for word in re.findall(r"[\w-]+", row)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [
        *project["project"]["dependencies"],
        *(r for extra in project["project"]["optional-dependencies"].values() for r in extra),
        *(r for group in project["dependency-groups"].values() for r in group),
    ]
    names = {re.split(r"[\[><=;]", r)[0].strip() for r in asked if isinstance(r, str)}
    assert names - {"face-evalkit"} - told == set()


def module_name(path: Path) -> str:
    """Import name of a file of the three folders."""
    package, room = next(
        (package, room)
        for package, room in reversed(list(zip((evalkit, protocols, adapters), ROOMS, strict=True)))
        if room in path.parents
    )
    parts = path.relative_to(room).with_suffix("").parts
    return ".".join([package.__name__, *parts]).removesuffix(".__init__")


MODULES = {module_name(path): path for room in ROOMS for path in room.rglob("*.py")}


def imports_of(name: str) -> set[str]:
    """Modules of evalkit that a module imports, in its functions too; not those of typing alone."""
    used = set()
    nodes: list[ast.AST] = [ast.parse(MODULES[name].read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            used |= {f if f in MODULES else str(node.module) for f in full}
        nodes += ast.iter_child_nodes(node)
    return (used & set(MODULES)) - {name}


IMPORTS = {name: imports_of(name) for name in MODULES}


def test_no_circle_of_imports() -> None:
    left = dict(IMPORTS)
    while leaves := [name for name, uses in left.items() if not uses & set(left)]:
        for name in leaves:
            del left[name]
    # The rest reaches a circle; modules that none of the rest imports are outside it.
    while tops := set(left) - {use for uses in left.values() for use in uses}:
        for name in tops:
            del left[name]
    assert left == {}


@pytest.mark.parametrize(
    ("room", "may_use"),
    [
        (
            "protocols",
            "protocols types errors arrays bfloat16 float16 keys files identity memory "
            "replacing torch_float32",
        ),
        ("adapters", "adapters types errors arrays files memory torch_float32"),
    ],
)
def test_no_import_against_the_direction(room: str, may_use: str) -> None:
    allowed = {f"evalkit.{name}" for name in may_use.split()}
    against = {
        (name, use)
        for name, uses in IMPORTS.items()
        for use in uses
        if f"{name}.".startswith(f"evalkit.{room}.") and ".".join(use.split(".")[:2]) not in allowed
    }
    assert against == set()
