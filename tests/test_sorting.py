"""Tables of every page sorted by their headings, in Chromium: by value, by keyboard, by ear."""

import base64
import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from chromium import Tab, browser

from evalkit.protocols import geometry, megaface, people, quality, score
from evalkit.protocols.groups import Grouping
from evalkit.types import PairSet

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from evalkit.report.frte import frte_card
from evalkit.report.page import page
from evalkit.verdict.differences import differences
from evalkit.verdict.leaderboard import leaderboard
from evalkit.verdict.leaderboard_formats import html as leaderboard_page

pytestmark = pytest.mark.once

SCRIPT = files("evalkit.report").joinpath("sort.js").read_text(encoding="utf-8")
FIRST_CELLS = "[...document.querySelector('tbody').rows].map(row => row.cells[0].textContent)"
ROWS = (
    "[...document.querySelectorAll('tbody')].map(body => [...body.rows].map(row => row.outerHTML))"
)
SORT = """document.querySelectorAll("details").forEach(part => part.open = true);
document.querySelectorAll("table").forEach(t => t.querySelectorAll("thead button")[1]?.click())"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """A page of every kind, without pictures."""
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(40), 3)
    x = (rng.normal(size=(40, 8))[who] + 0.7 * rng.normal(size=(120, 8))).astype(np.float32)
    ages = Grouping.of("age", [("5-20", "20-40", "over 40")[w % 3] for w in who])
    named = {"keys": [f"{w}/{n}.jpg" for n, w in enumerate(who)], "set_name": "mine"}
    of_people = [
        people.evaluate(vectors, who, unknown=who >= 32, fars=["1e-1", "1e-2", "1e-4"], **named)
        for vectors in (x, x + np.float32(0.2) * rng.normal(size=x.shape).astype(np.float32))
    ]
    unknown = {"unknown": who >= 32, "sizes": [10, 32]}
    grouped = people.evaluate(x, who, groups=[ages], fars=["1e-2"], **unknown)
    left, right = np.triu_indices(120, 1)
    pairs = PairSet(left, right, who[left] == who[right])
    good = {"sharp": rng.random(120), "pose": rng.random(120)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evalkit.report.page.PICTURES", {})
        patch.setattr(quality, "DRAWS", 50)
        of_quality = quality.evaluate(x, pairs, who, quality=good, fars=["5e-2"], discard=["0.1"])
        far = {
            "distractors=20": rng.normal(size=(20, 8)),
            "distractors=90": rng.normal(size=(90, 8)),
        }
        reports = {f"beta-{n}": of_people[n % 2] for n in (10, 2, 1)}
        return {
            "one": page(of_people[0]),
            "several": page(of_people, names=["a", "b"], differences=differences(of_people)),
            "groups": page(grouped),
            "quality": page(of_quality),
            "stress": page(megaface.evaluate(x, who, far, fars=["1e-1", "1e-2"])),
            "geometry": page(geometry.evaluate(x, who)),
            "card": frte_card(grouped, "card"),
            "bench": leaderboard_page(leaderboard([*reports.values()], [*reports])),
        }


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def shown(tab: Tab, folder: Path, text: str, width: int = 1280, dark: bool = False) -> Tab:
    (folder / "page.html").write_text(text, encoding="utf-8")
    return tab.open(folder / "page.html", width=width, dark=dark)


def table_of(*rows: list[str]) -> str:
    """A page whose one table has these rows; the first are headings."""
    rng = np.random.default_rng(0)
    genuine = np.arange(200) % 2 == 0
    text = page(score.evaluate(genuine + rng.normal(size=200), genuine, set_name="mine"))
    head, *body = rows
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in body
    )
    own = f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    return re.sub("<table.*?</table>", lambda _: own, text, count=1, flags=re.DOTALL)


def test_the_policy_allows_the_one_script_by_its_hash(pages: dict[str, str]) -> None:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    for text in pages.values():
        (policy,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
        assert re.findall("script-src ([^;]*)", policy) == [f"'sha256-{digest}'"]
        assert re.findall("<script>(.*?)</script>", text, re.DOTALL) == [SCRIPT]
        assert text.count("<script") == 1
    assert "innerHTML" not in SCRIPT and "eval" not in SCRIPT and SCRIPT.isascii()


def test_another_script_is_refused(tab: Tab, tmp_path: Path, pages: dict[str, str]) -> None:
    evil = "<main><script>document.title = 'mine'</script><p onclick='x()'>"
    shown(tab, tmp_path, pages["one"].replace("<main>", evil))
    assert tab.js("document.title") != "mine" and set(tab.asked()) == {"inline"}
    assert tab.js("document.querySelectorAll('thead button').length") > 3
    shown(tab, tmp_path, pages["one"].replace("// The headings", "// Some headings"))
    assert tab.js("document.querySelectorAll('thead button').length") == 0


@pytest.mark.parametrize(
    ("cells", "rising"),
    [
        (["99.33 %", "0.99890", "5.00 %", "-", "", "2.3e-07"], [5, 2, 0, 1, 3, 4]),
        (["87,307", "30", "8,730", "1e-4", "-inf"], [4, 3, 1, 2, 0]),
        (["[9.10, 19.70]", "[10.0, 11.0]", "", "[-2.0, 3.0]"], [3, 0, 1, 2]),
        (["+0.53 points", "-0.10 points <span>worse</span>", "+0.00100"], [1, 2, 0]),
        (["-0.86 to -0.20", "+0.10 to +0.20", "-1.00 to +3.00"], [2, 0, 1]),
        (["58.50 ± 11.86", "4.20 ± 7.00", "-"], [1, 0, 2]),
        (["5<small>[1, 9]</small>", "5<small>[0, 9]</small>", "4<small>z</small>"], [2, 0, 1]),
        (["90.40 % +", "9.80 % =", "88 % ?"], [1, 2, 0]),
        (["mean to 0.2", "0.1", "0.05", "mean to 0.05", "-"], [2, 1, 3, 0, 4]),
    ],
)
def test_numbers_are_sorted_by_value(
    tab: Tab, tmp_path: Path, cells: list[str], rising: list[int]
) -> None:
    body = [[f"row {n}", cell] for n, cell in enumerate(cells)]
    shown(tab, tmp_path, table_of(["name", "value"], *body))
    press = f"document.querySelectorAll('thead button')[1].click(); {FIRST_CELLS}"
    assert tab.js(press) == [f"row {n}" for n in rising]
    falling = [int(name.split()[1]) for name in tab.js(press)]
    lacking = [n for n, cell in enumerate(cells) if cell in ("-", "")]
    assert falling[len(cells) - len(lacking) :] == lacking  # last in both directions
    assert tab.js(press) == [f"row {n}" for n in range(len(cells))]


def test_points_of_percent_and_fractions_share_one_scale(
    tab: Tab, tmp_path: Path, pages: dict[str, str]
) -> None:
    """The intervals of differences have no unit: that of a row's difference holds for both."""
    shown(tab, tmp_path, pages["several"])
    seen = tab.js("""(() => {
      const table = document.querySelector("#differences ~ div table");
      table.querySelectorAll("thead button")[2].click();
      const low = row => parseFloat(row.cells[2].textContent);
      return [...table.tBodies[0].rows].filter(row => !isNaN(low(row)))
        .map(row => low(row) / (row.cells[1].textContent.includes("points") ? 100 : 1));
    })()""")
    assert len(seen) > 4 and seen == sorted(seen)


def test_names_are_sorted_as_a_person_does(tab: Tab, tmp_path: Path) -> None:
    names = ["rank-10", "tpr@far=1e-2", "* rank-5", "5-20", "tpr@far=1e-10", "20-40", "rank-1"]
    names += ["tpr@far=0.05", "tpr@far=0.2", "v1.10", "v1.9"]
    shown(tab, tmp_path, table_of(["name", "value"], *([name, "1"] for name in names)))
    assert tab.js(f"document.querySelector('thead button').click(); {FIRST_CELLS}") == [
        *("5-20", "20-40", "rank-1", "* rank-5", "rank-10"),
        *("tpr@far=1e-10", "tpr@far=1e-2", "tpr@far=0.05", "tpr@far=0.2", "v1.9", "v1.10"),
    ]
    assert (
        tab.js(  # equal cells keep their order, falling too
            "const b = document.querySelectorAll('thead button')[1]; b.click(); b.click();"
            + FIRST_CELLS
        )
        == names
    )


KINDS = ["one", "several", "groups", "quality", "stress", "geometry", "card", "bench"]


@pytest.mark.parametrize("kind", KINDS)
def test_whole_rows_move_and_come_back(
    tab: Tab, tmp_path: Path, pages: dict[str, str], kind: str
) -> None:
    """Cautions, marks and intervals stand in their row, so no sort parts them from it."""
    assert not re.search("rowspan|colspan", pages[kind])
    shown(tab, tmp_path, pages[kind])
    before = tab.js(ROWS)
    sortable = tab.js(
        "[...document.querySelectorAll('table')].map(t => !!t.querySelector('button'))"
    )
    assert sortable == [len(rows) > 2 for rows in before] and any(sortable)
    outside = "document.body.innerHTML.replace(/<table.*?<.table>/gs, '')"
    around = tab.js(outside)
    tab.js(SORT)
    rising = tab.js(ROWS)
    tab.js(SORT)
    falling = tab.js(ROWS)
    assert [*map(sorted, rising)] == [*map(sorted, falling)] == [*map(sorted, before)]
    assert rising != falling
    tab.js(SORT)
    assert tab.js(ROWS) == before and tab.asked() == []
    assert tab.js(outside).replace(' open=""', "") == around.replace(' open=""', "")


def test_a_hidden_column_stays_hidden(tab: Tab, tmp_path: Path, pages: dict[str, str]) -> None:
    shown(tab, tmp_path, pages["several"])
    tab.js("document.querySelector('[data-model=\"1\"]').click()")
    tab.js(SORT)
    visible = "[...document.querySelectorAll('.m{}')].filter(e => e.checkVisibility()).length"
    assert tab.js(visible.format(1)) == 0 < tab.js(visible.format(0))
    tab.js("document.querySelector('[data-model=\"1\"]').click()")
    assert tab.js(visible.format(1)) > 0


def test_by_keyboard_and_by_ear(tab: Tab, tmp_path: Path, pages: dict[str, str]) -> None:
    shown(tab, tmp_path, pages["one"])
    before = tab.js(FIRST_CELLS)
    for _ in range(10):
        tab.press("Tab")
        if tab.js("document.activeElement.textContent") == "value":
            break

    def heard() -> list[tuple[str, str, str]]:
        return [
            (node["role"], node["name"], node.get("sort", ""))
            for node in tab.tree()
            if node["role"] in ("columnheader", "button")
        ]

    names = ["metric", "value", "n", "people"]
    assert [name for role, name, _ in heard() if role == "button"][:4] == names  # and no arrow
    assert [name for role, name, _ in heard() if role == "columnheader"][:4] == names
    state = "document.activeElement.closest('th').getAttribute('aria-sort')"
    orders = []
    for key, sort in (("Enter", "ascending"), ("Space", "descending"), ("Enter", None)):
        tab.press(key)
        assert tab.js(state) == sort  # and the focus is where it was
        orders.append(tab.js(FIRST_CELLS))
    assert orders[0] != orders[1] and orders[2] == before
    tab.press("Enter")
    tab.press("Tab")
    tab.press("Enter")
    sorts = "[...document.querySelectorAll('th[aria-sort]')].map(heading => heading.textContent)"
    assert tab.js(sorts) == ["n"]  # one column at a time


def test_paper_has_headings_and_no_arrows(tab: Tab, tmp_path: Path, pages: dict[str, str]) -> None:
    shown(tab, tmp_path, pages["one"])
    arrow = "getComputedStyle(document.querySelector('thead button'), '::after').display"
    assert tab.js(arrow) != "none"
    tab.call("Emulation.setEmulatedMedia", media="print", features=[])
    assert tab.js(arrow) == "none"


def test_without_a_script_headings_are_text(pages: dict[str, str]) -> None:
    for text in pages.values():
        assert "<button" not in text.replace(SCRIPT, "")


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_no_fault_of_accessibility(
    tab: Tab, tmp_path: Path, pages: dict[str, str], kind: str, width: int, dark: bool
) -> None:
    axe = (Path(pytest.importorskip("axe_core_python").__file__).parent / "axe.min.js").read_text()
    shown(tab, tmp_path, pages[kind], width, dark)
    tab.js(f"{axe}\n1")
    for _ in range(2):  # as it was made, and sorted
        seen = tab.js("""axe.run().then(result => ({passed: result.passes.length,
            faults: result.violations.map(v => v.id + " " + v.nodes[0].html)}))""")
        assert seen["passed"] > 15 and seen["faults"] == []
        assert tab.js("document.documentElement.scrollWidth") <= width
        tab.js(SORT)
