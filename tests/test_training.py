"""Evaluation inside a training loop: one call, images decoded once, chance told from progress."""

import gc
import io
import json
import math
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import evalkit
from evalkit import bench
from evalkit.adapters.presets import build
from evalkit.errors import ModelError, ProtocolError, ReportError
from evalkit.images.source import KeptImages
from evalkit.training import Verifier

pytestmark = pytest.mark.once  # what it holds does not depend on Python or packages

SPEC = build({"size": (8, 8), "color": "rgb", "mean": 0, "std": 255})
PAIRS = 120


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A .bin set of 120 pairs of 30 people, noise around a picture of each."""
    rng = np.random.default_rng(5)
    faces = rng.integers(60, 195, (30, 8, 8, 3))
    first = rng.integers(0, 30, PAIRS)
    same = np.arange(PAIRS) % 2 == 0
    other = np.where(same, first, (first + rng.integers(1, 30, PAIRS)) % 30)
    files = []
    for person in np.column_stack([first, other]).ravel():
        out = io.BytesIO()
        noisy = np.clip(faces[person] + rng.normal(0, 40, (8, 8, 3)), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(out, "PNG")
        files.append(out.getvalue())
    (tmp_path / "set.bin").write_bytes(pickle.dumps((files, same.tolist())))
    return tmp_path


class Pixels:
    """Pixels with noise of a share that falls as it learns: what a network is to these tests."""

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        x = images.reshape(len(images), -1) / 255 - 0.5
        drawn = [np.random.default_rng(int(i.sum())).normal(0, 0.3, x.shape[1]) for i in images]
        return (1 - self.noise) * x + self.noise * np.array(drawn)


def test_a_model_and_sets_give_a_report_each_and_a_table(held: Path) -> None:
    made = evalkit.evaluate(Pixels(0), [held / "set.bin"], spec=SPEC)
    assert list(made) == ["set"] and "accuracy" in str(made) and "<table" in made._repr_html_()
    images = bench.read_sets([held / "set.bin"])[0].images
    model = evalkit.load_model(Pixels(0), spec=SPEC)
    alone = evalkit.evaluate("verification", model, held / "set.bin", images=images)
    assert dict(alone.metrics) == dict(made["set"].metrics)
    assert alone.identity == made["set"].identity
    assert made.flat()["set/auc"] == alone["auc"].value
    assert not evalkit.compare(alone, made["set"]).why_unpaired
    flipped = evalkit.evaluate(Pixels(0), str(held / "set.bin"), spec=SPEC, flip="sum")
    assert flipped["set"].provenance["views"] == "original, mirrored"


def test_the_name_of_a_protocol_is_no_model(held: Path) -> None:
    with pytest.raises(ModelError, match=r"no model at nothing\.onnx"):
        evalkit.evaluate("nothing.onnx", held / "set.bin", preset="arcface")
    with pytest.raises(evalkit.errors.ProtocolError, match="no protocol is called 'lvw'"):
        evalkit.evaluate("lvw", np.eye(3))


def test_kept_images_are_decoded_once(held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = evalkit.load_model(Pixels(0), spec=SPEC)
    sets = bench.keep(bench.read_sets([held / "set.bin"]))
    few = bench.keep(bench.read_sets([held / "set.bin"]), room=10 * 8 * 8 * 3)
    first = [evalkit.evaluate(model, some)["set"] for some in (sets, few)]
    decoded: list[int] = []
    monkeypatch.setattr(
        "evalkit.images.source.decode",
        lambda data: decoded.append(1) or np.asarray(Image.open(io.BytesIO(data))),
    )
    for one, before, n in zip((sets, few), first, (0, 2 * PAIRS - 10), strict=True):
        decoded.clear()
        again = evalkit.evaluate(model, one)["set"]
        assert len(decoded) == n
        assert dict(again.metrics) == dict(before.metrics) and again.identity == before.identity


def test_a_broken_image_is_counted_in_every_epoch(
    held: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, same = pickle.loads((held / "set.bin").read_bytes())
    files[3] = b"no image"
    (held / "set.bin").write_bytes(pickle.dumps((files, same)))
    sets = bench.keep(bench.read_sets([held / "set.bin"]))
    for _ in range(2):
        made = evalkit.evaluate(Pixels(0), sets, spec=SPEC)
        assert made["set"].failures.images == 1
        assert "set: 1 of 240 images have no vector" in capsys.readouterr().err


def test_a_verifier_tells_progress_from_chance(held: Path) -> None:
    lines: list[str] = []
    verify = Verifier(held / "set.bin", spec=SPEC, every=2, watch="auc", log=lines.append)
    assert verify.best is None and math.isnan(verify.value)
    seen = []
    for epoch, noise in enumerate([0.9, 0.0, 0.895, 0.9, 0.2, 0.2, 0.2, 0.2, 0.95]):
        verify(Pixels(noise), epoch)
        seen.append((verify.improved, verify.best, verify.stale))
    assert seen[::2] == [(True, 0, 0), (False, 0, 1), (True, 4, 0), (False, 4, 1), (False, 4, 2)]
    assert len(lines) == 5 and verify.reports is not None
    first, chance, better, same, worse = lines
    assert first.startswith("epoch 0: set auc 0.") and first.endswith("], the first")
    assert "not distinguishable from epoch 0 (p " in chance
    assert "better than epoch 0: +" in better
    assert ", not distinguishable from epoch 4 (p 1); no false accepts" in same
    assert "worse than epoch 4: -" in worse
    assert verify.values["set/auc"] == verify.value == verify.reports["set"]["auc"].value
    with pytest.raises(ReportError, match="has no metric 'tpr@far=1e-9'"):
        Verifier(held / "set.bin", spec=SPEC, watch="tpr@far=1e-9")(Pixels(0), 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"watch": "acuracy"}, "which way 'acuracy' is better .*did you mean 'accuracy'"),
        ({"watch": "norm-variation"}, "which way 'norm-variation' is better"),
        ({"every": 0}, "every given as 0"),
        ({"alpha": 5}, "alpha given as 5"),
    ],
)
def test_a_verifier_refuses_nonsense_before_training(given: Any, message: str) -> None:
    """A metric without a direction was watched as an error; alpha ended training at epoch 2."""
    with pytest.raises(ProtocolError, match=message):
        Verifier("absent.bin", spec=SPEC, **given)


def test_the_log_says_what_makes_the_watched_number_doubtful(held: Path) -> None:
    lines: list[str] = []
    verify = Verifier(held / "set.bin", spec=SPEC, watch="tpr@far=1e-1", log=lines.append)
    verify(Pixels(0.5), 0)
    assert verify.reports is not None
    note = verify.reports["set"]["tpr@far=1e-1"].note
    assert note and lines[-1].endswith(f", the first; {note}")


def test_nothing_grows_from_epoch_to_epoch(held: Path) -> None:
    """Two reports are kept, the best and the last; and the images, once."""

    def alive() -> tuple[int, int]:
        gc.collect()
        objects = gc.get_objects()
        images = sum(len(one._held) for one in objects if type(one) is KeptImages)
        return sum(type(one) is evalkit.Report for one in objects), images

    reports, images = alive()
    verify = Verifier(held / "set.bin", spec=SPEC, log=lambda line: None)
    for epoch, noise in enumerate((0.9, 0.895, 0.2)):
        verify(Pixels(noise), epoch)
        most = 1 if verify.best == epoch else 2
        assert alive() == (reports + most, images + 2 * PAIRS)


def test_a_diverged_network_is_said_and_training_goes_on(held: Path) -> None:
    lines: list[str] = []
    verify = Verifier(held / "set.bin", spec=SPEC, log=lines.append)
    verify(Pixels(0), 0)
    assert not verify(lambda x: np.full((len(x), 4), np.nan), 1)
    assert verify.best == 0 and "240 of 240 images have no vector" in lines[1]
    assert "worse than epoch 0" in lines[2] and verify.value == 0.5


def test_a_network_in_a_loop(held: Path) -> None:
    torch = pytest.importorskip("torch")
    from small_networks import Plain

    net, lines = Plain(), list[str]()
    verify = Verifier(held / "set.bin", spec=SPEC, log=lines.append)
    for epoch in range(2):
        net(torch.ones(4, 3, 8, 8)).sum().backward()
        with torch.no_grad():
            for weights in net.parameters():
                weights -= 0.1 * weights.grad
        verify(net, epoch)
        assert net.training and net.norm.training
    assert len(lines) == 2


def started(folder: Path, size: int, dies: bool = False) -> list[int | None]:
    """Run the ranks of a distributed run; their exit codes."""
    import ranks

    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "evalkit.training"])  # imported once, not 11 times
    all_ranks = [
        context.Process(target=ranks.verify, args=(rank, size, folder, dies))
        for rank in range(size)
    ]
    for one in all_ranks:
        one.start()
    for one in all_ranks:
        one.join()
    return [one.exitcode for one in all_ranks]


def test_one_two_and_eight_ranks_give_the_same_bits(held: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.distributed.is_gloo_available():
        pytest.skip("torch has no gloo")
    probed = []
    for size in (1, 2, 8):
        assert started(held, size) == [0] * size
        told = [json.loads(text) for text in _told(held, size)]
        assert len({tuple(one[:3]) for one in told}) == 1  # best, value, improved
        assert [one[3] for one in told] == [1] + [0] * (size - 1)  # rank 0 logs
        probed.append([one[4] for one in told])
    once = probed[0][0] - 2 * PAIRS  # what every rank sees to try the model
    assert all(sum(seen) == 2 * PAIRS + once * len(seen) for seen in probed)
    reports = [evalkit.Report.load(held / f"{size}.json") for size in (1, 2, 8)]
    for one in reports[1:]:
        assert dict(one.metrics) == dict(reports[0].metrics)
        scores = [(r.outcomes or {})["score"] for r in (one, reports[0])]
        np.testing.assert_array_equal(*scores)


def _told(folder: Path, size: int) -> list[str]:
    texts = [(folder / f"told{size}.{rank}").read_text() for rank in range(size)]
    return [text.replace("True", "true").replace("False", "false") for text in texts]


def test_a_rank_that_dies_does_not_hang_the_others(held: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.distributed.is_gloo_available():
        pytest.skip("torch has no gloo")
    assert started(held, 2, dies=True) == [3, 9]
    assert "rank 0 waited for another rank, which has ended" in (held / "error0").read_text()
