import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import browser
from PIL import Image

from evalkit import report as reports
from evalkit.cli import run
from evalkit.errors import ReportError
from evalkit.protocols import geometry, megaface, people, score
from evalkit.protocols.groups import Grouping
from evalkit.report.hardest import hardest
from evalkit.types import Report

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from evalkit.report import (
    calibration_plots,
    geometry_plots,
    group_plots,
    quality_plots,
    size_table,
)
from evalkit.report.drawn_models import Model
from evalkit.report.frte import frte_card
from evalkit.report.page import page
from evalkit.report.plots import PICTURES, draw, drawable, inline_svg, save
from evalkit.report.roc_plots import BEFORE
from evalkit.report.style import percent
from evalkit.verdict.differences import differences

pytestmark = pytest.mark.once

HOSTILE = '<script>alert("x")</script>$\\frac'
Two = tuple[Report, Report]


@pytest.fixture(scope="module")
def hostile_page(two_reports: Two) -> str:
    """A page in which everything a stranger can name is named <script>."""
    held = []
    for r in two_reports:
        keys = np.array([f"{HOSTILE}{n}" for n in range(len((r.outcomes or {})["keys"]))])
        metrics = {
            **r.metrics,
            "tpr@far=1e-3,pairs=all": r.metrics["auc"],
            HOSTILE: replace(r.metrics["auc"], note=HOSTILE),
        }
        cmc = {"rank": [1, 2, 10], "rate": [0.9, 0.95, 0.99]}
        held.append(
            replace(
                r,
                metrics=metrics,
                provenance={**r.provenance, HOSTILE: HOSTILE, "model": {"digest": HOSTILE}},
                curves={**r.curves, "cmc": cmc},
                outcomes={**(r.outcomes or {}), "keys": keys},
            )
        )
    return page(held, names=[HOSTILE, "other" + HOSTILE], differences=differences(held))


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def test_every_text_is_escaped_and_nothing_is_fetched(hostile_page: str) -> None:
    seen = _Elements()
    seen.feed(hostile_page)
    assert seen.names.count("script") == 1  # evalkit's own, without attributes: tests/test_sorting
    assert "alert(" in hostile_page and "<script>alert" not in hostile_page
    fetched = [v for k, v in seen.attributes if k in ("src", "href", "xlink:href") and v]
    assert all(v.startswith(("#", "data:image/jpeg;base64,")) for v in fetched)
    assert not re.search(r"url\((?!#)|@import", hostile_page)
    assert not [k for k, _ in seen.attributes if k.startswith("on")]


def test_the_page_can_be_read_without_seeing_it(hostile_page: str) -> None:
    seen = _Elements()
    seen.feed(hostile_page)
    assert ("lang", "en") in seen.attributes
    for name in ("h1", "main", "header"):
        assert seen.names.count(name) == 1
    absent = (geometry_plots, group_plots, quality_plots, calibration_plots)
    drawn = len(PICTURES) - sum(len(plots.PICTURES) for plots in absent)
    assert seen.names.count("figure") == drawn == seen.names.count("svg")
    assert [k for k, _ in seen.attributes].count("aria-label") >= drawn
    ids = [v for k, v in seen.attributes if k == "id"]
    assert len(ids) == len(set(ids))  # five drawings in one document do not share names
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', hostile_page))
    assert used <= set(ids)
    labelled = {v for k, v in seen.attributes if k in ("aria-labelledby", "aria-describedby")}
    assert labelled <= set(ids)


def test_colours_follow_the_page(two_reports: Two) -> None:
    for kind in ("roc", "det", "histogram", "folds"):
        svg = inline_svg(draw(kind, two_reports), kind, "label <&>")
        assert 'aria-label="label &lt;&amp;&gt;"' in svg
        assert "var(--ink)" in svg
        assert 'class="m0"' in svg and 'class="m1"' in svg
        assert not re.search(r"(?:stroke|fill): #(?!000000)", svg)


def test_the_band_holds_the_curve(two_reports: Two) -> None:
    far, low, high = Model("", two_reports[0]).band.T
    curve = two_reports[0].curves["roc"]
    assert len(far) >= 5
    for x, a, b in zip(far, low, high, strict=True):
        tpr = max(t for f, t in zip(curve["far"], curve["tpr"], strict=True) if f <= x)
        assert a <= tpr <= b


def test_a_band_without_errors_is_as_wide_as_the_intervals_of_the_table() -> None:
    """All draws of a perfect model agree; the band had no width, and was not drawn."""
    genuine = np.arange(400) % 2 == 0
    scores = np.where(genuine, 0.9, 0.1) + np.arange(400) / 10**4
    report = score.evaluate(scores, genuine, fars=["0.1"], set_name="mine")
    m, band = report["tpr@far=0.1"], Model("", report).band
    assert m.value == 1 and len(band) > 20
    at = np.argmin(abs(band[:, 0] - 0.1))
    assert tuple(band[at, 1:]) == pytest.approx((m.low, m.high), abs=1e-3)


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_pictures_for_papers(tmp_path: Path, two_reports: Two, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"roc.{suffix}"
    save(draw("roc", two_reports[0]), path)
    first = path.read_bytes()
    assert first.startswith(magic)
    save(draw("roc", two_reports[0]), path)
    assert path.read_bytes() == first  # neither a date nor drawn names


def test_a_histogram_shows_the_scores_that_there_are(two_reports: Two) -> None:
    report = two_reports[0]
    bins = report.curves["histogram"]
    counts = np.array(bins["genuine"]) + np.array(bins["impostor"])
    low = np.array(bins["low"])[counts > 0].min()
    left, right = draw("histogram", report).axes[0].get_xlim()
    assert low - 0.2 < left <= low and right < 1.2


def test_pictures_that_cannot_be_drawn(tmp_path: Path, two_reports: Two) -> None:
    report = two_reports[0]
    with pytest.raises(ReportError, match="no picture is called 'rock'"):
        draw("rock", report)
    with pytest.raises(ReportError, match="no report holds what 'cmc'"):
        draw("cmc", report)
    with pytest.raises(ReportError, match=r"ends in '.bmp'"):
        save(draw("folds", report), tmp_path / "x.bmp")
    with pytest.raises(ReportError, match="7 reports on one page"):
        page([report] * 7)


def test_hardest_pairs_are_the_extreme_ones_with_thumbnails(
    tmp_path: Path, two_reports: Two
) -> None:
    report = two_reports[0]
    o = report.outcomes or {}
    genuine, impostor = hardest(report, most=3)
    order = np.argsort(o["score"][o["genuine"]])
    assert [p.score for p in genuine.pairs] == o["score"][o["genuine"]][order[:3]].tolist()
    assert impostor.pairs[0].score == o["score"][~o["genuine"]].max()
    assert genuine.pairs[0].left_image == ""
    path = tmp_path / genuine.pairs[0].left
    path.parent.mkdir()
    Image.new("RGB", (300, 200), "red").save(path)
    (genuine, _) = hardest(report, tmp_path, most=1)
    assert genuine.pairs[0].left_image.startswith("data:image/jpeg;base64,")
    assert genuine.pairs[0].right_image == ""  # not there: no picture, no failure


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_missing_picture_leaves_its_place_in_the_pair_empty(
    tmp_path: Path, two_reports: Two, side: str
) -> None:
    pair = hardest(two_reports[0], most=1)[0].pairs[0]
    path = tmp_path / getattr(pair, side)
    path.parent.mkdir()
    Image.new("RGB", (30, 20), "red").save(path)
    text = page(two_reports[0], tmp_path)
    shown = re.findall(r'<div class="images">(.*?)</div>', text)[0]
    tags = re.findall(r"<(img|span)", shown)
    assert tags == (["img", "span"] if side == "left" else ["span", "img"])
    assert "no image" in shown
    pairs, pictures = text.count('<div class="images">'), text.count("<img ")
    assert pairs == sum(len(group.pairs) for group in hardest(two_reports[0]))
    assert text.count('class="missing"') == 2 * pairs - pictures  # of pairs without any too
    assert 'class="missing"' not in page(two_reports[0])  # without images there are no places


def test_an_empty_list_of_the_provenance_reads_none(two_reports: Two) -> None:
    r = two_reports[0]
    text = page(replace(r, provenance={"data check": [], "seed": 0, "fars": ["1e-3"]}))
    assert "<dt>data check</dt><dd>none</dd>" in text
    assert "<dt>seed</dt><dd>0</dd>" in text
    assert "<dt>fars</dt><dd>[&#34;1e-3&#34;]</dd>" in text


def test_reports_that_may_not_be_compared_say_so_on_the_page(two_reports: Two) -> None:
    other = replace(two_reports[1], provenance={**two_reports[1].provenance, "crop": "loose"})
    held = [two_reports[0], other]
    text = page(held, differences=differences(held))
    assert "Not compared: the reports differ in &#39;crop&#39;" in text


def test_reports_that_may_not_be_compared_say_so_in_the_terminal(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(two_reports[1], provenance={**two_reports[1].provenance, "crop": "loose"})
    paths = [str(tmp_path / name) for name in ("a.json", "b.json", "c.json")]
    for report, path in zip((two_reports[0], other, other), paths, strict=True):
        reports.write(report, Path(path))
    assert run(["report", *paths, "-o", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().err.count("Not compared: the reports differ in 'crop'") == 1
    assert run(["report", *paths, *paths[1:] * 2, "-o", str(tmp_path / "r.html")]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "evalkit: error: 7 reports on one page" and "evalkit table" in said[1]


def test_report_on_the_command_line(
    tmp_path: Path, two_reports: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, r in zip("ab", two_reports, strict=True):
        reports.write(r, tmp_path / f"{name}.json")
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert run(["report", a, b, "-o", str(tmp_path / "r.html"), "--name", "first"]) == 0
    assert "<title>first and b</title>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert run(["report", a, "--plot", str(tmp_path / "det.png")]) == 0
    assert (tmp_path / "det.png").is_file()
    capsys.readouterr()
    assert run(["report", a]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert run(["report", a, "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("| metric | value |")
    assert run(["report", a, "--model-card"]) == 0
    assert "model-index" in capsys.readouterr().out
    assert run(["report", a, "--name", "x", "--name", "y"]) == 2


PROBE = """(() => {
  document.querySelector("[data-model='1']")?.click();
  const wide = [...document.querySelectorAll(".scroll")].filter(b => b.scrollWidth > b.clientWidth);
  wide.forEach(b => b.scrollLeft = 60);
  const left = e => e.getBoundingClientRect().left;
  const shown = e => getComputedStyle(e).display != "none";
  const link = document.querySelector(".skip");
  link.focus();
  return {
    width: document.documentElement.scrollWidth, window: innerWidth,
    hidden: ![...document.querySelectorAll(".m1")].some(shown),
    wide: wide.length, pinned: wide.every(b => left(b.querySelector("tbody th")) == left(b)),
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.querySelector("svg text") ?? document.body).fill,
    svgs: [...document.querySelectorAll("figure svg")].map(s => s.getBoundingClientRect().height),
    skip: link.getBoundingClientRect().left,
  };
})()"""


def _seen_in_a_browser(folder: Path, text: str, width: int, dark: bool) -> dict[str, Any]:
    (folder / "page.html").write_text(text, encoding="utf-8")
    with browser(folder) as tab:
        tab.open(folder / "page.html", width=width, dark=dark)
        return {**tab.js(PROBE), "requests": tab.asked()}


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_in_a_browser(tmp_path: Path, hostile_page: str, width: int, dark: bool) -> None:
    seen = _seen_in_a_browser(tmp_path, hostile_page, width, dark)
    assert seen["window"] == width
    assert seen["width"] <= width  # nothing scrolls sideways but the tables
    assert seen["hidden"]  # the model's box hides its lines and columns, without a script
    assert seen["pinned"]  # a table scrolled sideways keeps the names of its rows
    assert bool(seen["wide"]) is (width == 390)
    assert seen["skip"] >= 0  # the first stop of the keyboard can be seen
    assert seen["requests"] == []
    assert all(h > 150 for h in seen["svgs"])
    dark_paper = sum(int(v) for v in re.findall(r"\d+", seen["paper"])[:3]) < 150
    assert dark_paper is dark
    light_ink = sum(int(v) for v in re.findall(r"\d+", seen["ink"])[:3]) > 400
    assert light_ink is dark


@pytest.fixture(scope="module")
def grouped() -> Report:
    """A report by group, its groups named by a stranger."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), 3)
    x = (rng.normal(size=(40, 8))[who] + 0.7 * rng.normal(size=(120, 8))).astype(np.float32)
    sex = Grouping.of("sex", np.where(who % 2, "<b>male", "female").tolist())
    unknown = who >= 32
    return people.evaluate(x, who, unknown=unknown, groups=[sex], sizes=[10, 32], fars=["1e-2"])


def test_groups_and_sizes_stand_in_tables_of_their_own(
    grouped: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.report.page.PICTURES", {})
    text = page(grouped)
    numbers = text.split("<tbody>")[1].split("</tbody>")[0]
    assert ">tpr<" in numbers and "sex" not in numbers and "gallery" not in numbers
    assert "<h3>by sex, FAR 1e-2 of all pairs, threshold " in text
    assert ">&lt;b&gt;male+female<" in text or ">female+&lt;b&gt;male<" in text
    assert "N = 10</th>" in text and "<b>male" not in text
    odd = {f"fnir@rank=1,gallery={n}": grouped["rank-1"] for n in ("9" * 5000, "drawn", "4,x=5")}
    assert not size_table.tables(replace(grouped, metrics=odd))
    assert "<details open><summary>By group" in text
    other = replace(grouped, protocol="lfw", protocol_version=2)
    three = page([grouped, other, grouped], names=["a", "b", "c"])
    assert "<h1>a, b and c</h1>" in three
    assert ">people · protocol version 1; lfw · protocol version 2 · evalkit" in three
    several = page([grouped, grouped], names=["a", "b"])
    assert "<h1>a and b</h1>" in several and several.count("protocol version") == 1
    named = re.findall(r'<table aria-label="(.*?)"', several)
    assert named == re.findall(r'role="region" aria-label="(.*?)"', several)
    assert len(set(named)) == len(named) == several.count("<table")
    assert any(re.fullmatch("b: FNMR … people: by sex, FAR 1e-2 of all pairs.*", n) for n in named)
    assert several.count("<summary>By group, quality or gallery size: ") == 2


def test_a_reason_stands_once_below_a_table(
    grouped: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rank and size without an answer repeated it: eight times below one table."""
    monkeypatch.setattr("evalkit.report.page.PICTURES", {})
    below = re.findall('<p class="soft">(FPIR .*? needs .*?)</p>', page(grouped))
    assert below and len(below) == len(set(below))


def test_the_card_says_what_the_report_holds(grouped: Report) -> None:
    text = frte_card(grouped, HOSTILE)
    tpr, rank, fpir = (grouped[n] for n in ("tpr@far=1e-2", "rank-1", "tpir@fpir=1e-1"))
    for m in (tpr, rank, fpir):
        assert f"<td>{100 * (1 - m.value):.2f} %</td>" in text
        assert f"[{100 * (1 - m.high):.2f}, {100 * (1 - m.low):.2f}]" in text
    for said in (tpr.threshold, fpir.threshold, "N = 10</th>", "by sex", "probit scale", "lowest"):
        assert str(said) in text
    assert text.count("<script") == 1 and HOSTILE not in text and "<b>male" not in text
    with pytest.raises(ReportError, match="neither TPR at a FAR nor ranks"):
        frte_card(replace(grouped, metrics={}, outcomes=None), "x")


def test_the_card_in_a_browser(
    tmp_path: Path, grouped: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalkit.report.page.PICTURES", {})
    chromium_page = frte_card(grouped, "card").replace("<details>", "<details open>")
    seen = _seen_in_a_browser(tmp_path, chromium_page, 390, True)
    assert seen["width"] <= seen["window"] == 390 and seen["requests"] == []


def test_the_card_is_of_one_report(
    tmp_path: Path,
    grouped: Report,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evalkit.report.page.PICTURES", {})
    grouped.save(tmp_path / "a.json")
    a, card = str(tmp_path / "a.json"), tmp_path / "card.html"
    assert run(["report", "--frte", a, "-o", str(card)]) == 0
    assert card.read_text(encoding="utf-8") == frte_card(grouped, "a")
    assert run(["report", "--frte", a]) == 2
    assert run(["report", "--frte", a, a, "-o", str(card)]) == 2
    assert "--frte is of one report, not of 2" in capsys.readouterr().err


def test_a_page_that_asks_the_network_would_be_noticed(tmp_path: Path, hostile_page: str) -> None:
    text = hostile_page.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png" alt="">')
    asked = _seen_in_a_browser(tmp_path, text, 1280, False)["requests"]
    assert set(asked) == {"http://127.0.0.1:9/x.png"}


def test_paper_is_light_and_whole_whatever_the_screen(hostile_page: str) -> None:
    dark = re.findall(r"@media ([^{]*prefers-color-scheme: dark[^{]*)", hostile_page)
    assert [d.strip() for d in dark] == ["screen and (prefers-color-scheme: dark)"]
    on_paper = hostile_page.split("@media print {")[1]
    assert ".scroll { overflow: visible; }" in on_paper.split("</style>")[0]


def test_plain_scores_say_on_the_page_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    genuine = np.arange(200) % 2 == 0
    plain = score.evaluate(genuine + rng.normal(size=200), genuine, set_name="mine")
    text = page([plain, plain], differences=differences([plain, plain]))
    assert (
        "Below each value is its 95 % interval by comparison: too short where people recur." in text
    )
    assert "with the same comparisons drawn for both" in text


def test_of_several_sizes_the_largest_is_drawn_with_its_reported_points() -> None:
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(20), 4)
    x = rng.normal(size=(20, 8))[subject] + 0.7 * rng.normal(size=(80, 8))
    d = rng.normal(size=(200, 8))
    sets = {"distractors=50": d[:50], "distractors=200": d}
    report = megaface.evaluate(x, subject, sets, fars=["1e-1", "1e-2"])
    alone = megaface.evaluate(x, subject, {"distractors=200": d}, fars=["1e-1", "1e-2"])
    several, one = Model("", report), Model("", alone)
    np.testing.assert_array_equal(several.roc, one.roc)
    np.testing.assert_array_equal(several.band, one.band)
    assert len(one.band) > 3
    lines = draw("roc", report).axes[0].containers
    assert [bar[0].get_xdata()[0] for bar in lines] == [0.1, 0.01]
    assert draw("det", report).axes[0].get_xlabel() == "FAR, distractors=200 (log scale)"
    probit = report.plot("det", axes="probit").axes[0]
    assert probit.get_xlabel() == "FAR, distractors=200 (probit scale)"
    assert probit.get_ylabel() == "FNMR (probit scale)"
    deviates = probit.transScale.transform([(0.5, 0.1), (0.158655, 0.9)])
    np.testing.assert_allclose(deviates, [(0, -1.281552), (-1, 1.281552)], atol=1e-5)
    assert np.isfinite(probit.transScale.transform([(0, 1), (1, 0)])).all()  # ends of a band
    with pytest.raises(ReportError, match="no picture is called 'roc-probit'"):
        report.plot("roc", axes="probit")
    cmc = draw("cmc", [report, report]).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in cmc}) == 4


def _contrast(a: str, b: str) -> float:
    """Contrast of two #rrggbb colours by WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


def test_words_and_lines_stand_out_on_both_papers(hostile_page: str) -> None:
    themes = re.findall(r":root \{(.*?)\}", hostile_page, re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--([\w-]+): (#\w{6})", theme))
        for paper in (colours.pop("paper"), colours.pop("card")):
            for name, colour in colours.items():
                least = {"faint": 1.0, "ink": 7.0, "soft": 4.5, "link": 4.5, "bad": 4.5}
                assert _contrast(colour, paper) >= least.get(name, 3.0), (name, colour, paper)


def test_log_axes_of_less_than_a_decade_are_named_in_plain_numbers() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), rng.integers(2, 7, 40))
    x = rng.normal(size=(40, 8))[who] + 0.4 * rng.normal(size=(len(who), 8))
    searched = megaface.evaluate(x[:30], who[:30], {"distractors=6": x[40:46]})
    for kind, report, names in (
        ("regions-angle", geometry.evaluate(x, who), {"2", "5"}),
        ("cmc", searched, {"1", "2", "5"}),
    ):
        axis = draw(kind, report).axes[0].xaxis
        shown = {label.get_text() for label in axis.get_ticklabels(which="both")}
        assert names <= shown and not any("math" in text for text in shown), kind


def test_a_threshold_that_accepts_everybody_is_beyond_the_picture() -> None:
    scores = np.random.default_rng(0).normal(size=400) + np.arange(400) % 2
    report = score.evaluate(scores, np.arange(400) % 2 == 1, fars=["1", "0.1"])
    axes = draw("histogram", report).axes[0]
    assert [t.get_text() for t in axes.texts] == ["FAR 0.1"]
    assert -10 < axes.get_xlim()[0] < axes.get_xlim()[1] < 10


def test_what_was_never_compared_is_not_drawn() -> None:
    nothing = score.evaluate(np.full(20, -np.inf), np.arange(20) % 2 == 0)
    alone = geometry.evaluate(np.eye(12, 3) + 1, np.arange(12))
    assert not drawable("histogram", Model("", nothing))
    assert not drawable("regions-angle", Model("", alone))
    page([nothing, nothing], differences=differences([nothing, nothing]))
    page([alone, alone], differences=differences([alone, alone]))


def test_a_model_keeps_its_colour_in_pictures_that_others_are_not_in(
    two_reports: Two,
) -> None:
    first, second = two_reports
    held = [replace(first, curves={}), second]
    figure = draw("histogram", held, names=["first", "second"])
    (axes,) = figure.axes
    assert axes.get_xlabel() == "score (of second alone)"
    assert {patch.get_gid() for patch in axes.patches} == {"m1"}


def test_a_curve_ends_before_its_first_false_accept(two_reports: Two) -> None:
    far = np.asarray(two_reports[0].curves["roc"]["far"])
    least = far[far > 0].min()
    (axes,) = draw("roc", two_reports[0]).axes
    drawn = [x for x in axes.lines[0].get_xdata() if x < least]
    assert drawn and min(drawn) == pytest.approx(least / BEFORE)


def test_names_along_a_probit_axis_do_not_touch() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(4.5, 1, 500), rng.normal(0, 1, 300_000)])
    report = score.evaluate(scores, np.arange(len(scores)) < 500, fars=["1e-3"])
    figure = draw("det-probit", report)
    figure.canvas.draw()
    names = [t for t in figure.axes[0].xaxis.get_ticklabels() if t.get_text()]
    boxes = [t.get_window_extent() for t in names]
    assert len(boxes) >= 4
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_shares_are_spelled_alike_on_every_axis() -> None:
    assert [percent(v) for v in (0.125, 1e-4, 1e-6, 1e-7, 0)] == [
        "12.5 %",
        "0.01 %",
        "0.0001 %",
        "1e-5 %",
        "0 %",
    ]


def test_columns_of_tests_stand_only_where_something_is_paired(
    two_reports: Two, hostile_page: str
) -> None:
    held = [replace(r, outcomes=None) for r in two_reports]
    alone = page(held, differences=differences(held))
    assert '<th scope="col">p</th>' in hostile_page
    assert '<th scope="col">difference</th>' in alone and '<th scope="col">p</th>' not in alone
