"""The vocabulary of metrics: every name that is measured has a record, and the record is right."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.errors import ProtocolError, ReportError
from evalkit.protocols import (
    all_vs_all,
    blufr,
    calibration,
    geometry,
    ijb,
    lfw,
    megaface,
    quality,
    score,
    search,
    trillion,
    verification,
)
from evalkit.protocols.groups import Grouping
from evalkit.protocols.ijb import splits
from evalkit.protocols.metrics import vocabulary
from evalkit.protocols.metrics.vocabulary import METRICS, Metric, metric_of, read, register
from evalkit.protocols.uncertainty.intervals import with_intervals
from evalkit.protocols.uncertainty.outcomes import PairOutcomes, from_arrays
from evalkit.protocols.uncertainty.resampling import metric_draws
from evalkit.protocols.uncertainty.sample import sample_of
from evalkit.protocols.uncertainty.weights import SCALE, subject_draws
from evalkit.report.spelling import spelled
from evalkit.types import Estimate, PairSet, Report
from evalkit.verdict.compare import compare
from evalkit.verdict.gate import Rule, check, read_rules, verdict_table

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden"

# name, better, whether from 0 to 1, whether in percent, resampled as (parameter), part of "":
# what was decided by the beginnings of names before there were records.
KNOWN = """
accuracy                                             higher fraction percent accuracy
accuracy@errata=excluded                             higher fraction percent -
accuracy@threshold=best                              higher fraction percent best-accuracy
auc                                                  higher fraction -       auc
eer                                                  lower  fraction percent eer
tpr@far=0.05                                         higher fraction percent tpr:0.05
tpr@far=1e-3                                         higher fraction percent tpr:1e-3
tpr@far=1e-12                                        higher fraction percent tpr:1e-12
tpr@far=1e-3,rule=nearest-far                        higher fraction percent tpr:1e-3
tpr@far=1e-3,distractors=1000                        higher fraction percent tpr:1e-3
tpr@far=1e-3,distractors=1000,rule=devkit            higher fraction percent tpr:1e-3
tpr@far=1e-6,distractors=100,set=2                   higher fraction percent tpr:1e-6
tpr@far=1e-6,d,cleaned=facex,rule=devkit             higher fraction percent tpr:1e-6
tpr@far=1e-7@pairs=all                               higher fraction percent -
tpr@far=1e-7,mean=subject                            higher fraction percent mean-tpr:1e-7
tpr@far=1e-7,mean=subject,pairs=all                  higher fraction percent mean-tpr:1e-7
fmr@threshold=-0.5                                   lower  fraction -       fmr:-0.5
fmr@threshold=5e-324,distractors=10                  lower  fraction -       fmr:5e-324
fnmr@threshold=0.738                                 lower  fraction percent fnmr:0.738
tpr@far=1e-7,sex=female                              higher fraction percent -
tpr@far=1e-7,sex=female,pairs=all                    higher fraction percent -
fmr@threshold=0.5,sex=female+male                    lower  fraction -       -
fmr@far=1e-4,sex=female+male                         lower  fraction -       -
fnmr@far=1e-4,sex=female                             lower  fraction percent -
fmr@far-of-each=1e-4,sex=female                      lower  fraction -       -
fnmr@far-of-each=1e-4,sex=female                     lower  fraction percent -
fpir@fpir=1e-2,sex=female                            lower  fraction percent -
rank-1@sex=female,distractors=10                     higher fraction percent -
fte@sex=female                                       lower  fraction percent -
fmr-ratio@far=1e-4,sex=female                        -      -        -       -
fnmr-ratio@threshold=0.5,sex=female                  -      -        -       -
fmr-worst/best@far=1e-4,by=sex                       lower  -        -       -
fnmr-worst/best@far=1e-4,by=sex                      lower  -        -       -
fmr-equality@far=1e-4,by=sex                         -      fraction -       -
fnmr-equality@far=1e-4,by=sex                        -      fraction -       -
fdr@far=1e-4,by=sex                                  higher fraction -       -
ineq@far=1e-4,by=sex                                 lower  -        -       -
garbe@far=1e-4,by=sex                                lower  fraction -       -
gini-fmr@far=1e-4,by=sex                             lower  fraction -       -
gini-fnmr@far=1e-4,by=sex                            lower  fraction -       -
fnmr@far=1e-3,pairs-discarded=0.1,quality=norm       lower  fraction percent -
fnmr@far=1e-3,images-discarded=0.1,quality=norm      lower  fraction percent -
fnmr@far-of-kept=1e-3,pairs-discarded=0.1,quality=q  lower  fraction percent -
fnmr@far-of-kept=1e-3,images-discarded=0.1,quality=q lower  fraction percent -
edc-area@far=1e-3,pairs-discarded=0.2,quality=norm   lower  fraction percent -
edc-area-difference@far=1e-3,quality=norm,from=q     -      fraction percent -
edc-area-equality@far=1e-3,quality=norm,from=q       -      fraction -       -
cllr@fit=logistic                                    lower  -        -       -
cllr-min                                             lower  -        -       -
rank-1                                               higher fraction percent rank:1
rank-10                                              higher fraction percent rank:10
rank-1@distractors=1000000                           higher fraction percent rank:1
rank-10@distractors=1000,set=2,cleaned=insightface   higher fraction percent rank:10
rank-1@d                                             higher fraction percent rank:1
rank-5@gallery=drawn                                 higher fraction percent -
tpir@fpir=1e-2                                       higher fraction percent tpir:1e-2
tpir@fpir=0.05,rule=insightface                      higher fraction percent tpir:0.05
fnir@rank=1,gallery=1000                             lower  fraction percent -
fnir@fpir=1e-2,rank=10,gallery=1000                  lower  fraction percent -
tpr@far=1e-2,mean=split                              higher fraction percent -
rank-5@mean=split                                    higher fraction percent -
tpir@fpir=1e-1,mean=split                            higher fraction percent -
fpir@threshold=0.5                                   lower  fraction percent fpir:0.5
fnir@threshold=0.5                                   lower  fraction percent fnir:0.5
tpir@threshold=0.5                                   higher fraction percent dir:0.5
vr@far=1e-3                                          higher fraction percent -
vr@far=1e-3,rule=blufr                               higher fraction percent -
dir@fpir=1e-2,rank=1                                 higher fraction percent -
dir@fpir=1e-2,rank=1,rule=blufr                      higher fraction percent -
within@space=angle,quantile=0.5                      lower  -        -       -
within@space=l2,quantile=0.01                        -      -        -       -
between@space=angle,quantile=0.99                    higher -        -       -
between@space=l2,quantile=0.5                        -      -        -       -
within/between@space=angle                           lower  -        -       -
within/between@space=l2                              lower  -        -       -
farther-than-nearest-impostor@space=angle            lower  fraction -       -
farther-than-nearest-impostor@space=l2               lower  fraction -       -
compactness@space=angle                              lower  -        -       -
compactness@space=l2                                 -      -        -       -
separation@space=angle                               higher -        -       -
separation@space=l2                                  -      -        -       -
separation-ratio@space=angle                         higher -        -       -
separation-ratio@space=l2                            higher -        -       -
region-samples-correlation@space=angle               -      -        -       -
region-samples-correlation@space=l2                  -      -        -       -
norm@quantile=0.5                                    -      -        -       -
norm-variation                                       -      -        -       -
norm-auc@errors=rank-1                               -      fraction -       -
participation-ratio                                  -      -        -       -
entropy-dimension                                    -      -        -       -
hubness-skewness@k=10                                lower  -        -       -
antihubs@k=10                                        lower  fraction -       -
"""
ROWS = [line.split() for line in KNOWN.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_record_of_a_name_says_what_its_beginning_said(row: list[str]) -> None:
    name, *known = row
    metric = metric_of(name)
    assert metric is not None
    kind, at = vocabulary.resampling_of(name)
    assert known == [
        metric.better or "-",
        "fraction" if metric.unit == "fraction" else "-",
        "percent" if metric.percent else "-",
        ":".join(filter(None, [(kind or "-").replace(" ", "-"), at])),
    ]
    assert spelled(name, 0.5) == ("50.00 %" if metric.percent else "0.50000")


def test_every_record_is_in_that_table_and_fits_its_own_grammar() -> None:
    assert {metric_of(row[0]) for row in ROWS} == set(METRICS)
    for metric in METRICS:
        found = read(metric.grammar)
        assert found is not None and found.metric is metric and not found.rest


UNKNOWN = [
    "hter",
    "",
    "@",
    "tpr@far=",
    "tpr@far",
    "xeer",
    "eers",
    "rank-",
    "accuracy2",
    "dir@far=1",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_only_begins_like_a_metric_has_no_record(name: str) -> None:
    assert metric_of(name) is None
    assert vocabulary.better(name) is None
    assert vocabulary.resampling_of(name) == (None, "")


@pytest.mark.parametrize("name", ["eer@group=a", "auc,part", "accuracy@fold=3", "tpr@far=0.1@a"])
def test_other_comparisons_than_the_outcomes_are_not_resampled(name: str) -> None:
    assert metric_of(name) is not None
    assert vocabulary.resampling_of(name) == (None, "")


def measured() -> dict[str, Report]:
    """A small report of every protocol."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(24), 4)
    x = (rng.normal(size=(24, 8))[who] + 0.4 * rng.normal(size=(96, 8))).astype(np.float32)
    left, right = np.triu_indices(96, 1)
    take = np.concatenate([np.flatnonzero(who[left] == who[right])[:100], np.arange(3, 4000, 40)])
    pairs = PairSet(left[take], right[take], who[left[take]] == who[right[take]])
    folded = replace(pairs, fold=verification.folds_by_position(pairs.genuine))
    trial = blufr.Trial(
        np.arange(96), np.arange(0, 64, 4), np.setdiff1d(range(96), range(0, 64, 4))
    )
    how = ijb.Pooling(flip="none", detector_score=False)
    templates = ijb.pool(x, np.arange(96), np.arange(96), None, how)
    sides = [ijb.Enrolled(np.arange(a, 96, 4), who[a::4]) for a in (0, 1)]
    halves = [ijb.Enrolled(s.template[k::2], s.subject[k::2]) for s in sides[:1] for k in (0, 1)]
    split = splits.Split(
        row=np.arange(96),
        template=np.arange(96),
        media=np.arange(96),
        pairs=pairs,
        gallery=halves[0],
        probe=sides[1],
    )
    errata = np.arange(len(folded)) < 2
    sex = Grouping.of("sex", ["female", "male"] * 48)
    listed = from_arrays(verification.evaluate(x, pairs, who).outcomes or {})
    assert isinstance(listed, PairOutcomes)
    return {
        "calibration": calibration.evaluate(listed),
        "lfw": lfw.evaluate(x, folded, who, errata=errata),
        "verification": verification.evaluate(x, pairs, who, groups=[sex]),
        "quality": quality.evaluate(x, pairs, who, quality={"q": rng.random(96)}, fars=["0.1"]),
        "score": score.evaluate(rng.normal(size=len(take)), pairs.genuine, threshold=0.5),
        "all-vs-all": all_vs_all.evaluate(x, who, galleries=2),
        "search": search.evaluate(
            x, np.where(who < 12, who, -1), np.arange(0, 48, 4), np.arange(1, 96, 4), sizes=[12]
        ),
        "trillion": trillion.evaluate(x, np.where(who < 12, who, -1), threshold=0.5),
        "one set": trillion.evaluate_one_set(x, np.maximum(who, 6)),
        "megaface": megaface.evaluate(x[:48], who[:48], {"distractors=48": x[48:]}),
        "blufr": blufr.evaluate(x, who, [trial, trial]),
        "geometry": geometry.evaluate(x, who),
        "ijb 1:1": ijb.verify(templates, left[take], right[take], pairs.genuine, nearest=True),
        "ijba": splits.evaluate(x, [split, split], fars=["0.1"]),
        "ijb 1:N": ijb.identify(templates, halves, sides[1], insightface=True, groups=[sex]),
    }


def test_every_metric_of_every_protocol_and_golden_report_has_a_record() -> None:
    names = {name: protocol for protocol, r in measured().items() for name in r.metrics}
    for path in GOLDEN.rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        if "metrics" in document:
            names |= dict.fromkeys(document["metrics"], path.name)
    assert {n: where for n, where in names.items() if metric_of(n) is None} == {}
    assert {metric_of(n) for n in names} == set(METRICS)


Two = tuple[Report, Report]


def with_hter(report: Report, value: float) -> Report:
    kept = {**(report.outcomes or {})}
    return replace(report, metrics={**report.metrics, "hter": Estimate(value=value)}, outcomes=kept)


def test_a_metric_without_a_record_is_refused_by_a_rule_and_not_held_without(
    two_reports: Two,
) -> None:
    base, worse = (with_hter(two_reports[0], value) for value in (0.01, 0.10))
    with pytest.raises(ReportError, match=r"which way 'hter' is better.*better = \"higher\"") as e:
        check(worse, base, [Rule(metric="hter", test="plain")])
    assert "\n" not in str(e.value)
    verdict = check(worse, base)
    assert verdict.passed and verdict.not_held == {"hter": "no record says which way it is better"}
    assert "not held, no record says which way it is better: hter" in verdict_table(verdict)
    assert compare(base, worse).values["hter"] == (0.01, 0.10)
    assert spelled("hter", 0.1) == "0.10000"


def test_a_rule_may_declare_which_way_a_metric_is_better(two_reports: Two, tmp_path: Path) -> None:
    base, worse = (with_hter(two_reports[0], value) for value in (0.01, 0.10))
    rules = tmp_path / "gates.toml"
    rules.write_text(
        '[[rule]]\nmetric = "hter"\nbetter = "lower"\ntest = "plain"\nmax-drop = 0.01\nceiling = 40'
    )
    (rule,) = held = read_rules(rules)
    assert rule.better == "lower"
    assert not check(worse, base, held).passed
    assert check(base, worse, held).passed
    for text, message in (
        ('metric = "hter"\nbetter = "lower"\nfloor = 0.5', "use ceiling"),
        ('metric = "hter"\nbetter = "higher"\nceiling = 0.5', "use floor"),
        ('metric = "hter"\nbetter = "less"', "better = 'less'"),
    ):
        rules.write_text(f"[[rule]]\n{text}")
        with pytest.raises(ReportError, match=message):
            read_rules(rules)
    with pytest.raises(ReportError, match="leave better out"):
        check(base, base, [Rule(metric="eer", better="higher", test="plain")])


def test_a_gate_of_unknown_metrics_alone_is_no_gate(two_reports: Two) -> None:
    made = replace(
        with_hter(two_reports[0], 0.1),
        metrics={"hter": Estimate(value=0.1)},
        outcomes={"subject": np.arange(9), "drawn:hter": np.linspace(0, 1, 50)},
    )
    assert compare(made, made).differences.keys() == {"hter"}
    with pytest.raises(ReportError, match="no paired test of any metric"):
        check(made, made)


OF_PARTS = """tpr@far=FAR tpr@far=FAR,mean=subject fmr@threshold=THRESHOLD fnmr@threshold=THRESHOLD
rank-K tpir@fpir=FPIR fpir@threshold=THRESHOLD fnir@threshold=THRESHOLD tpir@threshold=THRESHOLD"""
BY_GROUP = """fmr@far=FAR fnmr@far=FAR fmr@far-of-each=FAR fnmr@far-of-each=FAR fpir@fpir=FPIR fte
fmr-ratio fnmr-ratio fmr-worst/best fnmr-worst/best fmr-equality fnmr-equality fdr ineq garbe
gini-fmr gini-fnmr"""


def test_metrics_of_parts_of_a_report_and_of_groups() -> None:
    """Of several sets, numbers of distractors or splits; of people of one group or of several."""
    parts, groups = set(OF_PARTS.split()), set(BY_GROUP.split())
    assert {m.grammar for m in METRICS if m.of_parts} == parts
    assert {m.grammar for m in METRICS if m.by_group} == groups | parts - {
        "tpr@far=FAR,mean=subject"
    }


def test_a_package_registers_its_own_metrics(
    monkeypatch: pytest.MonkeyPatch, two_reports: Two
) -> None:
    monkeypatch.setattr(vocabulary, "METRICS", [*METRICS])
    register(Metric(grammar="hter", means="half total error rate", better="lower", percent=True))
    register(Metric(grammar="hter", means="half total error rate", better="lower", percent=True))
    assert vocabulary.better("hter") == "lower" and spelled("hter", 0.1) == "10.00 %"
    base, worse = (with_hter(two_reports[0], value) for value in (0.01, 0.10))
    assert not check(worse, base, [Rule(metric="hter", test="plain")]).passed
    with pytest.raises(ProtocolError, match="'eer' has a record already"):
        register(Metric(grammar="eer", means="mine", better="higher"))


def no_false_accept(genuine: np.ndarray, impostor: np.ndarray) -> Estimate:
    """FNMR at the lowest threshold that no impostor reaches."""
    if not len(genuine):
        return Estimate(value=None)
    return Estimate(value=float(np.mean(genuine <= impostor.max(initial=-np.inf))))


def test_a_function_of_scores_gets_intervals_paired_tests_and_a_gate(
    monkeypatch: pytest.MonkeyPatch, two_reports: Two
) -> None:
    record = Metric(
        grammar="zero",
        means="FNMR without a false accept",
        better="lower",
        resampled="scores",
        of_scores=no_false_accept,
    )
    monkeypatch.setattr(vocabulary, "METRICS", [*METRICS, record])
    made = []
    for report in two_reports:
        o = report.outcomes or {}
        found = no_false_accept(o["score"][o["genuine"]], o["score"][~o["genuine"]])
        (zero,) = with_intervals({"zero": found}, from_arrays(o), draws=60).values()
        assert zero.low is not None and zero.high is not None and zero.value is not None
        assert zero.low < zero.value < zero.high
        made.append(replace(report, metrics={**report.metrics, "zero": zero}))
    drawn = metric_draws(sample_of(from_arrays(o)), ["zero"], 5, seed=3)["zero"]
    assert drawn.tolist() == [zero_by_loops(o, draw) for draw in range(5)]
    assert compare(*made, draws=40).differences["zero"].test == "subject bootstrap"
    assert "zero" in {r.rule.metric for r in check(made[1], made[0]).rulings}
    with pytest.raises(ProtocolError, match="not a rate of them"):
        replace(record, of_scores=None)


def zero_by_loops(o: dict[str, np.ndarray], draw: int) -> float:
    """The same draw of people, comparison by comparison, each twice as often as it weighs."""
    sample = sample_of(from_arrays(o))
    weight = [w / SCALE for w, _ in subject_draws(sample, 5, 3)][draw]
    names = np.unique(np.concatenate([o["left_subject"], o["right_subject"]]))
    kinds: dict[bool, list[float]] = {True: [], False: []}
    columns = (o[name] for name in ("score", "genuine", "left_subject", "right_subject"))
    for s, genuine, a, b in zip(*columns, strict=True):
        one, other = (weight[np.searchsorted(names, who)] for who in (a, b))
        kinds[bool(genuine)] += [s] * round(2 * (one if genuine else one * other))
    return sum(g <= max(kinds[False]) for g in kinds[True]) / len(kinds[True])


def test_list_shows_the_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--metrics"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(METRICS)
    (line,) = [line for line in lines if line.startswith("eer ")]
    assert line.split(maxsplit=3) == ["eer", "lower", "%", "equal error rate: where FAR = FNMR"]


def row(metric: Metric) -> str:
    resampled = "yes" if metric.resampled else "no"
    better, unit = metric.better or "-", metric.shown_unit
    return f"| `{metric.grammar}` | {metric.means} | {better} | {unit} | {resampled} |"


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no documents beside the tests")
def test_the_documents_show_the_records() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    head = ["| metric | what it is | better | unit | resampled |", "|---|---|---|---|---|"]
    assert "\n".join([*head, *map(row, METRICS)]) in text
