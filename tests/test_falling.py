"""Order by falling score."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evalkit.protocols.falling import falling_order

SCORES = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 0.25, 1.0, np.inf, np.nan]) | st.floats()


@given(st.lists(st.tuples(SCORES, st.integers(0, 2), st.integers(0, 2)), max_size=60))
def test_rows_stand_as_stable_sorts_put_them(rows):
    score, i, j = (
        (np.array(column) for column in zip(*rows, strict=True)) if rows else [np.empty(0)] * 3
    )
    assert np.array_equal(falling_order(score), np.argsort(-score, kind="stable"))
    assert np.array_equal(falling_order(score, i, j), np.lexsort((j, i, -score)))
