"""The options that say where a protocol's vectors come from, and how they become scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from evalkit import run
from evalkit.adapters import Adapter
from evalkit.adapters.presets import PRESETS, describe
from evalkit.cli import spec_trial
from evalkit.cli.model_options import EmbeddingChoice, model_options
from evalkit.cli.options import features_options, flip_option, received_as, rows_option
from evalkit.cli.terminal import say
from evalkit.datasets import pair_list_layouts
from evalkit.identity import file_digest
from evalkit.images import ImageSource
from evalkit.images.landmarks import Landmarks
from evalkit.protocols import recipes
from evalkit.protocols.blas import can_be_one_thread
from evalkit.protocols.metrics.flip_fusion import Flip
from evalkit.protocols.recipes.published import RECIPES
from evalkit.protocols.recipes.recipe import Recipe
from evalkit.types import InputSpec, Manifest
from evalkit.vectors import hdf5, matching
from evalkit.vectors.matching import Vectors
from evalkit.vectors.store import FeatureStore

if TYPE_CHECKING:
    from evalkit.cluster import Cluster

ALL = "all"


@dataclass(frozen=True, slots=True)
class VectorSource:
    """A model and its images, or a file of embeddings; and the recipe that scores them.

    recipe_name : what --recipe says, ALL included.  how : that recipe, its fusion that of --flip
    where given; without --recipe, evalkit's own way, which has no name.
    """

    choice: EmbeddingChoice
    features: Path | None
    keys: Path | None
    allow_failures: bool
    recipe_name: str | None
    how: Recipe

    @property
    def name(self) -> str:
        """What the vectors come from, for a title."""
        return Path(self.choice.model.model or str(self.features)).name

    @property
    def recipe(self) -> Recipe | None:
        """The published recipe that was asked for."""
        return self.how if self.how.name else None

    def vectors(
        self,
        manifest: Manifest | None,
        images: ImageSource | None = None,
        of_set: Landmarks | None = None,
        cluster: Cluster | None = None,
        numbered: bool = False,
    ) -> Vectors:
        """Take the vectors of a manifest (None: all) from the file, or embed its images.

        images : that hold them, None for those of --data.  of_set : landmarks that come with them.
        numbered : rows of the file need no names.
        """
        if self.features is not None:
            return self._read(self.features, manifest, numbered)
        adapter = self.choice.model.if_declared()
        source = self.choice.images.find() if images is None else images
        return self.embed(adapter, source, manifest or source.manifest(), of_set, cluster)

    def _read(self, path: Path, manifest: Manifest | None, numbered: bool) -> Vectors:
        vectors = matching.from_embeddings(
            path, self.keys, manifest, allow_failures=self.allow_failures, numbered=numbered
        )
        provenance = input_provenance(self.recipe, path)
        if "rows" in vectors.provenance:
            say(f"rows {vectors.provenance['rows']}")
        say_type(vectors.features, path)
        if "features_columns" in vectors.provenance:
            say(f"{path.name}: columns {vectors.provenance['features_columns']}")
        if "names" in vectors.provenance:
            say(f"warning: {path.name} is matched {vectors.provenance['names']}")
        views = vectors.features.shape[1] if vectors.features.ndim == 3 else 1
        if views > 1 and self.how.fusion == "none" and not self.how.name and not flip_given():
            say(
                f"warning: {path.name} holds {views} views per image and the first "
                "alone is taken: --flip sum or concat fuses them, --flip none is this"
            )
        return vectors.with_provenance(provenance)

    def embed(
        self,
        adapter: Adapter | None,
        images: ImageSource,
        manifest: Manifest,
        of_set: Landmarks | None = None,
        cluster: Cluster | None = None,
    ) -> Vectors:
        """Embed the manifest's images, and their mirror images where these are fused.

        adapter : None where nothing declares how the model is fed; then it is tried on the images.
        """
        choice = self.choice
        if adapter is None:
            adapter, choice = spec_trial.by_trial(choice, images, manifest, of_set)
        provenance = input_provenance(self.recipe, adapter.spec)
        views = 1 if self.how.fusion == "none" else 2
        store = choice.embed(adapter, images, manifest, views, of_set=of_set, cluster=cluster)
        made = matching.embedded(store, manifest, adapter.spec.crop)
        if choice.found:
            provenance["spec"] = choice.found
        if choice.recalled:
            vectors = made.provenance.get(matching.CACHE, "")
            provenance[matching.CACHE] = "; ".join(
                filter(None, [vectors, "input spec found earlier"])
            )
        marks = choice.images.landmarks
        if marks is not None:
            provenance["landmarks"] = f"{marks.name} sha256:{file_digest(marks)[:16]}"
            provenance["landmarks"] += ", mtcnn" if choice.images.order == "mtcnn" else ""
        return made.with_provenance(provenance)

    def without_folds(self, vectors: Vectors) -> Vectors:
        """Make vectors of one view, to be scored by the cosine, as --flip or the recipe says."""
        return replace(vectors, features=recipes.without_folds(self.how, vectors.features))


def vector_options(
    *more: str, data: bool = True, folds: bool = False, by_key: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of models and embeddings, `--flip` and `--recipe`; the command gets `source`.

    more : further values of --recipe.  data : a model needs --data.  folds : the protocol has some,
    so that a recipe can learn on them.  by_key : rows are found by name.
    """

    def source(
        choice: EmbeddingChoice,
        features: Path | None,
        flip: Flip,
        recipe_name: str | None,
        keys: Path | None = None,
        allow_failures: bool = False,
    ) -> VectorSource:
        one_of(choice, features, data=data)
        how = scoring(recipe_name, flip, folds=folds)
        return VectorSource(choice, features, keys, allow_failures, recipe_name, how)

    features_option = features_options if by_key else rows_option
    return received_as(
        "source", source, (flip_option, recipe_option(*more), features_option, model_options)
    )


layout_option = click.option(
    "--format",
    "set_format",
    type=click.Choice(pair_list_layouts.LAYOUTS),
    metavar="LAYOUT",
    help=f"Layout of PAIRS: {', '.join(pair_list_layouts.LAYOUTS)}.  [default: recognised]",
)


def of_pairs(
    source: VectorSource,
    pairs: Path,
    columns: Mapping[str, str] | None,
    cluster: Cluster | None,
    layout: str | None = None,
) -> tuple[run.Compared, Vectors]:
    """Read a list of pairs and take the vectors of its images; UsageError where none are given."""
    warn_if_slow(source.recipe_name)
    compared = run.read_pairs(pairs, layout, columns)
    data = source.choice.images.data
    within = compared.images if data is None else None
    if source.features is None and data is None and within is None:
        raise click.UsageError(f"{pairs.name} holds no images: add --data IMAGES")
    return compared, source.vectors(compared.manifest, within, cluster=cluster)


def say_type(features: Any, path: Path) -> None:
    """Say where vectors of a file are of a type of which NumPy has none."""
    for kind in matching.type_of(features, path).values():
        say(f"{path.name}: the features are {kind}")


def one_of(choice: EmbeddingChoice, features: Path | None, *, data: bool) -> None:
    """UsageError unless there is a model (with its images) or a file of embeddings, not both."""
    images = " and --data IMAGES" if data else ""
    if (choice.model.model is None) == (features is None):
        both = "both are given: " if features is not None else ""
        raise click.UsageError(
            f"{both}give --model MODEL{images}, or --features FILE with embeddings"
        )
    if features is None and data and choice.images.data is None:
        raise click.UsageError("give --data IMAGES")
    section, other = ("Model", "--model") if features is not None else ("Embeddings", "--features")
    if idle := _typed(section):
        verb, it = ("needs", "it has") if len(idle) == 1 else ("need", "they have")
        instead = "--model" if other == "--features" else "--features"
        raise click.UsageError(f"{', '.join(idle)} {verb} {other}; {it} no effect with {instead}")


def _typed(section: str) -> list[str]:
    """Options of a section of --help that are on the command line itself."""
    ctx = click.get_current_context()
    return [
        option.opts[0]
        for option in ctx.command.params
        if getattr(option, "section", "") == section
        and ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
    ]


def recipe_option(*more: str) -> Callable[..., Any]:
    """Add `--recipe NAME`; `more` are further values, such as "all"."""
    return click.option(
        "--recipe",
        "recipe_name",
        type=click.Choice([*RECIPES, *more]),
        metavar="NAME",
        help="Score and choose the threshold as this published system does: evalkit recipes.",
    )


def scoring(name: str | None, flip: Flip, *, folds: bool = False) -> Recipe:
    """Return the named recipe, its fusion replaced by --flip where that is given; or the plain way.

    folds : whether pairs of a list are compared.  UsageError for a recipe that needs those.
    """
    if name == ALL:
        return Recipe(fusion="sum")
    if name is None:
        return Recipe(fusion=flip)
    if (why := RECIPES[name].unfit) and not folds:
        able = ", ".join(n for n, r in RECIPES.items() if not r.unfit)
        raise click.UsageError(f"recipe {name!r} {why}; here go: {able}")
    return replace(RECIPES[name], fusion=flip) if flip_given() else RECIPES[name]


def flip_given() -> bool:
    """Whether the user said --flip, be it the default."""
    source = click.get_current_context().get_parameter_source("flip")
    return source is not ParameterSource.DEFAULT


def warn_if_slow(name: str | None) -> None:
    """Say how Joint Bayesian becomes quick where BLAS would take all threads for it."""
    learns = name == ALL or (name is not None and RECIPES[name].projection == "joint bayesian")
    if learns and not can_be_one_thread():
        say(
            "Joint Bayesian takes minutes where other work runs: on one thread it takes seconds; "
            "pip install 'face-evalkit[threads]', or set OMP_NUM_THREADS=1"
        )


def input_provenance(recipe: Recipe | None, images: InputSpec | Path) -> dict[str, str]:
    """Say for the report how its images were fed, beside what the recipe's system takes.

    images : what the model is fed, or the file of its features.  A difference is said on stderr;
    it is no error, since a recipe is there to be tried on other networks, and these decide what
    they are fed.  Of features computed elsewhere nobody knows.
    """
    if recipe is None:
        return {}
    if not recipe.input:
        return {"recipe_input": f"not stated by {recipe.name}"}
    wanted, fed = _text(PRESETS[recipe.input]), _text(images)
    if fed == wanted:
        return {"recipe_input": f"as {recipe.name} takes them: {wanted}"}
    if fed is None:
        return {"recipe_input": f"not known: features computed elsewhere; {recipe.name}: {wanted}"}
    say(
        f"warning: recipe {recipe.name!r} is of images {wanted}; these are fed as {fed}, "
        "so the figure is this model's by that recipe"
    )
    return {"recipe_input": f"not as {recipe.name} takes them: {fed}; {recipe.name}: {wanted}"}


def _text(images: InputSpec | Path) -> str | None:
    """Size, colour, scale and crop; the order of the axes changes no number."""
    if isinstance(images, InputSpec):
        return describe(replace(images, layout="nchw"))
    if images.is_dir() or not hdf5.is_feature_file(images):
        return None
    with FeatureStore.open(images) as store:
        spec = store.key.get("input spec")
    return None if spec is None else str(spec).replace(" nhwc,", " nchw,")
