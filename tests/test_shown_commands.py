"""Every command that the documents show is run, on small stand-ins under the names they use.

The tutorial, the examples for CI and the page on clusters have tests of their own.
"""

import io
import json
import pickle
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from test_docs import PAGES, shown

from evalkit.cli import run
from evalkit.datasets import lfw
from evalkit.vectors import devkit_matrix

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
pytest.importorskip("torch", reason="run once, where every extra is")

ELSEWHERE = ("tutorial.md", "cluster.md")  # test_tutorial.py, test_cluster.py
HERE = {p.name: p for p in reversed(PAGES) if p.name not in ELSEWHERE}
# Smaller sets than those shown; nothing else of a line is changed.
SMALLER = {
    "D.json_1000000_1": "D.json_40_1",
    "D.json_4000_1": "D.json_40_1",
    "--gallery-size 50 --gallery-size 200": "--gallery-size 1",
    "--distractors 1000000": "--distractors 2000 --dim 256",
}
# Reports that a page takes for granted; a copy of what it has just made stands in.
BEFORE = {"old.json": "new.json", "before.json": "geometry.json", "people.json": "report.json"}
NOT_RUN = {
    "evalkit lfw --model model.onnx": "fetches LFW",
    "evalkit lfw --model model.onnx --preset sphereface --recipe sphereface": "fetches LFW",
    "evalkit embed --model model.onnx --preset arcface --data photos.zip --align mtcnn "
    "faces.h5": "stand-ins have no faces",
    "evalkit align photos.zip CROPS/": "stand-ins have no faces",
    "evalkit people FACES/ --model model.onnx --align mtcnn --page people.html": (
        "stand-ins have no faces"
    ),
    "evalkit people FACES/ --model model.onnx --preset imagenet --align mtcnn --page people.html": (
        "stand-ins have no faces"
    ),
    "evalkit people FACES/ --model model.onnx --align mtcnn --page people.html --out people.json": (
        "stand-ins have no faces"
    ),
    "evalkit reproduce README.md agedb_30.bin --model model.onnx": "test_reproduce.py runs it",
    "evalkit demo": "test_tutorial.py runs it",
    "evalkit search --gallery SCface/mugshot_frontal_cropped_all --probe "
    "SCface/surveillance_cameras_distance_1 --data SCface/ --model model.onnx --preset arcface": (
        "test_bench.py runs it"
    ),
    **{
        f"evalkit search --lists {name} --features lfw_mobilefacenet_flipsum_l2.npy "
        "--keys lfw_paths.txt": "test_search.py runs it"
        for name in ("lfw-closed", "lfw-open")
    },
}
MAY_FAIL = ("check", "gate")  # their verdict on stand-ins is 0 or 1
RNG = np.random.default_rng(0)
KEYS = lfw.official_pairs().resolve()[0].keys
MANY = [k for k in KEYS if k.startswith(("George_W_Bush/", "Tony_Blair/", "Serena_Williams/"))]


def model(path: Path) -> None:
    """Write a model of one layer on 4 x 4 pixels; a mirror image is not its vector turned round."""
    h, kind = onnx.helper, onnx.TensorProto.FLOAT
    pool = h.make_node("AveragePool", ["x"], ["p"], kernel_shape=[28, 28], strides=[28, 28])
    weights = RNG.normal(size=(48, 48)).astype(np.float32)
    graph = h.make_graph(
        [
            pool,
            h.make_node("Flatten", ["p"], ["f"]),
            h.make_node("MatMul", ["f", "w"], ["m"]),
            h.make_node("Relu", ["m"], ["y"]),
        ],
        "pixels",
        [h.make_tensor_value_info("x", kind, ["n", 3, 112, 112])],
        [h.make_tensor_value_info("y", kind, ["n", 48])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opset = [h.make_opsetid("", 17)]
    onnx.save(h.make_model(graph, opset_imports=opset, ir_version=9), path)
    Path("model.evalkit.toml").write_text('[input]\npreset = "arcface"\n')


def picture(person: np.ndarray) -> bytes:
    pixels = np.clip(person + RNG.normal(0, 20, (4, 4, 3)), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels.repeat(28, 0).repeat(28, 1)).save(out, "PNG", compress_level=1)
    return out.getvalue()


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the files that every page may name."""
    folder = tmp_path_factory.mktemp("workshop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model(folder / "model.onnx")
        faces(folder)
        lists(folder)
        for name in ("base.json", "new.json", "now.json", "report.json"):
            words = ["--features", "F.npy", "--keys", "K.txt", "--out", name, "--quiet"]
            assert run(["lfw", *words]) == 0
    return folder


def faces(folder: Path) -> None:
    """Images of LFW under their names, and vectors of them; two pictures of each of 500 people."""
    people = RNG.integers(0, 256, (500, 4, 4, 3))
    drawn = [(picture(p), picture(p)) for p in people]
    subjects = {name: k for k, name in enumerate(sorted({k.split("/")[0] for k in KEYS}))}
    with zipfile.ZipFile("LFW112.zip", "w") as archive:
        for n, key in enumerate(KEYS):
            held = drawn[subjects[key.split("/")[0]] % 500][n % 2]
            (folder / "LFW" / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / "LFW" / key).write_bytes(held)
            archive.writestr(key, held)
    who = np.array([subjects[k.split("/")[0]] for k in KEYS])
    x = RNG.normal(size=(len(subjects), 1, 24))[who] + RNG.normal(0, 0.4, (len(KEYS), 2, 24))
    np.save("F.npy", x[:, 0].astype(np.float32))
    Path("K.txt").write_text("\n".join(KEYS))
    np.save("L.npy", who)
    sexes = (f"{key},{('female', 'male')[k // 6 % 2]}" for k, key in enumerate(KEYS))
    Path("groups.csv").write_text("\n".join(["key,sex", *sexes]))
    shot = (f"{key},{10 * (k % 3)},{'ab'[k % 2]}" for k, key in enumerate(KEYS))
    Path("images.csv").write_text("\n".join(["key,age,camera", *shot]))
    numbers = (f"{key},{k % 97}" for k, key in enumerate(KEYS))
    Path("quality.csv").write_text("\n".join(["key,quality", *numbers]))
    np.savez("two_views.npz", features=x.astype(np.float32), keys=np.array(KEYS))
    assert run(["import", "two_views.npz", "embeddings.h5", "--quiet"]) == 0
    for key in [*MANY, *KEYS[:40]]:
        flat = key if key in MANY else Path(key).name  # a distractor has no folder
        (folder / "FACES" / flat).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "LFW" / key, folder / "FACES" / flat)
    (folder / "STRANGERS").mkdir()
    for key in KEYS[-12:]:
        shutil.copy(folder / "LFW" / key, folder / "STRANGERS" / Path(key).name)
    savemat(
        "features.mat", {"features": x[:, 0].astype(np.float32), "keys": np.array(KEYS, object)}
    )
    points = np.tile([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]], (len(KEYS), 1, 1))
    np.savez("points.npz", landmarks=points.astype(np.float32), keys=np.array(KEYS))


def lists(folder: Path) -> None:
    """Write the lists of every protocol over the same images, and MegaFace's folders."""
    x = np.load("F.npy")
    of = dict(zip(KEYS, x, strict=True))
    ids = [k.split("/")[0] for k in MANY]
    others = [k for k in KEYS if k not in MANY][:40]
    Path("P.json").write_text(json.dumps({"path": MANY, "id": ids}))
    shutil.copy("P.json", "fgnet_features_list.json")
    Path("D.json_40_1").write_text(json.dumps({"path": others}))
    for name, keys in (("FaceScrub", MANY), ("FGNET", MANY), ("MegaFace", others)):
        for key in keys:
            path = folder / f"{name}_Features" / f"{key}_foam.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            devkit_matrix.write_feature(path, of[key])
    Path("facescrub_noises.txt").write_text(Path(MANY[0]).name)
    Path("megaface_noises.txt").write_text(others[0])
    pairs = lfw.official_pairs()
    rows = list(zip(pairs.left, pairs.right, pairs.genuine, strict=True))[:3000:7]
    Path("pairs.txt").write_text("\n".join(f"{a} {b} {int(g)}" for a, b, g in rows))
    shutil.copy("pairs.txt", "pairs_label.txt")
    score = [float(of[a] @ of[b]) for a, b, _ in rows]
    lines = [f"{int(g)} {s}" for s, (_, _, g) in zip(score, rows, strict=True)]
    Path("scores.txt").write_text("\n".join(lines))
    lines = [f"{int(g)} {-s}" for s, (_, _, g) in zip(score, rows, strict=True)]
    Path("distances.txt").write_text("\n".join(lines))
    held = [(folder / "LFW" / side).read_bytes() for a, b, _ in rows[:120] for side in (a, b)]
    same = [bool(g) for _, _, g in rows[:120]]
    Path("agedb_30.bin").write_bytes(pickle.dumps((held, same)))
    Path("bench.toml").write_text(
        '[[set]]\npath = "agedb_30.bin"\n[[set]]\npath = "pairs.txt"\ndata = "LFW"\n'
    )
    media = [f"{k} {n // 2} {n // 2}" for n, k in enumerate(MANY)]
    Path("ijbc_face_tid_mid.txt").write_text("\n".join(media))
    templates = [(a, b) for a in range(len(MANY) // 2) for b in range(a)]
    same = [int(ids[2 * a] == ids[2 * b]) for a, b in templates]
    lines = [f"{a} {b} {g}" for (a, b), g in zip(templates, same, strict=True)]
    Path("ijbc_template_pair_label.txt").write_text("\n".join(lines))
    points = "38 52 74 52 56 72 42 92 71 92 0.9"
    Path("ijbc_name_5pts_score.txt").write_text("\n".join(f"{k} {points}" for k in MANY))
    blufr_config(folder / "blufr_lfw_config.mat")
    Path("dlib_LFW_roc_curve.txt").write_text("0.5 0\n0.9 0.1\n1 1\n")
    videos(folder)
    ijba_splits(folder / "IJB-A")
    Path("gallery.txt").write_text(
        "\n".join(f"{k} {who}" for k, who in zip(MANY, ids, strict=True) if "0001" in k)
    )
    Path("probe.txt").write_text("\n".join(k for k in MANY if "0001" not in k))
    Path("distractors.txt").write_text("\n".join(others))
    names = [k.split("/")[0] for k in KEYS]
    Path("who.txt").write_text("\n".join(n if n in ids else "-" for n in names))


def ijba_splits(folder: Path) -> None:
    """Write two splits as NIST has them: a template per image, half of the people not enrolled."""
    folder.mkdir()
    who = np.unique([k.split("/")[0] for k in MANY], return_inverse=True)[1].tolist()
    rows = [f"{n},{s},{k},{n}" for n, (k, s) in enumerate(zip(MANY, who, strict=True))]
    head = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID"
    for number in (1, 2):
        first = [n for n, s in enumerate(who) if s and s not in who[:n]]
        rest = [n for n in range(len(rows)) if n not in first]
        for name, held in (("verify_metadata", range(len(rows))), ("search_gallery", first),
                           ("search_probe", rest)):  # fmt: skip
            text = "\n".join([head, *(rows[n] for n in held)])
            (folder / f"{name}_{number}.csv").write_text(text)
        pairs = (f"{a},{b}" for a in range(len(rows)) for b in range(a))
        (folder / f"verify_comparisons_{number}.csv").write_text("\n".join(pairs))


def videos(folder: Path) -> None:
    """Write 60 pairs of videos in three folds, two frames a video as images and as vectors."""
    frames, vectors = [], []
    for k in range(40):
        person = RNG.integers(0, 256, (4, 4, 3))
        for frame in (f"P{k}/{video}/{n}.png" for video in range(2) for n in range(2)):
            (folder / "YTF" / frame).parent.mkdir(parents=True, exist_ok=True)
            (folder / "YTF" / frame).write_bytes(picture(person))
            frames.append(frame)
            vectors.append(person.ravel() + RNG.normal(0, 20, 48))
    np.savez("frames.npz", features=np.array(vectors, np.float32), keys=np.array(frames))
    pairs = [(k % 3, f"P{k}/0", f"P{k}/1", 1) for k in range(30)]
    pairs += [(k % 3, f"P{k}/0", f"P{k + 10}/1", 0) for k in range(30)]
    lines = [f"{fold}, {n}, {a}, {b}, {same}" for n, (fold, a, b, same) in enumerate(pairs)]
    Path("splits.txt").write_text("\n".join(lines))


def blufr_config(path: Path) -> None:
    def cells(rows: list[int]) -> np.ndarray:
        held = np.empty((1, 2), object)
        held[0] = [np.array(rows, float)[:, None]] * 2
        return held

    names = np.empty((len(MANY), 1), object)
    names[:, 0] = [Path(k).name for k in MANY]
    labels = np.unique([k.split("/")[0] for k in MANY], return_inverse=True)[1] + 1
    first = (np.unique(labels, return_index=True)[1] + 1).tolist()[:-1]
    everybody = list(range(1, len(MANY) + 1))
    trials = {
        "testIndex": cells(everybody),
        "galIndex": cells(first),
        "probIndex": cells([k for k in everybody if k not in first]),
    }
    savemat(path, {"imageList": names, "labels": labels[:, None], **trials})


ALIASES = {
    "LFW": ("lfw", "images", "lfw_deepfunneled", "loose_crop"),
    "model.onnx": ("new.onnx", "MobileFaceNet.onnx", "mobilefacenet_foamliu.onnx"),
    "scores.txt": ("scores-dev.txt", "scores-eval.txt"),
    "LFW112.zip": ("lfw_pairs_aligned112_q90.zip",),
    "F.npy": ("new.npy", "embeddings.npy", "lfw_mobilefacenet_flipsum_l2.npy"),
    "K.txt": ("keys.txt", "lfw_paths.txt"),
    "embeddings.h5": ("features.h5", "FEATURES.h5"),
}
RULES = '[[rule]]\nmetric = "METRIC"\ntest = "plain"\nmax-drop = 0.5\n'


def lay_out(workshop: Path, page: Path) -> None:
    """Put the workshop's files into this folder, under every name that a page uses."""
    for held in workshop.iterdir():
        for name in (held.name, *ALIASES.get(held.name, ())):
            if not any(re.search(rf"(embed|import \S+) {name}", line) for line in lines_of(page)):
                if held.is_dir():
                    Path(name).symlink_to(held)
                else:  # a page writes through a link, into what other pages read
                    shutil.copy(held, name)
    if page.stem in ("ijb", "recipes"):  # there F.npy has a row an image of the media list
        Path("F.npy").unlink()
        with np.load("two_views.npz") as held:
            row = {key: n for n, key in enumerate(held["keys"].tolist())}
            np.save("F.npy", held["features"][[row[k] for k in MANY]])
    Path("face").mkdir()
    metric = "within/between@space=angle" if page.stem == "geometry" else "accuracy"
    Path("gates.toml").write_text(RULES.replace("METRIC", metric))


def lines_of(page: Path) -> list[str]:
    return [line for name, line in shown() if name == page.name]


@pytest.mark.parametrize(
    "page", [p for p in HERE.values() if set(lines_of(p)) - set(NOT_RUN)], ids=lambda p: p.stem
)
def test_the_commands_of_a_page_run(
    page: Path,
    workshop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(workshop.parent / "cache"))
    monkeypatch.chdir(tmp_path)
    lay_out(workshop, page)
    for line in lines_of(page):
        if line in NOT_RUN:
            continue
        for large, small in SMALLER.items():
            line = line.replace(large, small)
        words = shlex.split(line, comments=True)[1:]
        for name, made in BEFORE.items():
            if name in words and Path(made).exists():
                shutil.copy(made, name)
                if Path(made).with_suffix(".npz").exists():
                    shutil.copy(Path(made).with_suffix(".npz"), Path(name).with_suffix(".npz"))
        code = run(words)
        said = capsys.readouterr().err
        assert code == 0 or (code == 1 and words[0] in MAY_FAIL), f"{line}\n{said}"
