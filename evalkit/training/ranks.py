"""The processes of a distributed training, which share out the images and agree on the result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

from evalkit.embedding.passes import Embedded, Passes
from evalkit.errors import EvalkitError, ModelError

Made = TypeVar("Made")


class Ranks:
    """The ranks of `torch.distributed`, or this process alone where that is not set up.

    timeout : seconds after which a rank that does not answer is given up.
    They talk in a group of their own over gloo, by the processor, whatever the training uses. Each
    of them makes one, and calls the same methods in the same order.
    """

    def __init__(self, timeout: float) -> None:
        self.rank, self.size, self._timeout, self._group = 0, 1, timeout, None
        torch = sys.modules.get("torch")
        if torch is None or not torch.distributed.is_available():
            return
        if torch.distributed.is_initialized():
            self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()
            kept = timedelta(seconds=timeout)
            self._group = torch.distributed.new_group(backend="gloo", timeout=kept)

    def share(
        self, embed: Callable[[Passes], Iterator[Embedded]], passes: Passes
    ) -> Iterable[Embedded]:
        """Embed each pass once, on one of the ranks; all of them get all the vectors."""
        own = self.gather(lambda: list(embed(passes[self.rank :: self.size])))
        return [one for part in own for one in part]

    def gather(self, make: Callable[[], Made]) -> list[Made]:
        """Give every rank what each of them makes; what one raises, all raise."""
        if self._group is None:
            return [make()]
        attempts: list[Any] = [None] * self.size
        self._waited("all_gather_object", attempts, _attempted(make))
        return [self._unwrapped(one, rank) for rank, one in enumerate(attempts)]

    def of_first(self, make: Callable[[], Made]) -> Made:
        """Give every rank what the first of them makes; the others make nothing."""
        if self._group is None:
            return make()
        attempts: list[Any] = [_attempted(make) if self.rank == 0 else None]
        self._waited("broadcast_object_list", attempts, src=0)
        value: Made = self._unwrapped(attempts[0], 0)
        return value

    def _waited(self, name: str, *given: Any, **options: Any) -> None:
        """Call a collective function of torch; ModelError where a rank has ended or hangs."""
        try:
            call = getattr(sys.modules["torch"].distributed, name)
            call(*given, group=self._group, **options)
        except RuntimeError as e:
            raise ModelError(
                f"rank {self.rank} waited for another rank, which has ended, or did not answer "
                f"within {self._timeout:g} s",
                "what the other rank printed says why; timeout= is how long to wait",
            ) from e

    def _unwrapped(self, attempt: tuple[Any, EvalkitError | None], rank: int) -> Any:
        value, error = attempt
        if error is None:
            return value
        if rank == self.rank:
            raise error
        raise ModelError(f"rank {rank}: {error.message}", error.hint)


def _attempted(make: Callable[[], Made]) -> tuple[Made | None, EvalkitError | None]:
    try:
        return make(), None
    except EvalkitError as e:
        return None, e
    except Exception as e:  # the other ranks must not wait for one that failed
        return None, ModelError(f"{type(e).__name__}: {e}")
