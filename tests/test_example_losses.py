"""The losses example: gradients, formulas against plain numpy, and that it runs."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from evalkit.protocols import verification
from evalkit.protocols.recipes import RECIPES

WHY = "not installed: dependency group `examples`"
torch = pytest.importorskip("torch", reason=f"torch is {WHY}")
for package in ("pytorch_metric_learning", "sklearn", "matplotlib"):
    pytest.importorskip(package, reason=f"{package} is {WHY}")
library = importlib.import_module("pytorch_metric_learning.losses")
regularizers = importlib.import_module("pytorch_metric_learning.regularizers")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "losses"
if not EXAMPLE.is_dir():
    pytest.skip("the examples are in the repository only", allow_module_level=True)
CLASSES, DIM = 4, 3
# numpy >= 2 and a torch scalar inside pytorch-metric-learning's constructor
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")


def load(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        return importlib.import_module(name)


losses = load("losses")


def batch(seed: int = 0, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(size=(size, DIM))), torch.arange(size) % CLASSES


def made(name: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    loss = losses.LOSSES[name](CLASSES, DIM).double().eval()
    if name.startswith("center"):
        loss.centres = torch.randn(CLASSES, DIM, dtype=torch.float64)
    return loss


def crossed(logits: np.ndarray, y: np.ndarray) -> float:
    return float(
        np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, y, strict=True)])
    )


def cosines(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x @ w / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=0)


def with_own(logits: np.ndarray, y: np.ndarray, change) -> np.ndarray:
    out = logits.copy()
    for i, k in enumerate(y):
        out[i, k] = change(logits[i, k])
    return out


def psi(cosine: float, m: int = 4, blend: float = 1000.0) -> float:
    theta = np.arccos(cosine)
    k = int(theta * m / np.pi)
    return (blend * cosine + (-1) ** k * np.cos(m * theta) - 2 * k) / (1 + blend)


def twin_contrastive(x, y, loss):
    kept = {True: [], False: []}
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                d = np.linalg.norm(x[i] - x[j])
                term = d**2 / 2 if y[i] == y[j] else max(0, 2 - d) ** 2 / 2
                kept[bool(y[i] == y[j])].append(term)
    return sum(np.mean([t for t in terms if t > 0]) for terms in kept.values())


def twin_triplet(x, y, loss):
    u, terms = x / np.linalg.norm(x, axis=1)[:, None], []
    for a, p, n in np.ndindex(len(x), len(x), len(x)):
        if a != p and y[a] == y[p] != y[n]:
            terms.append(((u[a] - u[p]) ** 2).sum() - ((u[a] - u[n]) ** 2).sum() + 0.2)
    return np.mean([t for t in terms if t > 0])


def moved(x, y, centres):
    out = centres.copy()
    for k in range(CLASSES):
        own = [c for c, label in zip(x, y, strict=True) if label == k]
        out[k] = centres[k] - 0.5 * sum(centres[k] - v for v in own) / (1 + len(own))
    return out


def twin_center(x, y, loss):
    c = loss.centres.numpy()
    pull = np.mean([((v - c[k]) ** 2).sum() for v, k in zip(x, y, strict=True)])
    return crossed(x @ loss.W.detach().numpy(), y) + 0.1 / 2 * pull


def twin_center_invariant(x, y, loss):
    norm = (moved(x, y, loss.centres.numpy()) ** 2).sum(1)
    uneven = np.mean([(norm[k] - norm.mean()) ** 2 / 4 for k in y])
    return twin_center(x, y, loss) + 0.1 * uneven


def twin_l_softmax(x, y, loss):
    w = loss.W.detach().numpy()
    size = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=0)
    return crossed(size * with_own(cosines(x, w), y, psi), y)


def twin_a_softmax(x, y, loss):
    own = with_own(cosines(x, loss.W.detach().numpy()), y, psi)
    return crossed(np.linalg.norm(x, axis=1)[:, None] * own, y)


def of_cosine(change):
    return lambda x, y, loss: crossed(
        8 * with_own(cosines(x, loss.W.detach().numpy()), y, change), y
    )


def arc(cosine):
    theta, m = np.arccos(cosine), np.radians(15)
    return np.cos(theta + m) if theta <= np.pi - m else cosine - m * np.sin(m)


TWINS = {
    "softmax": lambda x, y, loss: crossed(x @ loss.W.detach().numpy(), y),
    "contrastive": twin_contrastive,
    "triplet": twin_triplet,
    "l-softmax": twin_l_softmax,
    "a-softmax": twin_a_softmax,
    "center": twin_center,
    "center-invariant": twin_center_invariant,
    "coco": of_cosine(lambda cosine: cosine),
    "cosface": of_cosine(lambda cosine: cosine - 0.2),
    "arcface": of_cosine(arc),
}


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_gradient_is_the_slope(name: str) -> None:
    x, y = batch()
    loss = made(name)
    assert torch.autograd.gradcheck(lambda x: loss(x, y), x.requires_grad_())


@pytest.mark.parametrize("name", [n for n in losses.LOSSES if n not in ("contrastive", "triplet")])
def test_the_gradient_of_the_class_weights(name: str) -> None:
    x, y = batch()
    loss = made(name)
    weights = loss.W.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(loss, {"W": w}, (x, y)), weights
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_formula_in_plain_numpy(name: str, seed: int) -> None:
    x, y = batch(seed)
    loss = made(name, seed)
    assert loss(x, y).item() == pytest.approx(TWINS[name](x.numpy(), y.numpy(), loss), abs=1e-9)


def test_a_softmax_without_a_margin_is_softmax_with_unit_weights() -> None:
    x, y = batch()
    loss = losses.ASoftmax(CLASSES, DIM, margin=1).double()
    expected = torch.nn.functional.cross_entropy(x @ (loss.W / loss.W.norm(dim=0)), y)
    assert loss(x, y).item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_margin_of_a_softmax_comes_in_step_by_step() -> None:
    loss = losses.ASoftmax(CLASSES, DIM, margin=4).double()
    cosine = torch.tensor([0.5], dtype=torch.float64)
    margin = -np.cos(4 * np.pi / 3) - 2  # theta = 60 degrees lies in the second quarter, k = 1
    for step in range(1, 2001):
        blended = loss.modify_cosine_of_target_classes(cosine).item()
        blend = max(5, 1000 / (1 + 0.12 * step))
        assert blended == pytest.approx((blend * 0.5 + margin) / (1 + blend))
    assert blend == 5


def test_arcface_is_the_librarys_where_that_has_a_slope() -> None:
    x, y = batch()
    ours, theirs = (
        losses.ArcFace(CLASSES, DIM, margin=15),
        library.ArcFaceLoss(CLASSES, DIM, margin=15),
    )
    theirs.load_state_dict(ours.state_dict())
    assert ours(x, y).item() == pytest.approx(theirs(x, y).item(), abs=1e-12)


def test_arcface_survives_an_embedding_on_its_class_weight() -> None:
    loss = losses.ArcFace(2, 2, margin=15)
    with torch.no_grad():
        loss.W.copy_(torch.eye(2))
    x = torch.tensor([[3.0, 0.0], [0.0, -2.0]], requires_grad=True)
    loss(x, torch.tensor([0, 1])).backward()
    assert torch.isfinite(x.grad).all()


def test_a_training_batch_moves_the_centres_and_a_test_batch_does_not() -> None:
    x, y = batch()
    loss = made("center")
    before = loss.centres.numpy().copy()
    loss(x, y)
    assert (loss.centres.numpy() == before).all()
    loss.train()(x, y)
    np.testing.assert_allclose(loss.centres.numpy(), moved(x.numpy(), y.numpy(), before))


def test_the_invariant_term_is_the_librarys_regulariser_of_the_moved_centres() -> None:
    x, y = batch(size=CLASSES)  # one image a class: mean over images = mean over classes
    loss = made("center-invariant")
    expected = regularizers.CenterInvariantRegularizer()(loss.moved(x, y)).item()
    plain = super(losses.CenterInvariant, loss).forward(x, y).item()
    assert (loss(x, y).item() - plain) / loss.invariance == pytest.approx(expected)


def test_faces_are_turned_onto_the_template() -> None:
    data = load("data")
    turn = 0.8 * np.exp(0.3j)
    points = np.array([[z.real, z.imag] for z in data.TEMPLATE @ (1, 1j) * turn + (20 + 9j)])
    rows, columns = np.mgrid[:150, :150]
    for k, (px, py) in enumerate(points):
        spot = np.exp(-((columns - px) ** 2 + (rows - py) ** 2) / 8)
        image = data.Image.fromarray((255 * spot).astype(np.uint8))
        crop = data.aligned(image, points, side=112) + 0.5
        y, x = (np.sum(crop * axis) / crop.sum() for axis in np.mgrid[:112, :112])
        np.testing.assert_allclose((x, y), data.TEMPLATE[k], atol=0.1)


def test_nobody_is_both_trained_on_and_verified() -> None:
    labels = np.repeat(np.arange(40), 10)
    faces = load("experiments").EXPERIMENTS["faces"]
    fit, fit_y, test, test_y, unseen = faces.split(labels, np.random.default_rng(0))
    assert len(set(labels[fit])) == 20 and set(labels[test]) == set(labels[fit])
    assert not set(fit) & set(test) and not set(labels[unseen]) & set(labels[fit])
    assert len(fit) + len(test) + len(unseen) == 400
    for rows, named in ((fit, fit_y), (test, test_y)):
        assert len(set(zip(labels[rows], named, strict=True))) == 20  # one new label a person


def test_poor_classes_are_poor() -> None:
    labels = np.repeat(np.arange(10), 180)
    uneven = load("experiments").EXPERIMENTS["uneven"]
    _, fit_y, _, test_y, _ = uneven.split(labels, np.random.default_rng(0))
    assert np.bincount(fit_y).tolist() == [9] * 5 + [90] * 5
    assert np.bincount(test_y).tolist() == [90] * 10


def test_what_is_measured_against_loops() -> None:
    measure = load("measure")
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 3
    same, different = [], []
    for i in range(30):
        for j in range(i):
            pair = same if labels[i] == labels[j] else different
            pair.append(float(((x[i].astype(np.float64) - x[j]) ** 2).sum()))
    found = measure.verification(x, labels, far="0.1")
    assert found["ratio"] == pytest.approx(np.mean(same) / np.mean(different))
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None]
    chord = ((unit[:, None] - unit[None]) ** 2).sum(2)
    own = labels[:, None] == labels[None]
    within, between = chord[own & ~np.eye(30, dtype=bool)].mean(), chord[~own].mean()
    assert found["ratio_angle"] == pytest.approx(within / between, abs=1e-6)
    wrong = sum((s > d) + (s == d) / 2 for s in same for d in different)
    assert found["inverted"] == pytest.approx(wrong / len(same) / len(different))
    bar = sorted(different)[len(different) // 10]
    assert found["tpr_l2"] == pytest.approx(sum(s < bar for s in same) / len(same))


def test_every_loss_has_a_recipe() -> None:
    own = load("measure").OWN
    assert set(own) == {*losses.LOSSES, "pixels"}
    assert set(own.values()) <= set(RECIPES)


def test_folds_share_nobody_and_hold_all_their_pairs() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100, 120), 10))
    pairs = load("measure").pairs_in_folds(labels)
    assert np.bincount(pairs.fold).tolist() == [190] * 10  # all pairs of twenty images
    assert np.array_equal(pairs.genuine, labels[pairs.left] == labels[pairs.right])
    seen = [set(labels[pairs.left[pairs.fold == k]]) for k in range(10)]
    seen = [s | set(labels[pairs.right[pairs.fold == k]]) for k, s in enumerate(seen)]
    assert [len(s) for s in seen] == [2] * 10 and len(set().union(*seen)) == 20


@pytest.mark.parametrize("name", ["facenet", "sphereface", "center-loss", "deepid2"])
def test_a_loss_is_scored_by_its_recipe_as_the_protocol_does(name: str) -> None:
    measure, rng = load("measure"), np.random.default_rng(1)
    labels = np.repeat(np.arange(20), 10)
    x = rng.normal(size=(20, 1, 4))[labels] + rng.normal(0, 0.6, (200, 2, 4))
    x = x.astype(np.float32)
    found, pairs = measure.by_recipe(x, labels, name), measure.pairs_in_folds(labels)
    for prefix, recipe in (("own", RECIPES[name]), ("plain", None)):
        report = verification.evaluate(x, pairs, labels, recipe=recipe, fars=("1e-2",)).metrics
        assert found[f"{prefix}_accuracy"] == report["accuracy"].value
        assert found[f"{prefix}_tpr"] == report["tpr@far=1e-2"].value
    assert found["accuracy_gain"] == found["own_accuracy"] - found["plain_accuracy"]
    assert found["own_accuracy"] != found["plain_accuracy"]


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    picture = tmp_path / "plane.png"
    command = [sys.executable, str(EXAMPLE / "run.py"), "--quick", "--jobs", "1"]
    done = subprocess.run(
        [*command, "--only", "plane", "--picture", str(picture)],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0][2:] for row in rows[2:]] == list(losses.LOSSES)
    assert "nan" not in done.stdout
    assert picture.stat().st_size > 10_000
