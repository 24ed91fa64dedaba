"""Running a network: RGB bytes of any size in, probability and score out.

`fast_copy` approximates nothing; it computes the same sums in fewer steps:
- batch norm, in evaluation a factor and an offset, goes into the weights of the convolution before;
- a U-Net decoder doubles its image by repeating pixels, puts the encoder's beside it, and convolves
  both. Convolving a doubled image is one transposed convolution of the small one, with 16 instead
  of 36 products for each four pixels; the other part is added.
"""

import copy
import functools
import hashlib
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.devices import bf16_is_fast, find_device
from inference.network import SegmentationNetwork
from inference.segmenter import STRIDE, Predict, Segmenter, recompressed
from inference.weights import load_network

# Shape of a batch to record the network with: no side is 1, a multiple of STRIDE, or like another,
# for what happens only to these would be recorded as well.
EXAMPLE = (2, 3, 2 * STRIDE + 1, 3 * STRIDE + 1)


class AnySize(nn.Module):
    """A network whose input is images as they are, and whose output is what users want."""

    def __init__(self, network: SegmentationNetwork):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Probability and score of a batch.

        Args:
            image: uint8, N x 3 x H x W, RGB in 0..255, any H and W.

        Returns:
            float32 probability of a marked pixel, N x 1 x H x W, and float32 score, N; both 0..1.
        """
        height, width = image.shape[2:]
        image = image.index_select(2, mirrored(height, image.device))
        image = image.index_select(3, mirrored(width, image.device))
        logits, score_logit = self.network(image)
        return logits.sigmoid()[:, :, :height, :width], score_logit.sigmoid()


def mirrored(length: int, device) -> Tensor:
    """Indices 0 .. length - 1, then back as far as a multiple of STRIDE needs, but not below 0."""
    index = torch.arange((length + STRIDE - 1) // STRIDE * STRIDE, device=device)
    return (length - 1 - (index - (length - 1)).abs()).clamp(min=0)


def fast_copy(network: SegmentationNetwork, dtype=torch.float32) -> SegmentationNetwork:
    """The network in fewer steps, for inference only; the original stays as it is.

    Args:
        dtype: of the weights, float32, or bfloat16 for use under autocast.
    """
    network = copy.deepcopy(network).eval()
    fold_batch_norm(network)
    merge_upsampling(network)
    for module in network.modules():  # the few other weights stay exact
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.to(dtype)
    return network.requires_grad_(False).to(memory_format=torch.channels_last)


def fold_batch_norm(network: SegmentationNetwork) -> None:
    """Puts each batch norm that directly follows a convolution into that convolution's weights."""
    for block_name, conv_name, norm_name in find_normalised(network):
        block = network.get_submodule(block_name)
        norm = getattr(block, norm_name)
        setattr(block, conv_name, fuse_conv_bn_eval(getattr(block, conv_name), norm))
        setattr(block, norm_name, getattr(norm, "act", nn.Identity()))  # timm's norms activate, too


@torch.inference_mode(False)  # whose tensors do not count their changes
@torch.no_grad()
def find_normalised(network: SegmentationNetwork) -> list[tuple[str, str, str]]:
    """(block, convolution, batch norm): names of all pairs in one block of which the second takes
    what the first gives, and the decoder does not, as a pass through the network shows."""
    made_by, found, hooks, features = {}, {}, [], set()

    def after_conv(name, conv, inputs, output):
        made_by[id(output)] = name, output, output._version  # kept, so that no id comes twice

    def before_norm(name, norm, inputs):
        conv, output, version = made_by.get(id(inputs[0]), ("", inputs[0], None))
        block, _, norm_name = name.rpartition(".")
        conv_block, _, conv_name = conv.rpartition(".")
        if output._version == version and block == conv_block:  # not changed in place since
            found[id(output)] = block, conv_name, norm_name

    def after_encoder(encoder, inputs, outputs):
        features.update(map(id, outputs))

    hooks.append(network.encoder.register_forward_hook(after_encoder))
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(functools.partial(after_conv, name)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(functools.partial(before_norm, name)))
    network(torch.zeros(1, 3, STRIDE, STRIDE, device=network.mean.device))
    for hook in hooks:
        hook.remove()
    return [names for output, names in found.items() if output not in features]


def merge_upsampling(network: SegmentationNetwork) -> None:
    """Replaces the blocks of the decoder, whose batch norm is folded."""
    blocks, channels = network.decoder.blocks, network.bridge[0].out_channels
    for index, block in enumerate(blocks):
        blocks[index] = MergedBlock(block, channels)
        channels = block.conv2[0].out_channels


class MergedBlock(nn.Module):
    """smp's `UnetDecoderBlock` with the doubling inside its first convolution."""

    def __init__(self, block: nn.Module, channels: int):
        """
        Args:
            block: with batch norm folded into its convolutions.
            channels: of the image to double; the convolution's other inputs are the skip's.
        """
        super().__init__()
        conv, self.conv2 = block.conv1[0], block.conv2
        weight, of_skip = conv.weight.split([channels, conv.in_channels - channels], 1)
        self.doubling = nn.ConvTranspose2d(channels, conv.out_channels, 4, stride=2, padding=1)
        # Each small pixel stands for 2 x 2: their four kernels of 3 x 3, one pixel apart, add up.
        shifted = (pad(weight, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1))
        self.doubling.weight = nn.Parameter(sum(shifted).flip(2, 3).transpose(0, 1))
        self.doubling.bias = conv.bias
        self.skip = None
        if of_skip.shape[1]:
            self.skip = nn.Conv2d(of_skip.shape[1], conv.out_channels, 3, padding=1, bias=False)
            self.skip.weight = nn.Parameter(of_skip)

    def forward(self, image: Tensor, height: int, width: int, skip_connection=None) -> Tensor:
        image = self.doubling(image)
        if self.skip is not None:
            image = image + self.skip(skip_connection)
        return self.conv2(image.relu())


def best_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it natively, else float32."""
    return torch.bfloat16 if bf16_is_fast(device) else torch.float32


class TorchSegmenter(Segmenter):
    """Runs a network with PyTorch, in bf16 where the device multiplies that natively.

    On the CPU a view goes through the network alone, so that its bits do not depend on what comes
    with it; more at once would gain nothing.
    """

    def __init__(self, network: SegmentationNetwork, device):
        """
        Args:
            network: on that device and in evaluation mode.
        """
        self.device = torch.device(device)
        self.dtype = best_dtype(self.device)
        self.network = AnySize(network)
        self.one_core_each = self.device.type == "cpu"
        self.views_at_once = 1 if self.one_core_each else 8

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + value.cpu().float().contiguous().numpy().tobytes())
        program = f"torch {torch.__version__} {self.device.type} {self.dtype}"
        return f"{program} {digest.hexdigest()[:16]}"

    @contextmanager
    def predicting(self, threads: int | None = None) -> Iterator[Predict]:
        if not (threads and self.one_core_each):
            yield self.predict_views
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # holds for threads that start from now on
        try:
            yield self.predict_views
        finally:
            torch.set_num_threads(before)

    @torch.inference_mode()
    def predict_views(self, views: list[np.ndarray]) -> list[tuple[np.ndarray, float]]:
        """See `segmenter.Predict`."""
        results = []
        for _, group in itertools.groupby(views, key=lambda view: view.shape):
            group = list(group)
            for start in range(0, len(group), self.views_at_once):
                batch = [recompressed(view) for view in group[start : start + self.views_at_once]]
                images = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)
                with torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
                    probability, score = self.network(images.to(self.device))
                results += zip(probability[:, 0].cpu().numpy(), score.tolist())
        return results


class ModuleSegmenter(Segmenter):
    """Mixed into a module with a `network` and a `device`: segments with the network as it is.

    For many images `inference.load_segmenter` is faster.
    """

    @property
    def one_core_each(self) -> bool:
        return self._as_is().one_core_each

    def fingerprint(self) -> str:
        return self._as_is().fingerprint()

    @contextmanager
    def predicting(self, threads: int | None = None) -> Iterator[Predict]:
        """See `Segmenter`."""
        was_training = self.training
        self.eval()
        try:
            with self._as_is().predicting(threads) as predict:
                yield predict
        finally:
            self.train(was_training)

    def _as_is(self) -> TorchSegmenter:
        return TorchSegmenter(self.network, self.device)

    def export_onnx(self, path) -> None:
        """Writes one .onnx file that takes images and gives what the network says of one view.

        Input `image`: uint8, N x 3 x H x W, RGB in 0..255, any N, H and W. Outputs: `probability`,
        float32, N x 1 x H x W, of a marked pixel, and `score`, float32, N, of a marked image; both
        0..1. Padding and normalisation are inside. What `segment` adds is not: views made JPEGs
        (`segmenter.recompressed`); other views of small and large images and tiles, and the parts
        judged together, which `segmenter.predict_any_size` adds to any network; an empty mask at
        low scores.

        Raises:
            ImportError: the packages onnx and onnxscript are missing.
        """
        if not (find_spec("onnx") and find_spec("onnxscript")):
            raise ImportError("export_onnx needs two packages: pip install onnx onnxscript.")
        whole, dynamic = AnySize(fast_copy(self.network).cpu()).eval(), torch.export.Dim.DYNAMIC
        torch.onnx.export(
            whole, (torch.zeros(EXAMPLE, dtype=torch.uint8),), path, dynamo=True, verbose=False,
            input_names=["image"], output_names=["probability", "score"], external_data=False,
            dynamic_shapes=[{0: dynamic, 2: dynamic, 3: dynamic}],
        )  # fmt: skip


def load_torch_segmenter(folder, device: str = "auto") -> TorchSegmenter:
    """See `inference.load_segmenter`."""
    found = find_device(device)
    network = fast_copy(load_network(folder), best_dtype(found))
    return TorchSegmenter(network.to(found), found)


def convert_to_openvino(folder, openvino):
    """An OpenVINO model of a weights folder: for images of any size, in batches of any size.

    Args:
        openvino: the module.
    """
    network = AnySize(fast_copy(load_network(folder)))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # PyTorch's, about the tracing that OpenVINO does
        example = torch.zeros(EXAMPLE, dtype=torch.uint8)
        try:
            return openvino.convert_model(network, example_input=example)
        except RuntimeError as error:
            raise ValueError(
                f"OpenVINO cannot convert the network in {folder}; use the backend torch. {error}"
            ) from error
