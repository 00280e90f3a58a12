"""What a long command says where nobody looks, and what an interrupted one leaves."""

import click
import pytest

from evalkit.cli import COMMANDS, load, output, run
from evalkit.cli.options import Command

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages


def test_a_line_a_minute_goes_into_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 59.0, 60.0, 60.0, 100.0, 121.0, 121.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with output.bar("embedding", "image") as progress:
        for done in (100, 200, 300, 400, 1500):
            progress(done, 7701)
    told = capsys.readouterr().err.splitlines()
    assert told == ["embedding: 300 of 7,701 images", "embedding: 1,500 of 7,701 images"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "m.onnx"], "the vectors made so far are kept"),
        (["--checkpoint", "c.bin"], "goes on from c.bin"),
        ([], "with --checkpoint FILE they would go on"),
    ],
)
def test_ctrl_c_says_what_goes_on(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command("trillion", cls=Command)
    @click.option("--model")
    @click.option("--checkpoint")
    def pressed(model: str | None, checkpoint: str | None) -> None:
        raise KeyboardInterrupt

    load("trillion")
    monkeypatch.setattr("evalkit.cli.trillion.command", pressed)
    assert "trillion" in COMMANDS and run(["trillion", *words]) == 130
    *before, last = capsys.readouterr().err.splitlines()
    assert told in "\n".join(before) and last == "evalkit: interrupted"
