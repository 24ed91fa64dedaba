"""Chooses the fastest way to run trained weights on this machine: `load_segmenter`."""

from importlib.util import find_spec

from inference.devices import has_gpu
from inference.folder import SHIPPED_WEIGHTS
from inference.openvino_backend import OpenVinoSegmenter
from inference.segmenter import Segmenter

INT8_BACKEND = "openvino-int8"
OPENVINO = ("openvino", INT8_BACKEND)
BACKENDS = ("auto", "torch", *OPENVINO)


def load_segmenter(
    folder=SHIPPED_WEIGHTS, device: str = "auto", backend: str = "auto"
) -> Segmenter:
    """Loads trained weights for segmentation.

    Args:
        folder: written by `WatermarkSegmenter.save`; by default the weights of this repository.
        device: "cpu", "cuda", "cuda:1" or "mps". "auto" takes a GPU if there is one.
        backend: "torch", or "openvino" for the CPU. "auto" takes OpenVINO on the CPU if it is
            installed. "openvino-int8" computes in 8-bit integers: faster, and nearly as good
            (docs/speed.md).

    Raises:
        FileNotFoundError, ValueError: the weights, device or backend cannot be used.
    """
    check_backend(backend)
    installed = find_spec("openvino") is not None
    if backend in OPENVINO:
        if not installed:
            raise ValueError(f"The backend {backend} needs a package: pip install openvino.")
        if device not in ("auto", "cpu"):
            raise ValueError(f"The backend {backend} runs on the cpu, not on {device!r}.")
        return OpenVinoSegmenter(folder, int8=backend == INT8_BACKEND)
    on_cpu = device == "cpu" or (device == "auto" and not has_gpu())
    if installed and on_cpu and backend == "auto":
        return OpenVinoSegmenter(folder)
    from inference.deploy import load_torch_segmenter  # slow to import

    return load_torch_segmenter(folder, device)


def check_backend(name: str) -> None:
    """Raises ValueError for a name that is not in BACKENDS."""
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; use {', '.join(BACKENDS)}.")
