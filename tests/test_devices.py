"""One model on several devices: who calls it, and how many at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import one_caller
import pytest

from evalkit.adapters.devices import OnDevices

pytestmark = pytest.mark.once


@pytest.mark.parametrize(("device", "allowed"), [("one", 1), ("two", 2)])
def test_a_device_has_as_many_callers_as_its_adapter_allows(device: str, allowed: int) -> None:
    model = OnDevices(one_caller.on, [device])
    assert model.streams == allowed
    images = np.zeros((1, 2, 2, 3), np.uint8)
    with ThreadPoolExecutor(4) as threads:
        most = [int(rows[0, 0]) for rows in threads.map(model.embed, [images] * 12)]
    assert max(most) == allowed
