"""`evalkit lfw` on embeddings: the published numbers, and one line for every mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.cli import run
from evalkit.datasets import lfw as lists

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random embeddings of the right people: array, key list, and what can go wrong with them."""
    folder = tmp_path_factory.mktemp("embeddings")
    manifest, _ = lists.official_pairs().resolve()
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((manifest.subject.max() + 1, 8)).astype(np.float32)
    x = centre[manifest.subject] + 0.5 * rng.standard_normal((len(manifest.keys), 8), np.float32)
    np.save(folder / "x.npy", x)
    (folder / "keys.txt").write_text("\n".join(f"lfw/{k}" for k in manifest.keys))
    return folder


def lfw(*arguments: str | Path) -> int:
    return run(["lfw", *map(str, arguments)])


def test_the_real_embeddings_give_the_published_numbers(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = shared_data / "features"
    x, keys = features / "lfw_mobilefacenet_flipsum_l2.npy", features / "lfw_paths.txt"
    assert lfw("--features", x, "--keys", keys, "--json", "-") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    expected = json.loads((features / "REFERENCE_mobilefacenet_lfw.json").read_text())
    reference = expected["mobilefacenet_foamliu"]["flipsum"]
    one_pair = 1 / 6000 + 1e-6
    wanted = reference["lfw_10fold_exact_threshold"]["mean"]
    assert metrics["accuracy"]["value"] == pytest.approx(wanted, abs=one_pair)
    assert metrics["auc"]["value"] == pytest.approx(reference["auc"], abs=1e-6)
    assert metrics["eer"]["value"] == pytest.approx(reference["eer"], abs=one_pair)
    assert metrics["tpr@far=1e-3"]["value"] == pytest.approx(0.985333, abs=1e-6)


def test_the_report_is_kept_and_the_table_printed(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    assert lfw("--features", made / "x.npy", "--keys", made / "keys.txt", "--out", out) == 0
    assert "LFW, official View 2: 6,000 pairs" in capsys.readouterr().out
    assert json.loads(out.read_text())["protocol"] == "lfw"
    assert out.with_suffix(".npz").is_file()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert lfw(*arguments) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    message = captured.err.splitlines()
    assert message[0].startswith("evalkit: error: ") and len(message) <= 2
    return message[0]


def test_missing_rows_are_listed(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.load(made / "x.npy")
    keys = (made / "keys.txt").read_text().splitlines()
    np.save(tmp_path / "x.npy", x[:-2])
    (tmp_path / "keys.txt").write_text("\n".join(keys[:-2]))
    line = refused(capsys, "--features", tmp_path / "x.npy", "--keys", tmp_path / "keys.txt")
    assert "missing for 2 of 7701 images" in line


def test_two_rows_for_one_key(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = (made / "keys.txt").read_text().splitlines()
    (tmp_path / "keys.txt").write_text("\n".join([*keys, keys[0]]))
    x = np.load(made / "x.npy")
    np.save(tmp_path / "x.npy", np.vstack([x, -x[:1]]))
    line = refused(capsys, "--features", tmp_path / "x.npy", "--keys", tmp_path / "keys.txt")
    assert "two rows of features claim" in line


def test_more_keys_than_rows(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8), np.float32))
    line = refused(capsys, "--features", tmp_path / "x.npy", "--keys", made / "keys.txt")
    assert "has 3 rows, the list has 7701 keys" in line


def test_a_pairs_file_cut_in_the_middle(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.txt").write_text("10\t300\nA\t1\t2\n")
    given = ["--features", made / "x.npy", "--keys", made / "keys.txt"]
    line = refused(capsys, *given, "--pairs", tmp_path / "pairs.txt")
    assert "holds 1 pairs, its first line announces 6000" in line


def test_nan_embeddings_are_refused_or_counted_as_failures(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.load(made / "x.npy")
    x[0] = np.nan
    np.save(tmp_path / "x.npy", x)
    given = ["--features", tmp_path / "x.npy", "--keys", made / "keys.txt", "--json", "-"]
    assert "1 row holds NaN or infinity, the first is" in refused(capsys, *given)
    assert lfw(*given, "--allow-failures") == 0
    failures = json.loads(capsys.readouterr().out)["failures"]
    assert failures["images"] == 1 and failures["genuine"] + failures["impostor"] >= 1
    (name,) = failures["keys"]
    assert (made / "keys.txt").read_text().splitlines()[0] == f"lfw/{name}"
    assert lfw(*given[:-2], "--allow-failures") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"impostor comparisons rejected ({name})" in shown


def test_rows_that_were_never_written_are_refused_where_the_list_needs_them(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.load(made / "x.npy")
    keys = (made / "keys.txt").read_text().splitlines()
    (tmp_path / "keys.txt").write_text("\n".join([*keys, "Nobody/Nobody_0001.jpg"]))
    given = ["--features", tmp_path / "x.npy", "--keys", tmp_path / "keys.txt", "--json", "-"]
    np.save(tmp_path / "x.npy", np.concatenate([x, 0 * x[:1]]))
    assert lfw(*given) == 0
    capsys.readouterr()
    x[5] = 0
    np.save(tmp_path / "x.npy", np.concatenate([x, x[:1]]))
    line = refused(capsys, *given)
    first = keys[5].removeprefix("lfw/")
    assert f"1 rows are all zero, the first is {first!r}" in line


@pytest.mark.parametrize(("flip", "warned"), [([], True), (["--flip", "none"], False)])
def test_of_two_views_the_first_is_not_taken_silently(
    flip: list[str],
    warned: bool,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x = np.load(made / "x.npy")
    np.save(tmp_path / "x.npy", np.stack([x, x[::-1]], axis=1))
    given = ["--features", tmp_path / "x.npy", "--keys", made / "keys.txt", "--json", "-"]
    assert lfw(*given, *flip) == 0
    assert ("holds 2 views per image" in capsys.readouterr().err) == warned


def test_neither_model_nor_features_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert lfw() == 2
    assert "--features" in capsys.readouterr().err


def test_a_misspelt_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lwf"]) == 2
    assert "Did you mean 'lfw'?" in capsys.readouterr().err
