"""Runs trained weights with OpenVINO on the CPU.

OpenVINO has its own network format. The first call converts the weights and stores the result
beside them; later calls do not import PyTorch. `evaluation.quantization` writes the network in
8-bit integers into the weights folder.
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
from pathlib import Path

import numpy as np

from inference.folder import INT8, check_folder
from inference.segmenter import Predict, Segmenter, recompressed

LOG = logging.getLogger(__name__)
MADE_OF = ["watermark_segmentation", "weights"]  # in a quantized network: the weights' hash
# The code that builds the network.
PROGRAM = [Path(__file__).with_name(name) for name in ("deploy.py", "network.py")]
MAKE_INT8 = "Make it: python evaluate.py quantize --weights DIR --photos PHOTOS --logos LOGOS."


class OpenVinoSegmenter(Segmenter):
    """Runs a weights folder with OpenVINO, in bf16 if the CPU multiplies that natively."""

    one_core_each = True

    def __init__(self, folder, int8: bool = False):
        """
        Args:
            int8: run the folder's quantized network, which computes in 8-bit integers.
        """
        self.core, self.version = openvino_core(), import_openvino().__version__
        read = int8_network if int8 else openvino_network
        self.network, self.program = read(self.core, Path(folder))
        native = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if native else "f32"
        self.compiled = {}  # number of threads to the compiled network, and each thread's request

    def fingerprint(self) -> str:
        return f"openvino {self.version} {self.precision} {self.program}"

    @contextmanager
    def predicting(self, threads: int | None = None) -> Iterator[Predict]:
        if threads not in self.compiled:
            # Pinned threads of several processes would share the first cores.
            options = {"INFERENCE_PRECISION_HINT": self.precision, "ENABLE_CPU_PINNING": False}
            if threads:
                options |= {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}
            compiled = self.core.compile_model(self.network, "CPU", options)
            self.compiled[threads] = compiled, threading.local()
        network, own = self.compiled[threads]

        def one_view(view: np.ndarray) -> tuple[np.ndarray, float]:
            if not hasattr(own, "request"):
                own.request = network.create_infer_request()
            image = np.ascontiguousarray(recompressed(view).transpose(2, 0, 1))[None]
            probability, score = own.request.infer([image], share_inputs=True).values()
            return probability[0, 0], float(score[0])

        yield lambda views: [one_view(view) for view in views]


def int8_network(core, folder: Path):
    """The folder's quantized network, and its hash.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or was made of other weights.
    """
    (_, weights), paths = check_folder(folder), [folder / name for name in INT8]
    if not paths[0].is_file():
        raise FileNotFoundError(f"No {INT8[0]} in {folder}, for openvino-int8. {MAKE_INT8}")
    try:
        network = core.read_model(paths[0])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(
            f"{paths[0]} or its .bin cannot be read ({reason}). {MAKE_INT8}"
        ) from error
    made_of = network.get_rt_info(MADE_OF).astype(str) if network.has_rt_info(MADE_OF) else None
    if made_of != files_hash(weights):
        raise ValueError(f"{paths[0]} was made of other weights than those beside it. {MAKE_INT8}")
    return network, f"int8 {files_hash(*paths)}"


def files_hash(*paths: Path) -> str:
    digests = (hashlib.sha256(path.read_bytes()).digest() for path in paths)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def openvino_network(core, folder: Path):
    """The folder's network for OpenVINO, and a hash of the weights and the code that makes it.

    It is converted once and stored beside the weights, or in the user's cache if that folder is
    read-only.
    """
    program, place = files_hash(*check_folder(folder), *PROGRAM), folder
    if not os.access(folder, os.W_OK):
        import pooch  # slow to import

        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        place = Path(pooch.os_cache("watermark-segmentation")) / name
    path = place / f"openvino-{program}.xml"
    if path.exists():
        with suppress(RuntimeError):  # damaged: converted again
            return core.read_model(path), program
    from inference.deploy import convert_to_openvino  # slow to import

    LOG.info("Converting the network for OpenVINO, once, to %s", path)
    network = convert_to_openvino(folder, import_openvino())
    try:
        write_network(network, path)
        for old in place.glob("openvino-" + "[0-9a-f]" * 16 + ".*"):
            if old.stem != path.stem:
                with suppress(OSError):  # already deleted, or in use on Windows
                    old.unlink()
        return core.read_model(path), program  # the network in memory differs in the last bit
    except (OSError, RuntimeError) as error:
        LOG.warning("%s cannot be written, so the next start is slow, too: %s", path, error)
        return network, f"{program} converted"


def write_network(network, path: Path) -> None:
    """Writes OpenVINO's .xml and .bin. Each file appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=path.parent) as partial:
        import_openvino().save_model(network, Path(partial) / path.name, compress_to_fp16=False)
        for ending in (".bin", ".xml"):  # .bin first: where the .xml exists, the .bin does
            name = path.with_suffix(ending).name
            os.replace(Path(partial) / name, path.with_name(name))


@functools.cache
def openvino_core():
    """OpenVINO's core, one for the whole process, which is never freed.

    The core gives the thread that first uses it a stack for signals, and frees that stack with
    itself. If another thread freed the core, the first thread would crash at its next signal.

    `to_dtype` is called once here. If two threads make its first call at the same time, they wait
    for each other for ever (OpenVINO 2026.4; in one of twenty runs on a busy machine).
    """
    openvino = import_openvino()
    openvino.Type.u8.to_dtype()
    return openvino.Core()


def import_openvino(name: str = "openvino"):
    """OpenVINO, or a package that uses it, without openvino_telemetry, which reports its use."""
    absent = sys.modules.setdefault("openvino_telemetry") is None  # None: its import fails
    try:
        return import_module(name)
    finally:
        if absent:
            sys.modules.pop("openvino_telemetry", None)
