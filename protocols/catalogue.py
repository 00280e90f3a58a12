"""The catalogue of protocols: one record each, evalkit's own and those of installed packages.

A package adds a `Protocol` under the entry-point group `evalkit.protocols`, called as its `name`
(docs/protocols/README.md); what else one of evalkit's own needs is said in CONTRIBUTING.  Reading
the catalogue imports neither numpy nor any protocol, so that the command line shows it at once.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evalkit.errors import EvalkitError, ProtocolError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from evalkit.types import Report

GROUP = "evalkit.protocols"
KEYWORDS = {
    "flip": "none",
    "seed": 0,
    "progress": None,
    "engine": None,
    "keys": None,
    "images": None,
    "set_name": None,
}
_ASK = "update or uninstall the package that offers it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What a newcomer, the command line, the documents and a caller have to know of a protocol.

    name : in Python and in reports.  command : of the command line, "" for the same.
    title : one line of `evalkit --help`.  summary : what it measures.  needs : what of.  where : to
    get the data.  source : who defined it.  page : where it is documented, of evalkit's own a file
    in docs/protocols.
    function : "module:function" that makes a `Report` of `version`, imported when it is called.
    compares : its positional arguments: "pairs" for (features, pairs, subject), "subjects" for
    (features, subject), "" for others of its own.

    After keywords of its own, every function ends in those of these that it has a use for, in this
    order and with these defaults (`KEYWORDS`); the last three it always has.
    flip="none" : how the views of an image, (N, V, D), become one vector (`flip_fusion.fuse`).
    seed=0 : of the people drawn for intervals, which name it.
    progress=None : called with (pairs done, pairs in all), anew for each pass over all pairs.
    engine=None : how all pairs are run (`allpairs.Engine`); no number depends on it.
    keys=None, images=None, set_name=None : names of the rows, (N, 32) uint8 SHA-256 of their
    images, name of the set, where known: what tells these comparisons from others
    (`identity.of_rows`).
    """

    name: str
    version: int
    title: str
    summary: str
    needs: str
    where: str
    source: str
    page: str
    function: str
    compares: Literal["pairs", "subjects", ""] = ""
    command: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "command", self.command or self.name)

    def evaluate(self, *arguments: Any, **options: Any) -> Report:
        """Import the protocol's function and call it.

        What another package's function raises is a ProtocolError that names it, in one line.
        """
        module, _, name = self.function.partition(":")
        report: Report
        try:
            report = getattr(importlib.import_module(module), name)(*arguments, **options)
        except (EvalkitError, MemoryError):
            raise
        except Exception as e:
            if module.startswith("evalkit."):
                raise
            failed = f"plug-in protocol {self.name!r} failed: {type(e).__name__}: {e}"
            raise ProtocolError(failed, f"it was raised by {self.function}") from e
        return report


def _own(name: str, **about: Any) -> Protocol:
    """Record one of evalkit's own: of version 1, its module and its page called as it is."""
    function = f"evalkit.protocols.{name.replace('-', '_')}:evaluate"
    usual: dict[str, Any] = {"version": 1, "page": f"{name}.md", "function": function}
    return Protocol(name=name, **usual | about)


OWN = (
    _own(
        "lfw",
        title="Labeled Faces in the Wild: 10-fold verification.",
        summary="10-fold accuracy, AUC, EER, TPR@FAR on 6,000 pairs",
        needs="a model: images are fetched; or embeddings of 7,701 images",
        where="github.com/umass-vis-lfw; the list of pairs ships with evalkit",
        source="Huang et al., UMass TR 07-49, 2007",
        compares="pairs",
    ),
    _own(
        "verification",
        command="verify",
        title="Any list of pairs: CFP, AgeDB, CALFW, .bin sets, your own.",
        summary="the same on any list of pairs, with or without folds",
        needs="a list (or .bin, bcolz, .mat) and a model with images, or embeddings",
        where="www.cfpw.io (CFP); ibug.doc.ic.ac.uk/resources/agedb; whdeng.cn (CALFW, CPLFW, "
        "RFW); martlgap.github.io/xqlfw",
        source="the set's own paper; folds as its list has them",
        page="verify.md",
        compares="pairs",
    ),
    _own(
        "megaface",
        title="Find a face among up to a million others.",
        summary="rank-k and TPR@FAR among up to 1,000,000 distractors",
        needs="the devkit's lists; its feature folders, other embeddings, or the images and a "
        "model",
        where="InsightFace's dataset zoo (test suite); its authors hand it out no longer",
        source="Kemelmacher-Shlizerman et al., CVPR 2016",
    ),
    _own(
        "trillion",
        title="Probes against millions of faces, FAR to 1e-9.",
        summary="TPR@FAR down to 1e-9, TPIR@FPIR",
        needs="embeddings (evalkit synth makes some) or images and a model, and who they show",
        where="DeepGlint's Trillion Pairs; its site is gone, its identities were never public",
        source="Trillion Pairs, 2018; ICCV 2019 LFR challenge",
        compares="subjects",
    ),
    _own(
        "ijb",
        title="IJB-B and IJB-C: templates, 1:1 and 1:N.",
        summary="TPR@FAR of template pairs, rank-k and TPIR@FPIR of two galleries",
        needs="the meta files, and embeddings of the images, or the images and a model",
        where="InsightFace's dataset zoo (test suite); NIST hands them out no longer",
        source="Whitelam et al., CVPRW 2017; Maze et al., ICB 2018",
    ),
    _own(
        "ijba",
        title="IJB-A: ten splits of templates, 1:1 and 1:N.",
        summary="TPR@FAR of template pairs, rank-k and TPIR@FPIR, mean of ten splits",
        needs="NIST's CSVs, and embeddings of the faces, or crops of them and a model",
        where="NIST hands it out no longer; some splits' CSVs are on GitHub",
        source="Klare et al., CVPR 2015",
        function="evalkit.protocols.ijb.splits:evaluate",
    ),
    _own(
        "blufr",
        title="All of LFW, ten trials: mu - sigma.",
        summary="verification rate and open-set DIR on all of LFW, mu - sigma of ten trials",
        needs="embeddings of all 13,233 images, or the images and a model; the .mat configuration",
        where="the toolkit of its authors; github.com/zch-90/face_recognition_evalation",
        source="Liao, Lei, Yi, Li, IJCB 2014",
    ),
    _own(
        "ytf",
        title="YouTube Faces: 10-fold verification of videos.",
        summary="10-fold accuracy, AUC, EER, TPR@FAR on 5,000 pairs of videos",
        needs="splits.txt, and embeddings of the frames, or the frames and a model",
        where="www.cs.tau.ac.il/~wolf/ytfaces",
        source="Wolf, Hassner, Maoz, CVPR 2011",
    ),
    _own(
        "people",
        title="Your own people: how good, and which threshold to deploy?",
        summary="TPR@FAR, EER, AUC of all pairs, rank-1, rank-5, TPIR@FPIR, doubtful labels",
        needs="a folder of people, a folder each, and a model; or embeddings of them",
        where="your own; evalkit demo ships embeddings of LFW",
        source="ISO/IEC 19795-1; Phillips, Grother, Micheals, Handbook of Face Recognition, 2005",
        compares="subjects",
    ),
    _own(
        "search",
        title="A gallery and probes of your own: TinyFace, SCface, LFW's 1:N.",
        summary="rank-k of a gallery, with distractors or without, and TPIR@FPIR",
        needs="lists of a gallery and of probes, and embeddings of them, or the images and a model",
        where="qmul-tinyface.github.io; www.scface.org; FG-NET; LFW's lists ship with evalkit",
        source="ISO/IEC 19795-1; Best-Rowden et al., TIFS 2014; Cheng, Zhu, Gong, ACCV 2018",
    ),
    _own(
        "geometry",
        title="How the classes of embeddings lie in space.",
        summary="distances within and between classes, norms, regions, spectrum, hubness",
        needs="embeddings of any images, and who they show (--subjects, or keys PERSON/IMAGE)",
        where="any embeddings; evalkit demo ships some of LFW",
        source="the survey of docs/published-figures.md; Roy and Vetterli, EUSIPCO 2007",
        compares="subjects",
    ),
    _own(
        "quality",
        title="Image quality against error: what discarding poor images gains.",
        summary="FNMR by share discarded (EDC), partial area, paired test of two qualities",
        needs="a pair list, embeddings or a model; a quality of each image, or its vector's norm",
        where="any quality tool's numbers in a CSV; vector norms need none",
        source="Grother and Tabassi, PAMI 2007; ISO/IEC 29794-1:2024",
        compares="pairs",
    ),
    _own(
        "score",
        title="Numbers of plain scores: a label and a score per line.",
        summary="AUC, EER, TPR@FAR, best accuracy; 10-fold accuracy where folds are given",
        needs="a text file of 'label score' lines; the pair list for intervals by people",
        where="any program that compares faces",
        source="ISO/IEC 19795-1; Clopper and Pearson, Biometrika 1934",
    ),
    _own(
        "all-vs-all",
        command="demo",
        title="See it work: real embeddings, offline, in seconds.",
        summary="LFW, all 87.5 million pairs of it, closed-set rank-k",
        needs="nothing",
        where="ships with evalkit",
        source="LFW and closed-set CMC, as above; docs/protocols/all-vs-all.md",
        compares="subjects",
    ),
)


def installed() -> dict[str, EntryPoint]:
    """Entry points of other packages' protocols, by name; none of them is imported."""
    from importlib.metadata import entry_points

    own = {name for p in OWN for name in (p.name, p.command)}
    return {e.name: e for e in entry_points(group=GROUP) if e.name not in own}


def load(entry: EntryPoint) -> Protocol:
    """Import another package's record; ProtocolError in one line where it is broken or none."""
    try:
        record = entry.load()
    except (Exception, SystemExit) as e:
        kind = f"{type(e).__name__}: {e}"
        raise ProtocolError(f"plug-in protocol {entry.name!r} does not load: {kind}", _ASK) from e
    if not isinstance(record, Protocol) or record.name != entry.name:
        raise ProtocolError(
            f"plug-in protocol {entry.name!r}: {entry.value} is not a Protocol of that name", _ASK
        )
    return record


def find(name: str) -> Protocol:
    """Record of the protocol called `name`, in Python or on the command line; or ProtocolError."""
    for record in OWN:
        if name in (record.name, record.command):
            return record
    others = installed()
    if name in others:
        return load(others[name])
    known = ", ".join([*(record.name for record in OWN), *others])
    raise ProtocolError(f"no protocol is called {name!r}", f"known: {known}")
