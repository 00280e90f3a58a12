"""A model card against the same measurement made again: equal numbers, or what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalkit.escaping import narrow, printable
from evalkit.protocols import catalogue
from evalkit.report.card import CardResult, made_of, parts_of_runtime
from evalkit.report.spelling import points, spelled, wrapped
from evalkit.types import Report

# What a number rests on, as it is called where it differs: in order of what is looked at first.
FIELDS = (
    *("list", "images", "crop", "decoder", "input spec", "precision", "provider", "library"),
    *("output", "model", "flip", "recipe", "template", "evalkit"),
)
_DIGESTS = ("list", "images")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """One result of a card, and the same measured again.

    values : metric -> on the card, and here; None where it was not measured here.
    unlike : field of `FIELDS` that differs -> on the card, and here.
    unsaid : fields that are known here and that the card does not say.
    """

    set_name: str
    values: Mapping[str, tuple[float, float | None]]
    unlike: Mapping[str, tuple[str, str]]
    unsaid: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every number of the card came out again, to the last digit."""
        return all(said == here for said, here in self.values.values())

    def plain(self) -> dict[str, Any]:
        """Give it as JSON holds it; values and fields that differ have `card` and `here`."""
        return {
            "set": self.set_name,
            "same": self.same,
            "values": {name: _both(pair) for name, pair in self.values.items()},
            "unlike": {name: _both(pair) for name, pair in self.unlike.items()},
            "unsaid": list(self.unsaid),
        }

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def reproduction(said: CardResult, report: Report) -> Reproduction:
    """Hold a card's result against a report of the same set."""
    here, flat = _fields(made_of(report)), report.flat()
    card = _fields(said.made)
    card["protocol"] = f"{said.protocol} version {said.protocol_version}"
    here["protocol"] = f"{said.protocol} version {catalogue.find(said.protocol).version}"
    return Reproduction(
        set_name=said.set_name,
        values={name: (value, flat.get(name)) for name, value in said.values.items()},
        unlike={
            name: (card[name], here.get(name, "nothing"))
            for name in ("protocol", *FIELDS)
            if name in card and card[name] != here.get(name)
        },
        unsaid=tuple(name for name in FIELDS if name in here and name not in card),
    )


def _fields(made: Mapping[str, str]) -> dict[str, str]:
    rest = {name: value for name, value in made.items() if name != "runtime"}
    return rest | parts_of_runtime(made.get("runtime", ""))


def _both(pair: tuple[Any, Any]) -> dict[str, Any]:
    return dict(zip(("card", "here"), pair, strict=True))


def _lines(found: Reproduction) -> list[str]:
    differ = {name: (a, b) for name, (a, b) in found.values.items() if a != b}
    n = len(found.values)
    if not differ:
        lines = [f"{printable(found.set_name)}: the same numbers, {n} of {n}"]
    else:
        lines = [f"{printable(found.set_name)}: {len(differ)} of {n} numbers differ"]
        rows = [("", "card", "here", "difference")]
        rows += [(printable(name), *_cells(name, *both)) for name, both in differ.items()]
        lines += [f"  {line}" for row in narrow(rows, left=(0,)) for line in row]
    for name, (card, here) in found.unlike.items():
        on, at = (text[:12] if name in _DIGESTS else text for text in (card, here))
        lines += wrapped(f"{name} differs: {on} on the card, {at} here", 2, 2)
    if differ and not found.unlike:
        lines += wrapped("nothing differs of what the card records", 2, 2)
    if differ and found.unsaid:
        lines += wrapped(f"the card does not say: {', '.join(found.unsaid)}", 2, 2)
    return lines


def _cells(name: str, card: float, here: float | None) -> tuple[str, str, str]:
    if here is None:
        return spelled(name, card), "not measured", ""
    texts = spelled(name, card), spelled(name, here)
    if texts[0] == texts[1]:
        texts = repr(card), repr(here)
    return (*texts, points(name, here - card, "+"))
