"""The fastest way to run trained weights on this machine: `load_segmenter`.

On the CPU that is OpenVINO, if it is installed. It takes the network in a format of its own, which
the first call writes beside the weights; from then on, on Linux without a GPU or with the device
"cpu", PyTorch is not even imported.
"""

import functools
import hashlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from inference import Predict, Segmenter

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # the files of a weights folder
BACKENDS = ("auto", "torch", "openvino")
# Of drivers on Linux: NVIDIA, its Jetson boards, AMD, WSL.
GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/kfd", "/dev/dxg")
LOG = logging.getLogger(__name__)
PROGRAM = [Path(__file__).with_name(name) for name in ("deploy.py", "network.py")]


def load_segmenter(
    folder=SHIPPED_WEIGHTS, device: str = "auto", backend: str = "auto"
) -> Segmenter:
    """Trained weights, ready to segment.

    Args:
        folder: that `WatermarkSegmenter.save` wrote; by default the one of this repository.
        device: "cpu", "cuda", "cuda:1", "mps"; auto: the best there is.
        backend: "torch", or "openvino" for the CPU; auto: OpenVINO on the CPU if it is installed.

    Raises:
        FileNotFoundError, ValueError: the weights, device or backend cannot be used.
    """
    check_backend(backend)
    installed = find_spec("openvino") is not None
    if backend == "openvino" and not installed:
        raise ValueError("The backend openvino needs a package: pip install openvino.")
    on_cpu = device == "cpu" or (device == "auto" and (backend == "openvino" or not has_gpu()))
    if backend == "openvino" and not on_cpu:
        raise ValueError(f"The backend openvino runs on the cpu, not on {device!r}.")
    if installed and on_cpu and backend != "torch":
        return OpenVinoSegmenter(folder)
    from deploy import load_torch_segmenter  # slow to import

    return load_torch_segmenter(folder, device)


def check_backend(name: str) -> None:
    """Raises ValueError for a name that is not in BACKENDS."""
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; use {', '.join(BACKENDS)}.")


def has_gpu() -> bool:
    """Whether PyTorch would compute on something else than the CPU."""
    if sys.platform == "linux" and not any(map(os.path.exists, GPU_FILES)):
        return False  # seen without importing PyTorch
    from network import best_device

    return best_device().type != "cpu"


class OpenVinoSegmenter(Segmenter):
    """Runs a weights folder with OpenVINO on the CPU, in bf16 where that is native."""

    one_core_each = True

    def __init__(self, folder):
        self.core, self.version = openvino_core(), import_openvino().__version__
        self.network, self.program = openvino_network(self.core, Path(folder))
        native = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if native else "f32"
        self.compiled = {}  # threads to the network for so many callers, and what each one keeps

    def fingerprint(self) -> str:
        return f"openvino {self.version} {self.precision} {self.program}"

    @contextmanager
    def predicting(self, threads: int | None = None) -> Iterator[Predict]:
        if threads not in self.compiled:
            self.compiled[threads] = self.compile(threads), threading.local()
        network, own = self.compiled[threads]

        def one_view(view: np.ndarray) -> tuple[np.ndarray, float]:
            if not hasattr(own, "request"):
                own.request = network.create_infer_request()
            image = np.ascontiguousarray(view.transpose(2, 0, 1))[None]
            probability, score = own.request.infer([image], share_inputs=True).values()
            return probability[0, 0], float(score[0])

        yield lambda views: [one_view(view) for view in views]

    def compile(self, threads: int | None):
        # Not pinned to cores: several processes would all be pinned to the first ones.
        options = {"INFERENCE_PRECISION_HINT": self.precision, "ENABLE_CPU_PINNING": False}
        if threads:
            options |= {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}
        return self.core.compile_model(self.network, "CPU", options)


def check_folder(folder) -> tuple[Path, Path]:
    """The two files of a weights folder; FileNotFoundError if one is missing."""
    for name in (CONFIG, WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(
                f"No {name} in {folder}. Give a folder that `WatermarkSegmenter.save` wrote."
            )
    return Path(folder) / CONFIG, Path(folder) / WEIGHTS


def program_hash(folder) -> str:
    """Of the weights and of the code that makes a network of them."""
    digest = hashlib.sha256()
    for path in (*check_folder(folder), *PROGRAM):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def openvino_network(core, folder: Path):
    """The folder's network for OpenVINO, from the file that is kept of it, and its `program_hash`.

    It is kept beside the weights, or in the user's cache if that folder takes no files.
    """
    program, place = program_hash(folder), folder
    if not os.access(folder, os.W_OK):
        import pooch  # slow to import

        place = Path(pooch.os_cache("watermark-segmentation"))
    path = place / f"openvino-{program}.xml"
    if path.exists():
        with suppress(RuntimeError):  # damaged: it is written anew
            return core.read_model(path), program
    from deploy import convert_to_openvino

    LOG.info("Converting the network for OpenVINO, once, to %s", path)
    network = convert_to_openvino(folder)
    if program_hash(folder) != program:  # a training has written new weights meanwhile
        return openvino_network(core, folder)
    try:
        keep(network, path)
        # As later starts do: the converted one differs in the last bit.
        return core.read_model(path), program
    except (OSError, RuntimeError) as error:
        LOG.warning("%s cannot be written, so the next start is slow, too: %s", path, error)
        return network, f"{program} converted"


def keep(network, path: Path) -> None:
    """Writes OpenVINO's two files, each whole or not at all, and removes those of older weights.

    Other processes may be doing the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=path.parent) as partial:
        import_openvino().save_model(network, Path(partial) / path.name, compress_to_fp16=False)
        for ending in (".bin", ".xml"):  # the second one says that both are there
            name = path.with_suffix(ending).name
            os.replace(Path(partial) / name, path.with_name(name))
    for old in path.parent.glob("openvino-" + "[0-9a-f]" * 16 + ".*"):
        if old.stem != path.stem:
            with suppress(OSError):  # in use, on Windows
                old.unlink()


@functools.cache
def openvino_core():
    """One for the whole process, and never freed.

    It gives the thread that first uses it a stack for signals, and frees that with itself. Freed by
    another thread, the first one is left without, and dies of its next signal, which may be
    that a data worker has ended.
    """
    return import_openvino().Core()


def import_openvino():
    """OpenVINO, as if its package openvino_telemetry, which reports its use, were not installed."""
    absent = sys.modules.setdefault("openvino_telemetry") is None  # then it takes a stub
    try:
        return import_module("openvino")
    finally:
        if absent:
            sys.modules.pop("openvino_telemetry", None)
