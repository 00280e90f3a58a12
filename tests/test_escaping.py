"""What strangers wrote is shown, and never obeyed: terminal, CI logs, Markdown, XML, YAML."""

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import evalkit
from evalkit import adapters, protocols
from evalkit import report as reports
from evalkit.cli import run, terminal
from evalkit.escaping import annotation, laid_out, printable
from evalkit.protocols.uncertainty.paired import Difference
from evalkit.protocols.uncertainty.power import Spread
from evalkit.report.markdown import escaped, model_card, report_markdown
from evalkit.report.table import table
from evalkit.types import Estimate, Failures, Report
from evalkit.verdict.ci import github_annotations, verdict_junit, verdict_markdown
from evalkit.verdict.compare import Changed, Comparison, comparison_table
from evalkit.verdict.gate import Rule, Ruling, Verdict, verdict_table

pytestmark = pytest.mark.once

PARTS = [
    *(
        "a",
        " ",
        "::",
        "::error::x",
        "##vso[",
        "##[group]",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\x00",
        "\x0b",
    ),
    *("\x00", "\x1b]0;x\x07", "\x9b2J", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\u200b"),
    *(
        "\udcff",
        "\ud800",
        "|",
        "`",
        "<b>",
        "![x](y)",
        "@all",
        "#1",
        "https://x.y",
        "%0A",
        "é",
        "漢",
    ),
]
NASTY = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)


def report_of(name: str, note: str, key: str) -> Report:
    return Report(
        protocol=name,
        protocol_version=1,
        metrics={
            "auc": Estimate(value=0.5, low=0.4, high=0.6, n=3, note=note),
            f"m{name}": Estimate(value=None, note=note),
        },
        failures=Failures(1, 1, 1, (key,)),
    )


def verdict_of(name: str, note: str) -> Verdict:
    rule = Rule(metric=f"{name}m")
    return Verdict(
        (Ruling(rule=rule, value=None, baseline=None, failure=f"f{note}", warning=f"w{note}"),)
    )


def comparison_of(name: str, note: str, key: str) -> Comparison:
    spread = Spread(equal=0.01, freedom=9, per_change=0, per_error=0, error=0.1)
    difference = Difference(
        value=0.1, error=0.1, freedom=9, people=10, test="t", spread=spread, mcnemar=0.1
    )
    flip = Changed(key, key, genuine=True, base_score=0.1, other_score=0.2, lost=True)
    return Comparison({f"m{name}": (0.1, 0.2)}, {f"m{name}": difference}, (flip,), f"why{note}")


def shown(name: str, note: str, key: str) -> dict[str, str]:
    report, verdict = report_of(name, note, key), verdict_of(name, note)
    return {
        "table": table(report, f"t{name}"),
        "comparison": comparison_table(comparison_of(name, note, key), (f"a{name}", f"b{note}")),
        "verdict": verdict_table(verdict),
        "markdown": report_markdown(report),
        "verdict in markdown": verdict_markdown(verdict, name),
        "junit": verdict_junit(verdict, name),
        "card": model_card([(name, report)]),
        "annotations": "\n".join(github_annotations(verdict)),
    }


PLAIN = shown("a", "a", "a")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("a\n::error::x", "\r::stop-commands::t", "\x1b]0;x\x07")
@given(NASTY, NASTY, NASTY)
def test_no_text_of_a_stranger_is_more_than_text(name: str, note: str, key: str) -> None:
    for where, text in shown(name, note, key).items():
        lines = text.split("\n")
        # tables break what is too long for its line
        broken = where in ("table", "comparison", "verdict")
        assert len(lines) == PLAIN[where].count("\n") + 1 or broken
        for line in lines:
            assert line.isprintable(), where
            assert not line.lstrip().startswith("::") or where == "annotations"
        text.encode()
    assert not re.search(r"##\w*\[", "".join(shown(name, note, key).values()).replace("\\", ""))


def test_what_is_escaped_stays_as_it_is() -> None:
    for text in ("tpr@far=1e-6 ± é 漢 a::b #1", "\n  ::error::x", "a##[b", "\udcff\u202e"):
        assert printable(printable(text)) == printable(text)
    assert printable("tpr@far=1e-6 ± é 漢 a::b #1") == "tpr@far=1e-6 ± é 漢 a::b #1"
    assert printable("  ::error::x") == r"  \x3a:error::x"
    assert printable("a ##vso[x]##[y]") == r"a \x23#vso[x]\x23#[y]"
    assert laid_out([], left=()) == []
    assert annotation("error", "a,b:c", "50%\n::x") == r"::error title=a%2Cb%3Ac::50%25\n::x"


def test_markdown_makes_no_link_and_calls_nobody() -> None:
    assert escaped("tpr@far=1e-6") == "tpr@far=1e-6"
    assert escaped("@all, a@b.org #12") == r"@&#8203;all, a@&#8203;b.org \#&#8203;12"
    assert escaped("https://a.b www.a.b") == r"https\://a.b www\.a.b"
    assert escaped("![a](b)<i>|$x$~~") == r"!\[a\](b)\<i\>\|\$x\$\~\~"


def test_a_card_and_junit_are_read_as_they_were_meant() -> None:
    yaml = pytest.importorskip("yaml")
    report = replace(report_of("p", "n", "k"), protocol="\x7f\n- x: y\ud800")
    card = yaml.safe_load(model_card([("a\n---\u2028", report)]).strip().strip("-"))
    assert card["model-index"][0]["name"] == r"a\n---\u2028"
    root = ET.fromstring(verdict_junit(verdict_of("\x00\ufffe\ud800<", "]]>\r")))
    assert root[0].get("name") == r"\x00\ufffe\ud800<m"


def test_a_hostile_report_through_every_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "a\n::stop-commands::t\r::error::x\x1b]0;x\x07\u202e##vso[task]\ud800"
    report = report_of(evil, evil, evil)
    base = replace(report, metrics={evil[:-1]: Estimate(value=0.5, n=3, note=evil)})
    for path, held in (("a.json", base), ("b.json", replace(base, failures=Failures()))):
        reports.write(replace(held, provenance={evil: evil}), tmp_path / path)
    (tmp_path / "g.toml").write_text(
        f'[[rule]]\nmetric = {json.dumps(evil[:-1])}\ntest = "plain"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    for line in (
        *("report a.json", "report a.json --markdown", "report a.json --model-card"),
        "report a.json --eval-results a/b",
        *("compare a.json b.json", "gate b.json --baseline a.json --rules g.toml"),
        "rules g.toml",
        *(
            "threshold a.json --far 1e-1",
            "compare a.json b.json --json -",
            "gate a.json --baseline",
        ),
        *("gate b.json --baseline a.json", f"report {evil.replace('/', '')}", f"{evil}"),
    ):
        run(line.split(" "))
        out, err = capfd.readouterr()
        for each in (out + err).split("\n"):
            assert each.isprintable(), line
            assert not each.startswith("::") or each.startswith(("::error title=", "::warning "))


def test_the_page_shows_no_writing_direction_of_a_stranger() -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from evalkit.report.page import page
    from evalkit.verdict.differences import differences

    evil = "a\u202egnp\x9b\ud800"
    curve = {"rank": [1, 2], "rate": [0.5, 1.0]}
    report = replace(
        report_of(evil, evil, evil), curves={f"cmc@{evil}": curve}, provenance={evil: evil}
    )
    text = page(
        [report, report],
        names=[evil, f"b{evil}"],
        differences=differences([report, report]),
    )
    text.encode()
    assert not re.search("[\u202e\x9b]", text) and r"\u202egnp\x9b\ud800" in text


def test_a_warning_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import warnings; from evalkit.cli import terminal; terminal.open_streams();"
        "warnings.warn('a\\n::error::b\\x1b')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr == "warning: a\\n::error::b\\x1b\n"


def test_json_for_a_terminal_is_the_same_json(capfd: pytest.CaptureFixture[str]) -> None:
    held = {"a\x9b\u202e\U000e0041": "\n::é漢\x7f"}
    terminal.document(json.dumps(held, ensure_ascii=False, indent=1))
    out, _ = capfd.readouterr()
    assert json.loads(out) == held
    assert all(line.isprintable() for line in out.rstrip("\n").split("\n")) and "é漢" in out


PRINTS = {"echo", "secho", "print", "print_exc", "print_exception", "echo_via_pager", "warn"}


def test_one_place_prints() -> None:
    """Another would have to escape too, and one that is forgotten is obeyed.

    Beside it `evalkit.embed`, in Python.
    """
    found = []
    for package in (evalkit, protocols, adapters):
        for module in Path(package.__file__ or "").parent.rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                call = node.func if isinstance(node, ast.Call) else None
                name = getattr(call, "attr", getattr(call, "id", ""))
                stream = name == "write" and re.search("std(out|err)", ast.unparse(node))
                if name in PRINTS or stream:
                    found.append(f"{module.name}: {ast.unparse(node)[:60]}")
    constant = [text for text in found if text.startswith("moved.py: warnings.warn(f'{spec.name}")]
    assert len(constant) == 1  # names of evalkit's own modules, which a table holds
    assert set(found) - {*constant} == {
        "terminal.py: click.echo(text, stream)",
        "from_images.py: sys.stderr.write(f'{printable(as_keywords(line))}\\n')",
    }
