"""Names of columns: what the header of a table says that each column holds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from evalkit.keys import IMAGES

MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})  # no number, case folded
INDEX = ("", "unnamed0", "index", "id", "idx", "pair", "pairid", "no")  # columns that number rows
TURNED = frozenset(  # labels that are 1 where faces differ, as contrastive losses have them
    {"different", "isdifferent", "diff", "dissimilar", "isdissimilar", "mismatch", "notsame"}
    | {"impostor", "isimpostor", "imposter", "nonmatch", "nonmated"}
)
DISTANCES = frozenset(  # scores that fall as faces are more alike
    {"distance", "dist", "cosinedistance", "euclidean", "euclideandistance"}
)
# What headers call a role, as `word` spells them; the two images of a pair: `_sides`.
_NAMES = {
    "label": "label labels same issame issameperson sameperson match ismatch matched genuine mated "
    "isgenuine y ytrue target gt groundtruth truth actual actualissame class similar pairlabel",
    "fold": "fold folds foldid split splits splitid splitnumber splitno set cv",
    "score": "score scores similarity sim simscore similarityscore cosine cossim cosinesimilarity "
    "matchscore distance dist cosinedistance euclidean euclideandistance probability prob "
    "confidence pred prediction predictions yscore yhat",
    "claimed": "claimed claimedid clientid",
    "real": "real realid trueid",
    "model": "model modelid templateid",
    "probe": "probe probeid probelabel testlabel",
    "image": "image imagepath imagefile imagename img path file filename filepath key",
    "person": "person personid people subject subjectid identity name who label class",
    "class": "label labels identity subject person class",  # of images in a table
    "template": "templateid",
    "subject": "subjectid",
    "media": "mediaid sightingid",
    "file": "file filename",
}
_KEY = re.compile(
    "(image|img|face|photo|file|sample)?(path|file|filename|filepath|name|key|id)s?|image|img|face"
)
_VECTORS = re.compile(
    "(face|image|img)?(feature|feat|embedding|emb|embed|vector|vec|descriptor|representation|"
    "encoding)s?"
)
_POINTS = re.compile("(face|facial)?(landmark|lmk|lm|kps|kpt|keypoint|bbox|box|rect|pose).*")
_ASIDE = re.compile(
    "(det|detect|detection|detector|face|facial|image|img)?(score|conf|confidence|prob|probability|"
    "quality|qualityscore|blur|sharpness|brightness|illumination|occlusion)s?|"
    "age|gender|sex|race|ethnicity|yaw|pitch|roll|norm|featurenorm|embeddingnorm|magnitude"
)
_MODELS = re.compile(
    "(model|network|net|backbone|method|algorithm|algo|system|matcher|arch|architecture|run|"
    "checkpoint|ckpt|epoch|step|version|recipe|dataset|benchmark|testset)(id|name)?s?"
)
_SIDES = (
    *(("1", "2"), ("0", "1"), ("a", "b"), ("x", "y"), ("left", "right"), ("l", "r")),
    *(("first", "second"), ("probe", "gallery"), ("probe", "reference"), ("query", "reference")),
    *(("reference", "probe"), ("enroll", "verif"), ("enroll", "probe"), ("source", "target")),
)
_SIDE = re.compile(
    "(image|img|im|face|photo|picture|pic|sample|template|templ|video|input|person)?"
    "(path|file|filename|filepath|name|key|id|url|no|number)?s?|p|f"
)
_NAME = re.compile(r"[^\W\d][^/\\]*\Z")


def is_header(fields: Sequence[str]) -> bool:
    """Whether a first line names columns: words, none of them a path, or numbers from 0 on."""
    numbered = [str(n) for n in range(len(fields))]
    if fields == numbered or fields == ["", *numbered[:-1]]:
        return True
    named = [field for field in fields if field]
    return bool(named) and all(
        _NAME.match(f) and not f.lower().endswith(IMAGES) and f.lower() not in MISSING
        for f in named
    )


def roles_of(head: Sequence[str], second: Sequence[str], wanted: set[str]) -> tuple[str, ...]:
    """Roles that the names of a header say; "-" for the others."""
    words = [word(name) for name in head]
    meant = {name: role for role in wanted for name in _NAMES.get(role, "").split()}
    roles = [meant.get(word, "-") for word in words]
    roles = [role if roles.count(role) == 1 else "-" for role in roles]
    if "left" in wanted and (sides := _sides(words, second)) is not None:
        roles[sides[0]], roles[sides[1]] = "left", "right"
    return tuple(roles)


def place_of(role: str, head: Sequence[str]) -> int:
    """Place of the column that is called by a role, by its likeliest name; -1 where none is."""
    words = [word(name) for name in head]
    return next((words.index(name) for name in _NAMES[role].split() if name in words), -1)


def names_rows(name: str) -> bool:
    """Whether a column, or an array, is called as what names each row of vectors."""
    return _KEY.fullmatch(word(name)) is not None


def names_vectors(name: str) -> bool:
    """Whether a column, or an array, is called as vectors are."""
    return _VECTORS.fullmatch(word(name)) is not None


def names_points(name: str) -> bool:
    """Whether columns are called as what a detector finds: a box, its points, a pose."""
    return _POINTS.fullmatch(word(name)) is not None


def names_scores(name: str) -> bool:
    """Whether a column is called as what says how alike, or how far apart, two faces are."""
    return word(name) in (*_NAMES["score"].split(), "dissimilarity", "difference")


def names_models(name: str) -> bool:
    """Whether a column is called as what tells several networks' lines apart."""
    return _MODELS.fullmatch(word(name)) is not None


def stands_beside(name: str) -> bool:
    """Whether a column is called as a number that stands beside vectors: a score, a label, an age.

    >>> [stands_beside(name) for name in ("det_score", "fold", "yaw", "a", "y")]
    [True, True, True, False, False]
    """
    spelled = word(name)
    roles = " ".join(_NAMES[role] for role in ("label", "fold", "score")).split()
    called = len(spelled) > 1 and spelled in roles
    return called or names_points(name) or _ASIDE.fullmatch(spelled) is not None


def _sides(words: Sequence[str], second: Sequence[str]) -> tuple[int, int] | None:
    """Columns of the two images of a pair: "img1" and "img2", "left_path" and "right_path".

    Of several those whose cells look like paths; None where that leaves not one pair.
    """
    pairs: list[tuple[int, int]] = []
    for one, two in _SIDES:
        for i, word in enumerate(words):
            for stem, other in (
                (word.removesuffix(one), word.removesuffix(one) + two),
                (word.removeprefix(one), two + word.removeprefix(one)),
            ):
                if stem != word and _SIDE.fullmatch(stem) and other in words:
                    pairs.append((i, words.index(other)))
    pairs = list(dict.fromkeys(pairs))
    paths = [p for p in pairs if all(is_path(second[c]) for c in p if c < len(second))]
    chosen = paths or pairs
    return chosen[0] if len(chosen) == 1 else None


def is_path(cell: str) -> bool:
    """Whether a cell looks like the path of an image."""
    return "/" in cell or "\\" in cell or cell.lower().endswith(IMAGES)


def word(text: str) -> str:
    """Spell a name or a label without case, blanks and signs; a number as it is."""
    if re.fullmatch(r"[+-]?[\d.]+", text):
        return text
    return re.sub(r"[\W_]+", "", text.casefold())
