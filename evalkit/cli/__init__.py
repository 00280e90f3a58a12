"""The command `evalkit`: one small file per command, imported when it is called."""

from __future__ import annotations

import difflib
import gc
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from evalkit import __version__
from evalkit.cli import signals, terminal
from evalkit.cli.terminal import say, show
from evalkit.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    EXIT_UNUSABLE,
    EXIT_USAGE,
    EvalkitError,
)
from evalkit.protocols import catalogue

# section of --help -> name -> summary
SECTIONS: dict[str, dict[str, str]] = {
    "Begin": {
        "demo": "See it work: real embeddings, offline, in seconds.",
        "list": "Every protocol: what it measures, needs and follows.",
        "synth": "A face-like feature set of any size, with its exact answer.",
    },
    "Vectors": {
        "align": "Aligned crops of photographs, by a face detector.",
        "check": "Is the input spec right? The likely mistakes, tried.",
        "devices": "The GPUs here, what can use them, what is missing.",
        "drift": "Two exports of one network: how far apart, and why.",
        "embed": "The vectors of any images, kept in a feature file.",
        "import": "Embeddings from anywhere into one feature file.",
    },
    "Measure": {
        record.command: record.title for record in catalogue.OWN if record.command != "demo"
    },
    "Measure several": {
        "bench": "One model on several sets: one table, a report and a gate per set.",
    },
    "Decide": {
        "compare": "Is one model better than another? Paired, with p-values.",
        "gate": "May this report replace the baseline? Exit code 0 or 1.",
        "rules": "A gate's rules checked, before there is a report.",
        "table": "Any number of reports in one table, ties with the best marked.",
        "threshold": "The threshold to deploy for a FAR, with intervals.",
        "calibrate": "Scores as log likelihood ratios: how good, and a file that applies them.",
        "reproduce": "A model card run again: the same numbers, or what differs.",
        "report": "Reports as a page, pictures, Markdown or a model card.",
    },
    "Look up": {
        "cache": "The cached vectors: list them, or make room.",
        "recipes": "How each published system gets its figure.",
        "schema": "The JSON schema of the report file.",
    },
}
_GIVEN_BY = {  # the option of a file, by its suffix
    ".onnx": "--model", ".ort": "--model", ".pt2": "--model",
    ".npy": "--features", ".npz": "--features", ".h5": "--features",
}  # fmt: skip
_COMPLETION = "_EVALKIT_COMPLETE"  # set where a shell asks click to complete a line
COMMANDS = [name for section in SECTIONS.values() for name in section]


class _Commands(click.Group):
    """Finds a command by its name, imports only that one, and suggests the nearest for a typo."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_installed()]  # not list(): that is a command here, once imported

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS or name in _installed():
            return load(name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else "-"
        if name not in COMMANDS and not name.startswith("-") and name not in _installed():
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The summaries stand in SECTIONS, so that --help imports no command.
        sections = {title: [*section.items()] for title, section in SECTIONS.items()}
        if others := [(name, f"A protocol of {of}.") for name, of in _installed().items()]:
            sections["Measure, by installed packages"] = others
        width = max(len(name) for lines in sections.values() for name, _ in lines)
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in lines])


def load(name: str) -> click.Command:
    """Import a command; ProtocolError where it is of another package's protocol and broken."""
    module = f"evalkit.cli.{'import_' if name == 'import' else name}"  # a word of Python's own
    if name in COMMANDS and importlib.util.find_spec(module) is not None:
        command: click.Command = importlib.import_module(module).command
        return command
    from evalkit.cli.installed import command_of

    return command_of(catalogue.find(name))


def _installed() -> dict[str, str]:
    """Other packages' protocols that are commands here: name, and the package."""
    return {
        name: entry.dist.name if entry.dist else entry.value
        for name, entry in catalogue.installed().items()
        if name not in COMMANDS
    }


@click.group(
    cls=_Commands,
    context_settings={"auto_envvar_prefix": "EVALKIT", "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="evalkit")
def cli() -> None:
    """Measure face recognition: exact, reproducible numbers for a model or its embeddings.

    A report kept with --out is read by compare, gate, threshold and report.

    Exit codes: 0 done or gate passed, 1 gate failed, 2 wrong usage, 3 data or model cannot be
    used, 130 interrupted (143 by SIGTERM). An option may also be given by an environment variable,
    as EVALKIT_LFW_MODEL.
    """
    if not gc.isenabled():  # by `main`; the command is imported now
        gc.freeze()
        gc.enable()


def main(args: list[str] | None = None) -> None:
    """Run the command line; exit codes are those of `evalkit.errors`."""
    gc.disable()  # imports make what stays: Python would look for garbage among it
    signals.heed()
    terminal.open_streams()
    code = run(args)
    terminal.close_streams()
    gc.freeze()  # else Python looks for garbage among all objects before it ends
    sys.exit(code)


def _instead(told: str, args: Sequence[str] | None) -> str:
    """Option that takes the file which was given without one, or ""."""
    words = ["", *(sys.argv[1:] if args is None else args)]
    for before, word in pairwise(words if "extra argument" in told else ()):
        option = _GIVEN_BY.get(Path(word).suffix.lower())
        if option and not before.startswith("-"):
            return f"did you mean {option} {word}?"
    return ""


def run(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code; one line a mistake, no traceback."""
    try:
        if _COMPLETION in os.environ:
            cli.main(prog_name="evalkit")
        # not cli.main: it exits with 1 where the reader of a pipe left
        with cli.make_context("evalkit", sys.argv[1:] if args is None else [*args]) as context:
            result: Any = cli.invoke(context)
        return result if isinstance(result, int) else EXIT_DONE
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.exceptions.NoArgsIsHelpError as e:
        show(*e.format_message().split("\n"), talk=True)
        return EXIT_USAGE
    except click.ClickException as e:
        where = e.ctx.command_path if isinstance(e, click.UsageError) and e.ctx else "evalkit"
        told = e.format_message()
        say(f"{where}: error: {told}", f"hint: {_instead(told, args) or f'{where} --help'}")
        return EXIT_USAGE  # click's own may be 1, which would say that a gate failed
    except SystemExit as e:
        if e.code == EXIT_TERMINATED or _COMPLETION in os.environ:
            raise
        say(f"evalkit: error: the model or a library ended the program: exit({e.code!r})")
        return EXIT_UNUSABLE
    except (click.Abort, KeyboardInterrupt):
        say("evalkit: interrupted")
        return EXIT_INTERRUPTED
    except EvalkitError as e:
        say(f"evalkit: error: {e.message}", *([f"hint: {e.hint}"] if e.hint else []))
        return EXIT_UNUSABLE
    except MemoryError as e:
        say(f"evalkit: error: out of memory: {str(e) or 'none left'}")
        say("hint: give it more (ulimit -v), fewer rows or a smaller --batch")
        return EXIT_UNUSABLE
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        say(f"evalkit: error: {e.strerror or e}{where}")
        return EXIT_UNUSABLE
    except BaseException:  # 1 would say that a gate failed
        say(*traceback.format_exc().rstrip().split("\n"))
        say("evalkit: error: internal error in evalkit; please report it with the traceback above")
        return EXIT_UNUSABLE
