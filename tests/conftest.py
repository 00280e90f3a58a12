"""What several tests share."""

import os
from pathlib import Path

import pytest

_SHARED = Path(os.environ.get("EVALKIT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Find the real models, images, features and official outputs, or skip where absent."""
    if not _SHARED.is_dir():
        pytest.skip(f"no real data at {_SHARED} (set EVALKIT_SHARED_DATA)")
    return _SHARED
