"""Tests that ran in none of several environments, of the JUnit files that pytest wrote there.

``python tests/skipped_everywhere.py .tox/outcomes/*.xml`` exits with 1 if there are any, but for
those that lack what no package brings.
"""

import argparse
import ast
import sys
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree

NO_DATA = "no real data"
NO_GPU = "needs a GPU"
A_GPU = "there is a GPU"
NO_CHROMIUM = "no Chromium on this machine"
EXCEPTED = (NO_DATA, NO_GPU, A_GPU)


def outcomes(path: Path) -> dict[str, str]:
    """Why each test of an environment was skipped, "" where it ran; a module skipped whole is one.

    Names are dotted: ``tests.test_x.test_y[1]``, or ``tests.test_x`` for the module.
    """
    reasons = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}".removeprefix(".")
        skipped = case.find("skipped")
        if skipped is None or skipped.get("type") == "pytest.xfail":
            reasons[name] = ""
        elif skipped.get("type") == "pytest.skip":
            reasons[name] = skipped.get("message") or "no reason given"
        else:  # a module: its file, line and reason as a tuple's repr
            reasons[name] = ast.literal_eval(skipped.text or "")[2].removeprefix("Skipped: ")
    return reasons


def skipped_everywhere(environments: list[dict[str, str]]) -> dict[str, set[str]]:
    """Reasons of each test that ran in no environment.

    A module skipped in one environment is judged by its tests where another collected them.
    """
    reasons = defaultdict(set)
    for environment in environments:
        for name, reason in environment.items():
            reasons[name].add(reason)
    return {
        name: why
        for name, why in reasons.items()
        if "" not in why and not any(other.startswith(f"{name}.") for other in reasons)
    }


def main(arguments: list[str]) -> int:
    """Print what ran nowhere; 1 if a test among it has no reason that is excepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="what --junitxml wrote, one an env")
    parser.add_argument("--excepted", action="append", default=[], help="one more such reason")
    given = parser.parse_args(arguments)
    nowhere = skipped_everywhere([outcomes(path) for path in given.files])
    counted, missed = Counter[str](), {}
    for name, reasons in sorted(nowhere.items()):
        known = [e for e in (*EXCEPTED, *given.excepted) if any(r.startswith(e) for r in reasons)]
        if known:
            counted[known[0]] += 1
        else:
            missed[name] = reasons
    print("environments:", *(path.stem for path in given.files))
    for reason, count in counted.items():
        print(f"ran nowhere, excepted: {count} of {reason!r}")
    for name, reasons in missed.items():
        print(f"ran nowhere: {name}: {'; '.join(sorted(reasons))}")
    print(f"ran nowhere, not excepted: {len(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
