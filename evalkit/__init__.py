"""evalkit measures face recognition: a model or its embeddings in, exactly defined numbers out."""

__version__ = "0.1.0"
