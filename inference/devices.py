"""Which device computes, and in which precision."""

import os

import torch


def bf16_is_fast(device: torch.device) -> bool:
    """Whether everything is faster in bf16; elsewhere autocast only slows inference down."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return cpu_has("amx_bf16")


def cpu_has(instructions: str) -> bool:
    """Whether the CPU has these, by torch's name of them; False where torch cannot tell."""
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get(instructions))


def best_device() -> torch.device:
    """CUDA (under torchrun each process its own), else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        local_rank = int(os.environ.get("LOCAL_RANK", 0))
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str) -> torch.device:
    """The device of a name, the best one for "auto"; ValueError if this machine lacks it."""
    if name == "auto":
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch's words for a name and a lack
        raise ValueError(
            f"No device {name!r} here; use auto, cpu, cuda, cuda:1 or mps. {error}"
        ) from error
    return device


def best_precision(accelerator: str = "auto") -> str:
    """Lightning's `precision` for a training here: bf16-mixed where it is faster, else 32-true.

    On CPUs with AVX512-BF16 alone it is, thanks to `network.DepthwiseConv`.

    Args:
        accelerator: Lightning's; "cpu" leaves a GPU of this machine unused.
    """
    device = torch.device("cpu") if accelerator == "cpu" else best_device()
    native = bf16_is_fast(device) or (device.type == "cpu" and cpu_has("avx512_bf16"))
    return "bf16-mixed" if native else "32-true"
