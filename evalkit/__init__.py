"""evalkit measures face recognition: a model or its embeddings in, exactly defined numbers out."""

from evalkit import moved as _moved

__version__ = "0.1.0"

_moved.install()
