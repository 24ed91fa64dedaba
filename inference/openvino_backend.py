"""Weights run by OpenVINO, on the CPU.

It takes the network in a format of its own, which the first call writes beside the weights; from
then on PyTorch is not even imported. The network in 8-bit integers comes with the weights instead:
`evaluation.quantization` makes it.
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
MADE_OF = ["watermark_segmentation", "weights"]  # where a quantized network names its weights
PROGRAM = [Path(__file__).with_name(name) for name in ("deploy.py", "network.py")]


class OpenVinoSegmenter(Segmenter):
    """Runs a weights folder with OpenVINO on the CPU, in bf16 where that is native.

    Args:
        int8: most convolutions in 8-bit integers, by the folder's quantized network.
    """

    one_core_each = True

    def __init__(self, folder, int8: bool = False):
        self.core, self.version = openvino_core(), import_openvino().__version__
        read = int8_network if int8 else openvino_network
        self.network, self.program = read(self.core, Path(folder))
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
            image = np.ascontiguousarray(recompressed(view).transpose(2, 0, 1))[None]
            probability, score = own.request.infer([image], share_inputs=True).values()
            return probability[0, 0], float(score[0])

        yield lambda views: [one_view(view) for view in views]

    def compile(self, threads: int | None):
        # Not pinned to cores: several processes would all be pinned to the first ones.
        options = {"INFERENCE_PRECISION_HINT": self.precision, "ENABLE_CPU_PINNING": False}
        if threads:
            options |= {"NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads}
        return self.core.compile_model(self.network, "CPU", options)


def int8_network(core, folder: Path):
    """The folder's quantized network, and a name of it; an error if it is not of these weights."""
    make = "Make it: python evaluate.py quantize --weights DIR --photos PHOTOS --logos LOGOS."
    paths = [folder / name for name in INT8]
    _, weights = check_folder(folder)
    if not paths[0].is_file():
        raise FileNotFoundError(f"No {INT8[0]} in {folder}, which openvino-int8 needs. {make}")
    try:
        network = core.read_model(paths[0])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"{paths[0]} or its .bin cannot be read ({reason}). {make}") from error
    made_of = network.get_rt_info(MADE_OF).astype(str) if network.has_rt_info(MADE_OF) else None
    if made_of != files_hash(weights):
        raise ValueError(f"{paths[0]} was made of other weights than those beside it. {make}")
    return network, f"int8 {files_hash(*paths)}"


def files_hash(*paths: Path) -> str:
    digests = (hashlib.sha256(path.read_bytes()).digest() for path in paths)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def program_hash(folder) -> str:
    """Of the weights and of the code that makes a network of them."""
    return files_hash(*check_folder(folder), *PROGRAM)


def openvino_network(core, folder: Path):
    """The folder's network for OpenVINO, from the file that is kept of it, and its `program_hash`.

    It is kept beside the weights, or in the user's cache if that folder takes no files.
    """
    program, place = program_hash(folder), folder
    if not os.access(folder, os.W_OK):
        import pooch  # slow to import

        name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
        place = Path(pooch.os_cache("watermark-segmentation")) / name
    path = place / f"openvino-{program}.xml"
    if path.exists():
        with suppress(RuntimeError):  # damaged: it is written anew
            return core.read_model(path), program
    from inference.deploy import convert_to_openvino  # slow to import

    LOG.info("Converting the network for OpenVINO, once, to %s", path)
    network = convert_to_openvino(folder, import_openvino())
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
    """Writes OpenVINO's two files and removes those of older weights; other processes may, too."""
    write_network(network, path)
    for old in path.parent.glob("openvino-" + "[0-9a-f]" * 16 + ".*"):
        if old.stem != path.stem:
            with suppress(OSError):  # in use, on Windows
                old.unlink()


def write_network(network, path: Path) -> None:
    """Writes OpenVINO's two files, .xml and .bin, each whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=path.parent) as partial:
        import_openvino().save_model(network, Path(partial) / path.name, compress_to_fp16=False)
        for ending in (".bin", ".xml"):  # the second one says that both are there
            name = path.with_suffix(ending).name
            os.replace(Path(partial) / name, path.with_name(name))


@functools.cache
def openvino_core():
    """One for the whole process, and never freed.

    It gives the thread that first uses it a stack for signals, and frees that with itself. Freed by
    another thread, the first one is left without, and dies of its next signal, which may be
    that a data worker has ended.
    """
    return import_openvino().Core()


def import_openvino(name: str = "openvino"):
    """OpenVINO, or a package that uses it, as if openvino_telemetry, which reports that, were not
    installed."""
    absent = sys.modules.setdefault("openvino_telemetry") is None  # then they take a stub
    try:
        return import_module(name)
    finally:
        if absent:
            sys.modules.pop("openvino_telemetry", None)
