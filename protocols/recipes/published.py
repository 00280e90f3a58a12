"""Recipes of published systems by name, each with its source and its assumptions."""

from __future__ import annotations

from evalkit.protocols.recipes.recipe import Recipe

_DEEPID = {
    "fusion": "concat",
    "projection": "joint bayesian",
    "unit_length": False,
    "score": "log-likelihood ratio",
}


_MARGIN = {"score": "-l2^2", "fusion": "sum", "threshold": "insightface"}


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe(
            name="softmax",
            source="the baseline of every paper below; no figure of its own",
            recalled="cosine, as the later papers score it",
        ),
        Recipe(
            name="euclidean",
            unit_length=False,
            score="-l2^2",
            source="the distance of vectors as they are, by which dlib and face_recognition decide",
            recalled="squared, which ranks pairs alike; the exact threshold is evalkit's",
        ),
        Recipe(
            name="deepid2",
            **_DEEPID,  # type: ignore[arg-type]
            dimensions=180,
            published=99.15,
            source="Sun et al., NIPS 2014 (the figure: its abstract); Chen et al., ECCV 2012",
            recalled="25 patches x 160-d side by side, PCA to 180, Joint Bayesian learned outside "
            "LFW: 98.97; 99.15 is an SVM over seven such sets, which is not part of this",
        ),
        Recipe(
            name="deepid2plus",
            **_DEEPID,  # type: ignore[arg-type]
            dimensions=180,
            published=99.47,
            source="Sun et al., CVPR 2015; no code published",
            recalled="25 patches side by side, Joint Bayesian; PCA to 180 is DeepID2's",
        ),
        Recipe(
            name="deepid3",
            **_DEEPID,  # type: ignore[arg-type]
            dimensions=300,
            published=99.53,
            source="Sun et al., arXiv 1502.00873; no code published",
            recalled="25 patches of two networks side by side, PCA to 300, Joint Bayesian",
        ),
        Recipe(
            name="facenet",
            fusion="concat",
            unit_views=True,
            unit_length=False,
            score="-l2^2",
            threshold="insightface",
            input="facenet",
            published=99.63,
            source="davidsandberg/facenet src/lfw.py, src/validate_on_lfw.py with flipped images",
            recalled="the figure is the paper's, whose model is private",
        ),
        Recipe(
            name="l-softmax",
            published=98.71,
            source="Liu et al., ICML 2016; its repository has no script for LFW",
            recalled="cosine; the exact threshold is evalkit's",
        ),
        Recipe(
            name="sphereface",
            fusion="concat",
            centring="training folds",
            threshold="sphereface",
            input="sphereface",
            published=99.42,
            source="wy1iu/sphereface test/code/evaluation.m",
        ),
        Recipe(
            name="center-loss",
            fusion="concat",
            projection="pca",
            dimensions=512,
            input="sphereface",
            published=99.28,
            source="ydwen/caffe-face face_example/extractDeepFeature.m (crop, views side by side)",
            recalled="PCA and cosine are the paper's; how many dimensions it keeps is not known, "
            "512 is assumed; the exact threshold is evalkit's",
        ),
        Recipe(
            name="center-invariant",
            source="Wu et al., 2017; published code is for MNIST only",
            recalled="cosine and everything else is assumed; no figure was found",
        ),
        Recipe(
            name="coco",
            source="sciencefans/coco_loss; no script for LFW",
            recalled="cosine of features made unit length, as the loss does",
        ),
        Recipe(
            name="insightface",
            **_MARGIN,  # type: ignore[arg-type]
            input="arcface",
            published=99.77,
            source="deepinsight/insightface recognition/arcface_torch/eval/verification.py",
        ),
        Recipe(
            name="lightcnn",
            figure="1 - eer",
            published=98.80,
            source="AlfredXiangWu/face_verification_experiment code/evaluation.m",
            recalled="images are 128 x 128, grey",
        ),
        Recipe(
            name="adaface",
            **_MARGIN,  # type: ignore[arg-type]
            input="adaface",
            published=99.82,
            source="mk-minchul/AdaFace train_val.py, evaluate_utils.py",
        ),
    )
}
