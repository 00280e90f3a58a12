"""`evalkit devices`: the processor and GPUs of this machine, and what can use them."""

from __future__ import annotations

from importlib.util import find_spec

from evalkit.adapters import calling, gpus
from evalkit.adapters.onnx import session
from evalkit.cli.options import new_command
from evalkit.cli.terminal import show
from evalkit.protocols.allpairs.screening import choice


@new_command("devices", "evalkit devices")
def command() -> None:
    """List the GPUs, what models and all pairs can run on them, and what is missing.

    Each is tried: a small model in ONNX Runtime, products whose answer is known in torch and
    Triton.
    """
    driver = gpus.driver()
    show(f"processor    {calling.cores()} cores")
    show(f"driver       {f'CUDA {driver.cuda}' if driver.cuda else 'none'}")
    for gpu in driver.gpus:
        show(f"cuda:{gpu.number:<8}{gpu.name}, {gpu.memory / 2**30:,.1f} GiB")
    if driver.problem:
        show(f"GPUs         none: {driver.problem}")
    for name, said in (
        ("onnxruntime", _onnxruntime()),
        ("torch", _torch()),
        ("all pairs", _all_pairs()),
    ):
        show(f"{name:<13}{said}")


def _onnxruntime() -> str:
    if not find_spec("onnxruntime"):
        return "not installed; for ONNX models: pip install 'face-evalkit[gpu]', or [onnx]"
    version = session.import_onnxruntime().__version__
    why = session.gpu_problem()
    return f"{version}, {f'on the processor: {why}' if why else 'on the GPU'}"


def _torch() -> str:
    if not find_spec("torch"):
        return "not installed; for torch models: pip install 'face-evalkit[torch]'"
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "for processors alone"
    seen = "on the GPU" if torch.cuda.is_available() else "on the processor: it sees no GPU"
    return f"{torch.__version__}, {built}, {seen}"


def _all_pairs() -> str:
    tried = {way: choice.problem(way) for way in choice.GPU_SCREENS}
    usable = [way for way, why in tried.items() if not why]
    reasons = list(dict.fromkeys(why for why in tried.values() if why))
    if not usable:
        return f"on the processor: {reasons[0]}"
    return ", ".join(usable) + (f"; not the others: {'; '.join(reasons)}" if reasons else "")
