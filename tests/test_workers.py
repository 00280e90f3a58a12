"""Blocks done elsewhere: any order, any repetition, broken off anywhere, the same bits."""

import os
import pickle
import random
import signal
import time

import numpy as np
import pytest
from test_allpairs_engine import FARS, people, told

from evalkit.errors import DataError
from evalkit.protocols import allpairs, megaface, trillion
from evalkit.protocols.allpairs import Engine, engine, pair_scores, scan, workers
from evalkit.protocols.allpairs.collectors import highest
from evalkit.protocols.allpairs.rows_on_disk import Mapped
from evalkit.protocols.allpairs.screening import screens
from evalkit.protocols.allpairs.sides import Side
from evalkit.protocols.metrics.similarity import exact_scores

pytestmark = pytest.mark.once


class Repeating:
    """A cluster in this process: shuffled, every third result twice, all of it through pickle."""

    def __init__(self, folder, seed=0, stop_after=None):
        self.folder, self.stop_after = folder, stop_after
        self.random, self.sent, self.given = random.Random(seed), [], 0

    def place(self, x):
        path = self.folder / f"{len(list(self.folder.iterdir()))}.npy"
        np.save(path, x)
        return np.load(path, mmap_mode="r")

    def run(self, job, items):
        self.sent.append(pickle.dumps(job))
        job = pickle.loads(self.sent[-1])
        order = [*items, *list(items)[::3]]
        self.random.shuffle(order)
        for number in order:
            if self.given == self.stop_after:
                raise KeyboardInterrupt
            self.given += 1
            yield number, pickle.loads(pickle.dumps(job(items[number])))


@pytest.fixture
def many_blocks(monkeypatch):
    monkeypatch.setattr(scan, "_BLOCK", 64 * 128)
    monkeypatch.setattr(scan, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(workers, "CHECKPOINT_EVERY_S", 0.0)
    for module, name, size in ((screens, "ROWS", 16), (screens, "COLUMNS", 128)):
        monkeypatch.setattr(module, name, size)


@pytest.fixture
def short_lists(many_blocks, monkeypatch):
    monkeypatch.setattr(workers, "LISTED", 64)
    for module in (pair_scores, engine):
        monkeypatch.setattr(module, "MANY", 100)


def every_answer(engine, x, a, y, b):
    """All that the engine can say of two sets, as plain values."""
    found = allpairs.search(x, y, 3, probe_subject=a, gallery_subject=b, fars=FARS, **engine())
    rows = np.arange(0, len(x), 2)
    bars = (x[rows].astype(float) * y[rows].astype(float)).sum(axis=1)
    bars[~np.isfinite(bars)] = -np.inf
    top = allpairs.top_impostors(x, a, y, b, count=300, **engine())
    within = allpairs.verify(x, a, fars=FARS, **engine())
    return [
        told(allpairs.verify(x, a, y, b, fars=FARS, **engine())),
        told(within),
        *(part.tolist() for part in (top.i, top.j, top.score)),
        *(part.tolist() for part in allpairs.ranks(x, y, rows, bars, **engine())),
        *(repr(getattr(found, name)) for name in found.__dataclass_fields__),
    ]


@pytest.mark.parametrize("screen", ["float32", "auto"])
def test_shuffled_and_repeated_blocks_change_no_bit(many_blocks, tmp_path, screen):
    x, a = people(400, 12, 1)
    y, b = people(600, 12, 2)
    true = every_answer(dict, x, a, y, b)
    for seed in range(2):
        cluster = Repeating(tmp_path, seed)
        engine = lambda c=cluster: {"engine": Engine(screen=screen, memory=1 << 16, cluster=c)}  # noqa: E731
        assert every_answer(engine, x, a, y, b) == true
        assert cluster.given > 50


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_listed_pairs_score_the_same_elsewhere(short_lists, tmp_path, kind):
    x, y = people(300, 12, 1)[0], people(200, 12, 2)[0]
    rng = np.random.default_rng(0)
    i, j = rng.integers(0, 300, 1000), rng.integers(0, 200, 1000)
    given = [a.astype(kind) for a in (x, y)]
    same = [a.astype(np.float32) for a in given]
    true = exact_scores(same[0], i, same[1], j)
    assert np.isinf(true).any()  # a failed row is among them
    cluster = Repeating(tmp_path)
    found = workers.exact(cluster, given[0], i, given[1], j)
    assert found.tolist() == true.tolist() and cluster.given == 16 + 6
    if kind is np.float32:
        how = Engine(cluster=cluster)
        assert allpairs.exact(x, i, y, j, how).tolist() == true.tolist()
        few = allpairs.exact(x, i[:9], y, j[:9], how)
        assert few.tolist() == true[:9].tolist() and len(cluster.sent) == 2


@pytest.mark.parametrize("protocol", ["megaface", "trillion"])
def test_a_protocols_report_is_the_same_elsewhere(short_lists, tmp_path, protocol):
    x, a = people(500, 12, 6)
    a[300:] = -1
    evaluate = {
        "trillion": lambda **how: trillion.evaluate(x, a, fars=FARS, fpir="1e-1", **how),
        "megaface": lambda **how: megaface.evaluate(
            x[:300], np.maximum(a[:300], 0), {"distractors=200": x[300:]}, fars=FARS, **how
        ),
    }[protocol]
    true, cluster = evaluate(), Repeating(tmp_path)
    found = evaluate(engine=Engine(cluster=cluster))
    assert found.metrics == true.metrics
    for name, column in (true.outcomes or {}).items():
        np.testing.assert_array_equal(found.outcomes[name], column)
    assert sum(b"Listed" in sent for sent in cluster.sent) >= 2


def test_a_job_broken_off_anywhere_goes_on_from_its_checkpoint(many_blocks, tmp_path):
    x, a = people(400, 12, 3)
    true = told(allpairs.verify(x, a, fars=FARS))
    (tmp_path / "rows").mkdir()
    path, broken = tmp_path / "job.npz", 0
    while True:
        cluster = Repeating(tmp_path / "rows", broken, stop_after=5)
        engine = Engine(memory=1 << 16, cluster=cluster, checkpoint=path)
        try:
            found = allpairs.verify(x, a, fars=FARS, engine=engine)
            break
        except KeyboardInterrupt:
            broken += 1
            assert path.exists()
    assert told(found) == true and broken > 2
    assert not path.exists()


def test_an_interrupt_loses_no_block_and_merges_none_by_half(many_blocks, tmp_path, monkeypatch):
    """It comes while a block is merged, long before a checkpoint is due."""
    monkeypatch.setattr(workers, "CHECKPOINT_EVERY_S", 1e9)
    x, a = people(400, 12, 3)
    true = told(allpairs.verify(x, a, fars=FARS))
    (tmp_path / "rows").mkdir()
    path, merges, merge = tmp_path / "job.npz", [], highest.Highest.merge

    def interrupted(self, state):
        merges.append(self)
        if len(merges) == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        merge(self, state)

    monkeypatch.setattr(highest.Highest, "merge", interrupted)
    engine = lambda: Engine(  # noqa: E731
        memory=1 << 16, cluster=Repeating(tmp_path / "rows"), checkpoint=path
    )
    with pytest.raises(KeyboardInterrupt):
        allpairs.verify(x, a, fars=FARS, engine=engine())
    with np.load(path) as held:
        assert len(held["done"]) == 4
    monkeypatch.setattr(highest.Highest, "merge", merge)
    assert told(allpairs.verify(x, a, fars=FARS, engine=engine())) == true


def test_each_question_of_an_engine_has_its_own_checkpoint(many_blocks, tmp_path):
    """A second question asked of one engine never takes what the first one left."""
    x, a = people(300, 12, 4)
    (tmp_path / "rows").mkdir()
    path = tmp_path / "job.npz"
    true = told(allpairs.verify(x, a, fars=FARS)), allpairs.search(x, x, 2).score.tolist()

    def both(stop_after):
        cluster = Repeating(tmp_path / "rows", stop_after=stop_after)
        engine = Engine(memory=1 << 16, cluster=cluster, checkpoint=path)
        first = told(allpairs.verify(x, a, fars=FARS, engine=engine))
        return (first, allpairs.search(x, x, 2, engine=engine).score.tolist()), cluster.given

    blocks = both(None)[1]
    with pytest.raises(KeyboardInterrupt):
        both(blocks - 3)
    assert [p.name for p in tmp_path.glob("job*")] == ["job.npz.2.1"]
    found, again = both(None)
    assert found == true and again < blocks
    assert not list(tmp_path.glob("job*"))


@pytest.mark.parametrize("spread", [True, False])
def test_what_a_job_has_answered_is_not_asked_again(many_blocks, tmp_path, monkeypatch, spread):
    x, a = people(400, 12, 4)
    a = np.maximum(a, 0)  # a probe is of somebody
    (tmp_path / "rows").mkdir()
    path, shown, examine = tmp_path / "job.npz", [], scan.Scan.examine

    def counted(self, screen, collectors, *rest):
        shown.append(len(self.y))
        if shown[-1] == broken:
            raise KeyboardInterrupt
        return examine(self, screen, collectors, *rest)

    monkeypatch.setattr(scan.Scan, "examine", counted)
    sets = {"distractors=100": x[200:300], "distractors=200": x[200:]}

    def evaluate():
        shown.clear()
        cluster = Repeating(tmp_path / "rows") if spread else None
        engine = Engine(memory=1 << 16, cluster=cluster, checkpoint=path, keep=True)
        report = megaface.evaluate(x[:200], a[:200], sets, fars=FARS, engine=engine)
        engine.forget()
        return report

    broken = None
    true, whole = evaluate(), shown.copy()
    assert not list(tmp_path.glob("job*"))
    broken = whole[-1]  # of the last question; the first has fewer distractors
    assert whole[0] != broken
    with pytest.raises(KeyboardInterrupt):
        evaluate()
    before = len(shown)
    broken = None
    found = evaluate()
    assert found.metrics == true.metrics
    assert len(shown) <= len(whole) - before + 1
    assert not list(tmp_path.glob("job*"))


def test_a_checkpoint_of_other_fars_is_refused(many_blocks, tmp_path):
    x, a = people(300, 12, 4)
    (tmp_path / "rows").mkdir()
    cluster = Repeating(tmp_path / "rows", stop_after=5)
    engine = Engine(memory=1 << 16, cluster=cluster, checkpoint=tmp_path / "job.npz")
    with pytest.raises(KeyboardInterrupt):
        allpairs.verify(x, a, fars=["1e-3"], engine=engine)
    engine = Engine(memory=1 << 16, checkpoint=tmp_path / "job.npz")
    with pytest.raises(Exception, match="another job"):
        allpairs.verify(x, a, fars=["1e-2"], engine=engine)


def test_rows_travel_as_the_name_of_their_file(tmp_path):
    x = people(500, 64, 5)[0]
    np.save(tmp_path / "x.npy", x)
    held = np.load(tmp_path / "x.npy", mmap_mode="r")
    for view in (held, held[100:], held.view(np.ndarray)[7:300], held.reshape(250, 2, 64)):
        there = Mapped.of(view)
        np.testing.assert_array_equal(there.open(), view)
        assert len(pickle.dumps(there)) < 400
    assert Mapped.of(x) is Mapped.of(held[::2]) is Mapped.of(np.array(held)) is None
    side = Side(held)
    assert len(pickle.dumps(side)) < x.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(side)).band(3, 9), side.band(3, 9))


def test_another_file_of_the_same_name_is_told(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((9, 4), np.float32))
    there = Mapped.of(np.load(path, mmap_mode="r"))
    np.save(path, np.ones((9, 4), np.float32))
    with pytest.raises(DataError, match=r"x\.npy changed, or a worker has another"):
        there.open()
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*x\.npy"):
        there.open()


def test_a_worker_whose_torch_multiplies_wrongly_falls_back(tmp_path, monkeypatch):
    by_torch = pytest.importorskip("evalkit.protocols.allpairs.kernels.by_torch")
    workers._way.cache_clear()
    monkeypatch.setattr(by_torch, "trusted", lambda arithmetic: False)
    assert workers._here(screens.Screen("int8"), gpu=False).arithmetic == "float32"
    workers._way.cache_clear()
    monkeypatch.setattr(by_torch, "trusted", lambda arithmetic: True)
    assert workers._here(screens.Screen("int8"), gpu=True).arithmetic == "int8"
    workers._way.cache_clear()


@pytest.mark.parametrize(
    ("screen", "usable", "taken"),
    [
        ("int8", {"triton-int8", "cuda-int8"}, "triton-int8"),
        ("int8", {"cuda-int8"}, "cuda-int8"),
        ("torch-float32", {"cuda-float32"}, "cuda-float32"),
        ("triton-int8", {"int8"}, "int8"),
        ("cuda-float32", set(), "float32"),
    ],
)
def test_a_worker_takes_its_own_gpu_whatever_the_client_has(screen, usable, taken, monkeypatch):
    workers._way.cache_clear()
    monkeypatch.setattr(workers, "problem", lambda way: "" if way in usable else "missing")
    there = workers._here(screens.Screen(screen, "projection"), gpu=True)
    assert (there.arithmetic, there.projection) == (taken, "projection")
    workers._way.cache_clear()


def test_without_dask_the_install_line_is_printed(monkeypatch, capsys, tmp_path):
    from evalkit import cluster
    from evalkit.cli import run

    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    np.save(tmp_path / "x.npy", np.eye(3, dtype=np.float32))
    assert run(["trillion", "--features", str(tmp_path / "x.npy"), "--cluster", "local"]) == 3
    told = capsys.readouterr().err
    assert "needs distributed and cryptography" in told
    assert "pip install 'face-evalkit[cluster]'" in told
