"""Dask workers: pieces of a job run on other processes and machines.

Dask starts and restarts workers, places pieces, and repeats those of a worker that ended.  A job is
any picklable function of one piece.  Rows, jobs and results go through files below the cache
(`$EVALKIT_CACHE`), which every worker must see under the same path, never through the scheduler.  A
piece's result is the same wherever and however often it is made, and whoever asked takes it once,
so no number depends on the workers.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import pickle
import re
import shutil
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from evalkit import __version__
from evalkit.errors import DataError, EvalkitError, MissingPackageError
from evalkit.files import cache_folder, lock, whole_file
from evalkit.protocols.allpairs.rows_on_disk import Mapped

_RETRIES = 2  # of a piece that raised: a shared disk may fail for a moment
_MALLOC = {"MALLOC_TRIM_THRESHOLD_": 1 << 27, "MALLOC_MMAP_THRESHOLD_": 1 << 25}  # bytes
_JOIN_S = 30  # to wait for a scheduler and its first worker


class Cluster:
    """Workers of Dask, started or joined when the first piece is to be done; close it with `with`.

    where : "local", one worker for each GPU, or without any for each processor; "local:N", N
    workers; else the address of a scheduler, such as "tcp://node1:8786".
    """

    def __init__(self, where: str) -> None:
        if not (find_spec("distributed") and find_spec("cryptography")):
            raise MissingPackageError("distributed and cryptography", "cluster", "--cluster")
        self.where = where
        self._placed: dict[int, tuple[Any, NDArray[Any]]] = {}
        self._lock: IO[bytes] | None = None
        self._closing: list[Any] = []
        self._numbers = itertools.count()

    def place(self, x: NDArray[Any]) -> NDArray[Any]:
        """Map rows from a file that workers can map too: their own, or a copy in the cache."""
        if Mapped.of(x) is not None:
            return x
        if id(x) not in self._placed:  # x is kept beside its map, so no other array gets its id
            path = self._folder / f"{next(self._numbers)}.npy"
            with whole_file(path) as f:
                np.save(SimpleNamespace(write=f.write), x)  # to a file, it hides why it failed
            self._placed[id(x)] = x, np.load(path, mmap_mode="r")
        return self._placed[id(x)][1]

    def run(
        self, job: Callable[[Any], Any], items: Mapping[int, Any]
    ) -> Generator[tuple[int, Any]]:
        """Call a picklable job with every item on the workers: (number, result) as they come.

        An error of evalkit's ends it at once; a piece that raises anything else is tried again.
        """
        client = self._client
        import cloudpickle
        from distributed import KilledWorker, as_completed

        job_path = self._folder / f"{next(self._numbers)}.job"
        try:
            with whole_file(job_path) as f:
                cloudpickle.dump((__version__, job), f)
        except (TypeError, pickle.PicklingError) as e:
            raise DataError(
                f"the job cannot be sent to the workers: {e}", "leave --cluster out"
            ) from e
        futures = {}
        try:
            for n, item in items.items():
                path = job_path.with_suffix(f".{n}")
                arguments = str(job_path), item, str(path)
                future = client.submit(
                    _piece, *arguments, key=str(path), pure=False, retries=_RETRIES
                )
                futures[future] = n, path
            for future in as_completed(futures):
                number, path = futures[future]
                if future.status in ("error", "cancelled"):
                    future.result()
                # What has been written stays, whether its worker still lives or not.
                done, result = pickle.loads(path.read_bytes())  # noqa: S301 - our own worker's
                if not done:
                    raise EvalkitError(*result)
                yield number, result
                path.unlink(missing_ok=True)
                future.release()
        except KilledWorker as e:
            raise DataError(
                f"every worker that took one piece ended: {e}",
                "see the workers' logs; is their memory enough?",
            ) from e
        except CancelledError as e:
            raise DataError(
                f"the scheduler at {self.where} is gone",
                "run the same command again; it goes on from its --checkpoint or feature file",
            ) from e
        finally:
            client.cancel(list(futures), force=True)
            job_path.unlink(missing_ok=True)
            with suppress(OSError):
                client.run(_forget, wait=False)

    @functools.cached_property
    def _client(self) -> Any:
        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost is done again
        if self.where.partition(":")[0] != "local":
            try:
                client = Client(self.where, timeout=_JOIN_S)
            except (OSError, ValueError) as e:
                raise DataError(f"no scheduler answers at {self.where}: {e}") from e
            self._closing = [client]
            try:
                client.wait_for_workers(1, timeout=_JOIN_S)
            except TimeoutError as e:
                raise DataError(
                    f"no worker has joined the scheduler at {self.where}",
                    f"start some: dask worker {self.where} --nthreads 1 --memory-limit 0",
                ) from e
            return client
        started = _start(self.where, self._folder)
        client = Client(started, security=started.security)
        self._closing = [client, started]
        return client

    @functools.cached_property
    def _folder(self) -> Path:
        """Make a folder of this run's own in the cache, and remove those of runs that are over."""
        home = cache_folder() / "cluster"
        home.mkdir(parents=True, exist_ok=True)
        for held in home.glob("*.lock"):
            with suppress(OSError), held.open("r+b") as f:
                lock(f.fileno())
                shutil.rmtree(held.with_suffix(""), ignore_errors=True)
                held.unlink()
        folder = home / uuid.uuid4().hex
        self._lock = folder.with_suffix(".lock").open("w+b")
        with suppress(OSError):  # without locks, the folder of a killed run stays
            lock(self._lock.fileno())
        folder.mkdir(mode=0o700)
        return folder

    def close(self) -> None:
        """Let the workers go, end those that were started, and remove what lay in the cache."""
        for each in self._closing:
            with suppress(OSError):
                each.close()
        if self._lock is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._lock.close()
            self._folder.with_suffix(".lock").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def gpus() -> list[str]:
    """Name the GPUs that workers here can use, as CUDA_VISIBLE_DEVICES names them.

    None where neither torch nor ONNX Runtime is built for them.
    """
    from evalkit.adapters.gpus import driver

    count = len(driver().gpus)  # of those that CUDA_VISIBLE_DEVICES lets through
    if not count or not _built_for_gpus():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(k) for k in range(count)] if named is None else named.split(",")[:count]


def _built_for_gpus() -> bool:
    if find_spec("torch"):
        import torch

        if torch.version.cuda:
            return True
    if not find_spec("onnxruntime"):
        return False
    from evalkit.adapters.onnx import session

    return session.CUDA in session.import_onnxruntime().get_available_providers()


def _start(where: str, folder: Path) -> Any:
    """Start a scheduler and workers here, a GPU each; they answer to nobody without this run's key.

    Dask gives a worker one thread for products; evalkit bounds its own memory, in which mapped
    features do not count, so Dask's limit is off.
    """
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from distributed.security import Security

    dask.config.set(
        {
            # Else a worker just starting again, 15 s after another end of it, is given up for good.
            "distributed.deploy.lost-worker-timeout": "1000 days",
            "distributed.worker.profile.enabled": False,
            # Dask gives memory back at every chance: half of a worker's time went to asking again.
            **{f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in _MALLOC.items()},
        }
    )
    devices = gpus()
    some = re.fullmatch(r"local:(\d+)", where)
    n = int(some[1]) if some else len(devices) or len(os.sched_getaffinity(0))
    common = {
        "security": Security.temporary(),
        "protocol": "tls://",
        "host": "127.0.0.1",
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",  # Dask serves its health there all the same
    }
    worker = {
        "nthreads": 1,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "local_directory": str(folder),
        **common,
    }
    workers = {}
    for k in range(n):
        env = {"CUDA_VISIBLE_DEVICES": devices[k % len(devices)]} if devices else {}
        workers[k] = {"cls": Nanny, "options": {**worker, "env": env}}
    return SpecCluster(
        workers=workers,
        scheduler={"cls": Scheduler, "options": {"port": 0, **common}},
        security=common["security"],
        silence_logs=logging.CRITICAL,
    )


@functools.lru_cache(maxsize=2)
def _job(path: str) -> Callable[[Any], Any]:
    """Read a job, once in a worker's life."""
    try:
        with Path(path).open("rb") as f:
            version, job = pickle.load(f)  # noqa: S301 - of the run that asked for this piece
    except FileNotFoundError as e:
        raise DataError(
            f"a worker cannot read {path}", "EVALKIT_CACHE must name a folder every worker sees"
        ) from e
    if version != __version__:
        raise DataError(f"a worker has evalkit {__version__}, not {version}")
    function: Callable[[Any], Any] = job
    return function


def _piece(job: str, item: Any, path: str) -> None:
    """Do one piece in a worker: (True, result) to a file, or (False, what evalkit raised)."""
    try:
        outcome: tuple[bool, Any] = True, _job(job)(item)
    except EvalkitError as e:
        outcome = False, (e.message, e.hint)
    with whole_file(Path(path)) as f:
        pickle.dump(outcome, f, protocol=pickle.HIGHEST_PROTOCOL)


async def _forget() -> None:  # what is not waited for must be a coroutine
    """Drop the jobs, so that files they map can go."""
    _job.cache_clear()
