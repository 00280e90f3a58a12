"""The tree of evalkit's errors, and the exit codes of the command line.

The command line (`evalkit.cli.run`) prints `message` and `hint` on one line each and exits with 3,
`EXIT_UNUSABLE`; so it does where memory ends (MemoryError), the system refuses a file (OSError), a
model or a library ends the program (SystemExit), and after the traceback of an internal error.

Messages and hints name options as the command line spells them; `str` of an error, which a program
sees, names the same as keywords (`as_keywords`).
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

EXIT_DONE = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_UNUSABLE = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


_PROSE = "or|and|the|as|where|which|reads|writes|wrote|counts|leaves|only"  # no value of an option
_OPTION = re.compile(rf"(?<![\w-])--([a-z][a-z-]*)(?: (?!(?:{_PROSE})\b)([^\s,;()]*[^\s,;():]))?")
_COMMAND = re.compile(r"(?:evalkit|dask) [^,;()`]*")
_FLAGS = {"allow-cpu", "allow-failures", "subset"}
_RENAMED = {"landmark-order": "order", "format": "layout", "set": "set_name"}
_OF_SPEC = {
    "input-size": "size",
    "color": "color",
    "mean": "mean",
    "std": "std",
    "layout": "layout",
}
# What Python has instead of a keyword.
_CALLED = {
    "align": "evalkit.images.alignment.detected",
    "landmarks": "evalkit.images.alignment.aligned",
    "one-set": "trillion.evaluate_one_set",
    "out": "Report.save",
    "resize": "ImageSource.resized",
}


def as_keywords(text: str) -> str:
    """Spell the options of the command line in a message as a program gives them.

    Commands stay as they are.

    >>> as_keywords("--preset NAME as a base, or --allow-cpu; `evalkit list --metrics` has all")
    'preset=NAME as a base, or allow_cpu=True; `evalkit list --metrics` has all'
    """
    parts, end = [], 0
    for command in _COMMAND.finditer(text):
        parts += [_OPTION.sub(_keyword, text[end : command.start()]), command[0]]
        end = command.end()
    said = "".join([*parts, _OPTION.sub(_keyword, text[end:])])
    return said.replace("} columns={", ", ").replace(") InputSpec(", ", ")


def _keyword(option: re.Match[str]) -> str:
    name, value = option[1], option[2]
    if name in _CALLED:
        return _CALLED[name]
    if name in _FLAGS:
        return f"{name.replace('-', '_')}=True" + (f" {value}" if value else "")
    if name in _OF_SPEC:
        part = _OF_SPEC[name]
        return f"InputSpec({part}={value})" if value else f"InputSpec.{part}"
    name = _RENAMED.get(name, name).replace("-", "_")
    if value and "=" in value:
        role, _, column = value.partition("=")
        value = f'{{"{role}": {column}}}'
    if value and name == "ignore":
        value = f'["{value}"]'
    return f"{name}={value}" if value else name


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Show the first names of many, as a message has room for.

    >>> first_few(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextmanager
def needing(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Raise MissingPackageError where the package that the block needs is not found."""
    try:
        yield
    except ImportError:
        raise MissingPackageError(package, extra, purpose) from None


class EvalkitError(Exception):
    """Base of the tree: `message` rebuilds the mistake, `hint` says what to do about it.

    Libraries' own messages, which some are built from, may have line breaks; one line is kept.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        message = " ".join(message.split("\n")).strip()
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return as_keywords(f"{self.message} ({self.hint})" if self.hint else self.message)


class DataError(EvalkitError):
    """Images, lists, archives or embeddings made elsewhere that cannot be used."""


class NoFaceError(DataError):
    """An image in which a detector finds no face."""


class SeveralFacesError(DataError):
    """An image in which a detector finds several faces, where its only one is wanted."""


class ModelError(EvalkitError):
    """A model that cannot be loaded, fed or trusted."""


class UndeclaredInputError(ModelError):
    """A model of which no option, preset, side-car or metadata says how it is fed."""


class IdleInputError(ModelError):
    """A model that brings its own input spec, beside which another one was declared."""


class FeatureStoreError(EvalkitError):
    """A feature file of another key or version, or a damaged one."""


class ProtocolError(EvalkitError):
    """Arrays that do not fit together, or cannot support the number asked for."""


class ReportError(EvalkitError):
    """A report, baseline or rules file that cannot be read or compared."""


class UnknownMetricError(ReportError, KeyError):
    """A metric that a report does not have."""


class WrongTypeError(EvalkitError, TypeError):
    """An argument of a type that means nothing here."""


class MissingPackageError(EvalkitError):
    """An optional part is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            f"pip install 'face-evalkit[{extra}]'",
        )
