"""Chooses the device and the precision for this machine.

PyTorch is slow to import and not needed to run OpenVINO, so each function that uses it imports it.
"""

import os
import sys

# Device files of Linux drivers: NVIDIA, NVIDIA Jetson, AMD, WSL.
GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")


def has_gpu() -> bool:
    """Whether PyTorch would compute on another device than the CPU."""
    if sys.platform == "linux" and not any(map(os.path.exists, GPU_FILES)):
        return False  # known without PyTorch
    return best_device().type != "cpu"


def best_device():
    """The torch.device: CUDA (under torchrun each process has its own), else MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str):
    """The torch.device of this name, or the best one for "auto"; ValueError if it is missing."""
    import torch

    if name == "auto":
        return best_device()
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; use auto, cpu, cuda, cuda:1 or mps.") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The device {name} cannot be used here: {reason}") from error
    return device


def bf16_is_fast(device) -> bool:
    """Whether the device multiplies bf16 natively. Elsewhere autocast only slows inference down."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has("amx_bf16")


def _cpu_has(instructions: str) -> bool:
    import torch

    return bool(getattr(torch.cpu, "get_capabilities", dict)().get(instructions))


def best_precision(accelerator: str = "auto") -> str:
    """Lightning's `precision` for a training here: bf16-mixed if that is faster, else 32-true.

    On a CPU it is faster even with AVX512-BF16 alone, thanks to `network.DepthwiseConv`.

    Args:
        accelerator: Lightning's. "cpu" ignores a GPU of this machine.
    """
    device = find_device("cpu") if accelerator == "cpu" else best_device()
    native = bf16_is_fast(device) or (device.type == "cpu" and _cpu_has("avx512_bf16"))
    return "bf16-mixed" if native else "32-true"
