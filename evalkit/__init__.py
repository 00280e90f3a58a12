"""evalkit measures face recognition: a model or its embeddings in, exactly defined numbers out."""

from pathlib import Path as _Path

__version__ = "0.1.0"

# A wheel installs protocols/ and adapters/ inside this package.  In a source checkout they are
# its siblings, so the checkout itself joins the package's search path.
_here = _Path(__file__).resolve().parent
if not (_here / "protocols").is_dir():  # pragma: no cover
    __path__.append(str(_here.parent))
