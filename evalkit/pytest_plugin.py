"""The gate as a pytest plug-in: a model repository's own tests hold its numbers.

    def test_the_model_is_no_worse(evalkit_gate):
        evalkit_gate("report.json", "baseline.json", rules="gates.toml")

`pytest --evalkit-accept` makes each report the new baseline instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every pytest run loads this module: nothing else is imported until used
    from evalkit.types import Report
    from evalkit.verdict.gate import Verdict

    Gate = Callable[..., Verdict | None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--evalkit-accept`."""
    parser.getgroup("evalkit").addoption(
        "--evalkit-accept",
        action="store_true",
        help="make the reports given to the evalkit_gate fixture the new baselines",
    )


@pytest.fixture
def evalkit_gate(request: pytest.FixtureRequest) -> Gate:
    """Give the function `gate(report, baseline, rules=None, ignore=())`: AssertionError if closed.

    report : a Report or the path of one; baseline : a path; rules : the path of a gates.toml;
    ignore : fields in which the two may differ, as `evalkit gate --ignore` takes them.
    """
    accept = bool(request.config.getoption("--evalkit-accept"))

    def gate(
        report: Report | str | os.PathLike[str],
        baseline: str | os.PathLike[str],
        rules: str | os.PathLike[str] | None = None,
        ignore: Sequence[str] = (),
    ) -> Verdict | None:
        from evalkit.verdict import baseline as baselines
        from evalkit.verdict.gate import assert_no_regression

        if accept:
            baselines.accept(report, baseline)
            return None
        return assert_no_regression(report, baseline, rules, ignore=ignore)

    return gate
