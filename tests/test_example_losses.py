"""The losses example: gradients, formulas against plain numpy, and that it runs."""

import importlib
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
for package in ("pytorch_metric_learning", "matplotlib"):
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
        losses.SCALE * with_own(cosines(x, loss.W.detach().numpy()), y, change), y
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
    for step in range(1, 501):
        blended = loss.modify_cosine_of_target_classes(cosine).item()
        blend = max(5, 1000 / (1 + 0.5 * step))
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


def test_a_margin_at_once_does_not_change_and_an_eased_one_grows() -> None:
    cosine, step = torch.tensor([0.5], dtype=torch.float64), 1
    whole = losses.VARIANTS["a-softmax-whole"](CLASSES, DIM).double()
    eased = losses.VARIANTS["cosface-eased"](CLASSES, DIM).double()
    for step in range(1, 401):
        margin = whole.modify_cosine_of_target_classes(cosine).item()
        assert margin == pytest.approx(-np.cos(4 * np.pi / 3) - 2)
        grown = eased.modify_cosine_of_target_classes(cosine).item()
        assert grown == pytest.approx(0.5 - 0.2 * min(1, step / eased.steps))
    assert step > eased.steps


def test_a_centre_alone_is_the_centre_term() -> None:
    x, y = batch()
    loss = losses.VARIANTS["center-alone"](CLASSES, DIM).double().eval()
    assert loss(x, y).item() == pytest.approx(0.1 / 2 * (x**2).sum(1).mean().item())


def test_faces_are_drawn_from_a_seed_and_show_their_person() -> None:
    faces = load("faces")
    people = faces.people(8, np.random.default_rng(0))
    x, again = (faces.drawn(np.repeat(people, 20, 0), np.random.default_rng(1)) for _ in "12")
    assert x.shape == (160, 1, 24, 24) and x.dtype == np.float32 and np.abs(x).max() <= 0.5
    np.testing.assert_array_equal(x, again)
    others = faces.drawn(np.repeat(people[::-1], 20, 0), np.random.default_rng(1))
    assert np.abs(x - others).mean() > 0.02  # the same pose, light and noise


def test_few_images_of_the_first_people_and_many_of_the_last() -> None:
    experiments = load("experiments")
    held = experiments.faces(experiments.Experiment(people=6, strangers=3), 0)
    counts = np.bincount(held.fit_y)
    assert counts[0] == 4 and counts[-1] == 40 and (np.diff(counts) > 0).all()
    assert np.bincount(held.test_y).tolist() == [5] * 6
    assert np.bincount(held.new_y).tolist() == [10] * 3
    assert len(held.fit) == counts.sum() and len(held.new) == 30


def test_what_is_measured_against_loops() -> None:
    measure = load("measure")
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 3
    same, different, lengths = [], [], {True: [], False: []}
    norm = np.linalg.norm(x.astype(np.float64), axis=1)
    for i in range(30):
        for j in range(i):
            pair = same if labels[i] == labels[j] else different
            pair.append(float(((x[i].astype(np.float64) - x[j]) ** 2).sum()))
            lengths[bool(labels[i] == labels[j])].append((norm[i] - norm[j]) ** 2)
    found = measure.verification(x, labels, far="0.1")
    share = np.mean(lengths[True]) / np.mean(same)
    assert found["length"] == pytest.approx(share, abs=1e-6)
    gap = share - np.mean(lengths[False]) / np.mean(different)
    assert found["length_gap"] == pytest.approx(gap, abs=1e-6)
    wrong = sum((s > d) + (s == d) / 2 for s in same for d in different)
    assert found["inverted"] == pytest.approx(wrong / len(same) / len(different))
    bar = sorted(different)[len(different) // 10]
    assert found["tpr_l2"] == pytest.approx(sum(s < bar for s in same) / len(same))
    ratio = np.mean(same) / np.mean(different)
    assert measure.shape(x, labels)["ratio"] == pytest.approx(ratio)


def test_regions_grow_with_the_images_that_make_them_grow() -> None:
    measure, rng = load("measure"), np.random.default_rng(0)
    labels = np.repeat(np.arange(8), np.arange(3, 11))
    x = rng.normal(size=(8, 5))[labels] * (1 + labels[:, None])
    x += rng.normal(size=(len(labels), 5)) * (1 + labels[:, None] ** 2)
    found = measure.regions(x.astype(np.float32), labels)
    assert found["region_l2"] > 0.9 and set(found) == {"region_l2", "region_angle", "region_norm"}


def test_every_loss_has_a_recipe() -> None:
    own = load("measure").OWN
    assert set(own) == {*losses.LOSSES, "pixels"}
    assert set(own.values()) <= set(RECIPES)


def test_folds_share_nobody_and_hold_as_many_pairs_of_either_kind() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(100, 130), 10))
    pairs = load("measure").pairs_in_folds(labels)
    assert np.bincount(pairs.fold[pairs.genuine]).tolist() == [3 * 45] * 10  # all of them
    assert np.bincount(pairs.fold[~pairs.genuine]).tolist() == [3 * 45] * 10
    assert np.array_equal(pairs.genuine, labels[pairs.left] == labels[pairs.right])
    seen = [set(labels[pairs.left[pairs.fold == k]]) for k in range(10)]
    seen = [s | set(labels[pairs.right[pairs.fold == k]]) for k, s in enumerate(seen)]
    assert [len(s) for s in seen] == [3] * 10 and len(set().union(*seen)) == 30


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


@pytest.mark.parametrize(
    ("values", "bounds", "verdict"),
    [
        ([3.0, 3.1, 3.2], {"above": 2.5}, "holds"),
        ([3.0, 3.1, 3.2], {"above": 3.5}, "does not hold"),
        ([3.0, 3.1, 3.2], {"above": 3.0}, "cannot be told"),
        ([3.0, 3.1, 3.2], {"below": 3.5}, "holds"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(
    values: list[float], bounds: dict[str, float], verdict: str
) -> None:
    hypotheses = load("hypotheses")
    runs = {("a", k): {"n": v + k} for k, v in enumerate(values)}
    runs |= {("b", k): {"n": float(k)} for k in range(4)}  # the seeds of both count
    found = hypotheses.Hypothesis("claim", "words", "a", "n", "b", **bounds)
    mean, half, told = found.judged(runs)
    assert mean == pytest.approx(3.1) and half == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-4)
    assert told == verdict


def test_the_page_is_what_the_results_make() -> None:
    page, hypotheses = load("page"), load("hypotheses")
    runs = page.read()
    text = page.PAGE.read_text(encoding="utf-8")
    assert f"{page.BEGIN}\n\n{page.made(runs)}\n\n{page.END}" in text
    held = page.whole(runs)
    assert len({seed for _, seed in held}) >= 3
    assert {loss for loss, _ in held} == {*losses.LOSSES, *losses.VARIANTS, "pixels"}
    for found in hypotheses.HYPOTHESES:
        assert len(found.values(held)) == len({seed for _, seed in held})


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    command = [sys.executable, str(EXAMPLE / "run.py"), "--quick", "--jobs", "1", str(results)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = load("page").read(results)
    assert {loss for loss, _ in runs} == {*losses.LOSSES, *losses.VARIANTS, "pixels"}
    assert {seed for _, seed in runs} == {0, 1}
    assert "nan" not in results.read_text().lower()
