import numpy as np
import pytest

from evalkit.errors import ProtocolError
from evalkit.types import Manifest


def manifest(*keys: str, subject: list[int] | None = None) -> Manifest:
    return Manifest(keys, np.array(subject or list(range(len(keys))), np.int32))


def test_the_digest_is_known() -> None:
    # printf 'a\nb\0\0\0\0\1\0\0\0' | sha256sum
    expected = "88cdaaaff2c04241cef5e1585d69deeb5d565722034b30f2a70c2b9be6db6058"
    assert manifest("a", "b").digest() == expected


@pytest.mark.parametrize(
    "other",
    [manifest("b", "a"), manifest("a", "c"), manifest("a", "b", subject=[0, -1]), manifest("a")],
)
def test_order_keys_and_subjects_are_in_the_digest(other: Manifest) -> None:
    assert other.digest() != manifest("a", "b").digest()


def test_two_rows_for_one_key_are_refused() -> None:
    with pytest.raises(ProtocolError, match="two rows for one key: 'b'"):
        manifest("a", "b", "c", "b")


def test_every_key_has_a_subject() -> None:
    with pytest.raises(ProtocolError, match=r"2 keys have subjects of shape \(3,\)"):
        Manifest(("a", "b"), np.zeros(3, np.int32))
