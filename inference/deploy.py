"""Runs a network with PyTorch, and converts it to OpenVINO and ONNX."""

import copy
import hashlib
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.devices import bf16_is_fast, find_device
from inference.network import SegmentationNetwork
from inference.segmenter import STRIDE, Predict, Segmenter, recompressed
from inference.weights import load_network

GPU_BATCH = 8  # views
# Shape of the example batch for tracing. If a side were 1 or a multiple of STRIDE, or if two sides
# were equal, the traced network would require that of every batch.
EXAMPLE = (2, 3, 2 * STRIDE + 1, 3 * STRIDE + 1)


class AnySize(nn.Module):
    """A network that takes uint8 images of any size and returns probabilities, not logits."""

    def __init__(self, network: SegmentationNetwork):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Probability map and score of each image of a batch.

        Args:
            image: uint8, N x 3 x H x W, RGB in 0..255, any H and W.

        Returns:
            float32, N x 1 x H x W, the probability of a marked pixel; float32, N, the score. Both
            lie in 0..1.
        """
        height, width = image.shape[2:]
        image = image.index_select(2, mirrored(height, image.device))
        image = image.index_select(3, mirrored(width, image.device))
        logits, score_logit = self.network(image)
        return logits.sigmoid()[:, :, :height, :width], score_logit.sigmoid()


def mirrored(length: int, device) -> Tensor:
    """Indices that pad a side by mirroring to the next multiple of STRIDE.

    They go from 0 to length - 1, then back to 0, and then stay 0.
    """
    index = torch.arange((length + STRIDE - 1) // STRIDE * STRIDE, device=device)
    return (length - 1 - (index - (length - 1)).abs()).clamp(min=0)


class LayerTracer(fx.Tracer):
    """Traces each convolution and batch norm as one step, including timm's subclasses."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        layer = isinstance(module, (nn.Conv2d, nn.BatchNorm2d))
        return layer or super().is_leaf_module(module, name)


def fold_batch_norm(module: nn.Module) -> None:
    """Merges each batch norm into the convolution before it, if that has no other consumer.

    PyTorch then needs a quarter less time on a CPU. OpenVINO does the same by itself. A module that
    torch.fx cannot trace, because a step depends on the image's shape, is traced child by child.

    Source: torch.fx.experimental.optimization.fuse, which ignores subclasses of the two layers.
    """
    try:
        steps = LayerTracer().trace(module).nodes
    except (fx.proxy.TraceError, NameError, RuntimeError):  # fx cannot trace it
        for child in module.children():
            fold_batch_norm(child)
        return
    layers = {step: module.get_submodule(step.target) for step in steps if step.op == "call_module"}
    for step, norm in layers.items():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        (before,) = step.all_input_nodes
        conv = layers.get(before)
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            module.set_submodule(before.target, fuse_conv_bn_eval(conv, norm))
            # timm's batch norms include the activation.
            module.set_submodule(step.target, getattr(norm, "act", nn.Identity()))


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device multiplies it natively, else float32."""
    return torch.bfloat16 if bf16_is_fast(device) else torch.float32


class TorchSegmenter(Segmenter):
    """Runs a network with PyTorch, in bf16 if the device multiplies that natively.

    A GPU gets batches of views. A CPU gets one view at a time, because a batch is not faster and
    makes the last bits of a result depend on the other views.

    `model.WatermarkSegmenter` is a subclass.
    """

    def __init__(self, network: SegmentationNetwork, device):
        """
        Args:
            network: already on the device.
        """
        self.network, self.device = network, torch.device(device)

    def train(self, mode: bool) -> None:
        self.network.train(mode)

    @property
    def one_core_each(self) -> bool:
        return self.device.type == "cpu"

    @property
    def views_at_once(self) -> int:
        return 1 if self.one_core_each else GPU_BATCH

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().float().contiguous().numpy().tobytes())
        program = f"torch {torch.__version__} {self.device.type} {best_dtype(self.device)}"
        return f"{program} {digest.hexdigest()[:16]}"

    @contextmanager
    def predicting(self, threads: int | None = None) -> Iterator[Predict]:
        """See `Segmenter`."""
        was_training, n_threads = self.network.training, torch.get_num_threads()
        one_thread = threads and self.one_core_each
        self.train(False)
        if one_thread:
            torch.set_num_threads(1)  # applies to threads that start later
        try:
            yield self.predict_views
        finally:
            self.train(was_training)
            if one_thread:
                torch.set_num_threads(n_threads)

    @torch.inference_mode()
    def predict_views(self, views: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        """See `segmenter.Predict`."""
        network, dtype, answers = AnySize(self.network), best_dtype(self.device), []
        for _, group in itertools.groupby(views, key=lambda view: view.shape):
            group = [recompressed(view).transpose(2, 0, 1) for view in group]
            for start in range(0, len(group), self.views_at_once):
                batch = np.stack(group[start : start + self.views_at_once])
                with torch.autocast(self.device.type, dtype, dtype != torch.float32):
                    probability, score = network(torch.from_numpy(batch).to(self.device))
                answers += zip(probability[:, 0].cpu().numpy(), score.tolist())
        return answers

    def export_onnx(self, path) -> None:
        """Writes the network, which segments a single view, to one .onnx file.

        Its input `image` is uint8, N x 3 x H x W, RGB in 0..255, any N, H and W. Its outputs are
        `probability`, float32, N x 1 x H x W, and `score`, float32, N, both in 0..1. The file pads
        and normalises the image. It lacks three steps of `segment`: the JPEG compression of a view
        (`segmenter.recompressed`), the combination of views and tiles
        (`segmenter.predict_any_size`), and the empty mask at a low score.

        Raises:
            FileNotFoundError: the file's folder does not exist.
            ImportError: the packages onnx and onnxscript are missing.
        """
        if not Path(path).absolute().parent.is_dir():
            raise FileNotFoundError(f"No folder {Path(path).absolute().parent}: make it first.")
        if not (find_spec("onnx") and find_spec("onnxscript")):
            raise ImportError("export_onnx needs two packages: pip install onnx onnxscript.")
        network, dynamic = copy.deepcopy(self.network).cpu().float(), torch.export.Dim.DYNAMIC
        torch.onnx.export(
            AnySize(network).eval(), (torch.zeros(EXAMPLE, dtype=torch.uint8),), path, dynamo=True,
            input_names=["image"], output_names=["probability", "score"], external_data=False,
            dynamic_shapes=[{0: dynamic, 2: dynamic, 3: dynamic}], verbose=False,
        )  # fmt: skip


def load_torch_segmenter(folder, device: str = "auto") -> TorchSegmenter:
    """See `inference.load_segmenter`."""
    device, network = find_device(device), load_network(folder).requires_grad_(False)
    fold_batch_norm(network)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.to(best_dtype(device))
    return TorchSegmenter(network.to(device, memory_format=torch.channels_last), device)


def convert_to_openvino(folder, openvino):
    """Converts a weights folder to an OpenVINO model for images and batches of any size.

    Args:
        openvino: the module.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # PyTorch warns about OpenVINO's tracing
        network, example = AnySize(load_network(folder)), torch.zeros(EXAMPLE, dtype=torch.uint8)
        try:
            return openvino.convert_model(network, example_input=example)
        except RuntimeError as error:
            raise ValueError(
                f"OpenVINO cannot convert the network in {folder}. Use the backend torch. {error}"
            ) from error
