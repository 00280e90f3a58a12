"""How the reference page reads docstrings: lines "name : what" as a list, doctests as examples."""

import re
from typing import Any

import griffe

NAMES = r"(\w+(?:, \w+)*) : "
ARGUMENT = re.compile("^" + NAMES)


def as_markdown(text: str) -> str:
    """Make a list of the lines "name : what", and an Examples section of the doctest."""
    lines: list[str] = []
    for line in re.sub(rf"(?<=\S)  (?={NAMES})", "\n", text).splitlines():
        argument = ARGUMENT.match(line)
        if argument and lines and lines[-1] and not lines[-1].startswith(("- `", "    ")):
            lines.append("")
        lines.append(ARGUMENT.sub(r"- `\1`: ", line))
    text = "\n".join(lines)
    return re.sub(r"\n\n(?=>>> )", "\n\nExamples\n--------\n", text, count=1)


class Docstrings(griffe.Extension):
    """Rewrite each docstring as the package is read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Take every module, class and function."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
