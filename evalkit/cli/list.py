"""`evalkit list`: what can be measured, by which protocol, with which data."""

from __future__ import annotations

from dataclasses import dataclass

import click

from evalkit.cli.terminal import show


@dataclass(frozen=True, slots=True)
class Listed:
    """A protocol as a newcomer has to know it."""

    command: str
    measures: str
    needs: str
    where: str
    source: str


PROTOCOLS = (
    Listed(
        "lfw",
        "10-fold accuracy, AUC, EER, TPR@FAR on 6,000 pairs",
        "a model: images are fetched; or embeddings of 7,701 images",
        "github.com/umass-vis-lfw; the list of pairs ships with evalkit",
        "Huang et al., UMass TR 07-49, 2007",
    ),
    Listed(
        "verify",
        "the same on any list of pairs, with or without folds",
        "a list (or .bin, bcolz, .mat) and a model with images, or embeddings",
        "www.cfpw.io (CFP); ibug.doc.ic.ac.uk/resources/agedb; whdeng.cn (CALFW, CPLFW, RFW); "
        "martlgap.github.io/xqlfw",
        "the set's own paper; folds as its list has them",
    ),
    Listed(
        "megaface",
        "rank-k and TPR@FAR among up to 1,000,000 distractors",
        "the devkit's lists; its feature folders, other embeddings, or the images and a model",
        "InsightFace's dataset zoo (test suite); its authors hand it out no longer",
        "Kemelmacher-Shlizerman et al., CVPR 2016",
    ),
    Listed(
        "ijb",
        "TPR@FAR of template pairs, rank-k and TPIR@FPIR of two galleries",
        "the meta files, and embeddings of the images, or the images and a model",
        "InsightFace's dataset zoo (test suite); NIST hands them out no longer",
        "Whitelam et al., CVPRW 2017; Maze et al., ICB 2018",
    ),
    Listed(
        "blufr",
        "verification rate and open-set DIR on all of LFW, mu - sigma of ten trials",
        "embeddings of all 13,233 images, or the images and a model; the .mat configuration",
        "the toolkit of its authors; github.com/zch-90/face_recognition_evalation",
        "Liao, Lei, Yi, Li, IJCB 2014",
    ),
    Listed(
        "trillion",
        "TPR@FAR down to 1e-9, TPIR@FPIR",
        "embeddings (evalkit synth makes some) or images and a model, and who they show",
        "DeepGlint's Trillion Pairs; its site is gone, its identities were never public",
        "Trillion Pairs, 2018; ICCV 2019 LFR challenge",
    ),
    Listed(
        "geometry",
        "distances within and between classes, norms, regions, spectrum, hubness",
        "embeddings of any images, and who they show (--subjects, or keys PERSON/IMAGE)",
        "any embeddings; evalkit demo ships some of LFW",
        "the survey of docs/published-figures.md; Roy and Vetterli, EUSIPCO 2007",
    ),
    Listed(
        "score",
        "AUC, EER, TPR@FAR, best accuracy; 10-fold accuracy where folds are given",
        "a text file of 'label score' lines; the pair list for intervals by people",
        "any program that compares faces",
        "ISO/IEC 19795-1; Clopper and Pearson, Biometrika 1934",
    ),
    Listed(
        "demo",
        "LFW, all 87.5 million pairs of it, closed-set rank-k",
        "nothing",
        "ships with evalkit",
        "LFW and closed-set CMC, as above; docs/protocols/all-vs-all.md",
    ),
)


@click.command("list")
def command() -> None:
    """List the protocols: what each measures, needs and follows."""
    for p in PROTOCOLS:
        show(f"evalkit {p.command}")
        for name in ("measures", "needs", "where", "source"):
            show(f"    {name:<9} {getattr(p, name)}")
