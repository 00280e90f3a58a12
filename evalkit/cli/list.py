"""`evalkit list`: what can be measured, by which protocol, with which data."""

from __future__ import annotations

from dataclasses import dataclass

import click


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
        "CFP, AgeDB, CALFW, CPLFW, XQLFW, RFW: from their authors' pages",
        "the set's own paper; folds as its list has them",
    ),
    Listed(
        "megaface",
        "rank-k and TPR@FAR among up to 1,000,000 distractors",
        "embeddings of the probes and distractors, and the devkit's lists",
        "the MegaFace devkit; no longer handed out by its authors",
        "Kemelmacher-Shlizerman et al., CVPR 2016",
    ),
    Listed(
        "verify",
        "accuracy, AUC, EER, TPR@FAR on any list of pairs",
        "the list (CFP, AgeDB, CALFW, CPLFW, XQLFW, RFW, .bin, your own); a model or embeddings",
        "each data set's own site",
        "LFW's protocol; folds from the list where it has them",
    ),
    Listed(
        "ijb",
        "TPR@FAR of template pairs, rank-k and TPIR@FPIR of two galleries",
        "embeddings of the images, and the meta files",
        "IJB-B and IJB-C; no longer handed out by NIST",
        "Whitelam et al., CVPRW 2017; Maze et al., ICB 2018",
    ),
    Listed(
        "blufr",
        "verification rate and open-set DIR on all of LFW, mu - sigma of ten trials",
        "embeddings of all 13,233 images, and the benchmark's .mat configuration",
        "the BLUFR toolkit of its authors",
        "Liao, Lei, Yi, Li, IJCB 2014",
    ),
    Listed(
        "trillion",
        "TPR@FAR down to 1e-9, TPIR@FPIR",
        "embeddings of probes and distractors, and who they show; evalkit synth makes some",
        "DeepGlint's Trillion Pairs; its site is gone, its identities were never public",
        "Trillion Pairs, 2018; ICCV 2019 LFR challenge",
    ),
    Listed(
        "demo",
        "LFW, all 87.5 million pairs of it, closed-set rank-k",
        "nothing",
        "ships with evalkit",
        "-",
    ),
)


@click.command("list")
def command() -> None:
    """List the protocols: what each measures, needs and follows."""
    for p in PROTOCOLS:
        click.echo(f"evalkit {p.command}")
        for name in ("measures", "needs", "where", "source"):
            click.echo(f"    {name:<9} {getattr(p, name)}")
