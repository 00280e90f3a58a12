"""The tree of evalkit's errors, and the exit codes of the command line.

EvalkitError                 the message says what was given and expected; `hint` what to do
    DataError                images, lists, archives, embeddings made elsewhere
        NoFaceError          a detector found no face in an image
        SeveralFacesError    a detector found more faces than the one that was asked for
    ModelError               a model that cannot be loaded, fed or trusted
        UndeclaredInputError nothing says how it is fed: no option, preset, side-car or metadata
        IdleInputError       it brings its own input spec, and another one was declared
    FeatureStoreError        evalkit's own feature file: another key, another version, damaged
    ProtocolError            arrays that do not fit together or cannot support the number asked for
    ReportError              a report, baseline or rules file that cannot be read or compared
        UnknownMetricError   a metric that the report does not have; also a KeyError
    WrongTypeError           an argument of a type that means nothing here; also a TypeError
    MissingPackageError      an optional part is not installed; the hint is the install line

The command line (`evalkit.cli.run`) prints `message` and `hint` on one line each and exits with 3,
`EXIT_UNUSABLE`; so it does where memory ends (MemoryError), the system refuses a file (OSError), a
model or a library ends the program (SystemExit), and after the traceback of an internal error.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

EXIT_DONE = 0
EXIT_GATE_FAILED = 1
EXIT_USAGE = 2
EXIT_UNUSABLE = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Show the first names of many, as a message has room for.

    >>> first_few(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


@contextmanager
def needing(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Raise MissingPackageError where an import in the block finds nothing."""
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
        return f"{self.message} ({self.hint})" if self.hint else self.message


class DataError(EvalkitError):
    """Images, lists, archives or embeddings that cannot be used."""


class NoFaceError(DataError):
    """An image in which a detector finds no face."""


class SeveralFacesError(DataError):
    """An image in which a detector finds several faces, where its only one is wanted."""


class ModelError(EvalkitError):
    """A model that cannot be loaded, fed or trusted."""


class UndeclaredInputError(ModelError):
    """A model of which nothing says how it is fed."""


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
