"""The network: an smp encoder, a U-Net decoder up to half size, and a head for the score."""

import warnings
from collections import defaultdict
from collections.abc import Sequence

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pixel_shuffle

from inference.segmenter import STRIDE

CELL = 2  # px; the decoder gives one vector for CELL x CELL pixels, which becomes their logits
START_BIAS = -2.0  # of the mask logits, so that an untrained network marks little
EVIDENCE_PX = 8  # side of a patch; the score depends on the highest mean probability of a patch
START_EVIDENCE = 5.0  # weight of the strongest patch in an untrained network's score
NETWORK_KEYS = ("encoder", "bridge_channels", "decoder_channels")

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, std


class DepthwiseConv(nn.Conv2d):
    """Computes in fp32 under the CPU's autocast if its weights are fp32.

    On CPUs it trains slowly in bf16. Dense convolutions are faster in bf16 and keep it (log 27).
    """

    def forward(self, image: Tensor) -> Tensor:
        cpu = image.device.type == "cpu"
        if not (cpu and torch.is_autocast_enabled("cpu") and self.weight.dtype == torch.float32):
            return super().forward(image)
        with torch.autocast("cpu", enabled=False):
            return super().forward(image.float()).to(image.dtype)


class ScoreHead(nn.Module):
    """The logit that a photo carries a mark, from its strongest patch and its deepest features.

    It takes maxima and not means over the photo, because one small mark is enough. Larger heads on
    the same features do not rank photos better (log 19).
    """

    def __init__(self, channels: int):
        """
        Args:
            channels: number of channels of the encoder's deepest features.
        """
        super().__init__()
        self.context = nn.Linear(channels, 1)
        self.evidence = nn.Parameter(torch.tensor(START_EVIDENCE))
        nn.init.zeros_(self.context.weight)
        nn.init.constant_(self.context.bias, -1.0)

    def forward(self, logits: Tensor, deepest: Tensor) -> Tensor:
        """Score logits (float32, N) from mask logits and the encoder's deepest features."""
        peak = avg_pool2d(logits.sigmoid(), EVIDENCE_PX).amax((1, 2, 3))  # N
        return self.context(deepest.amax((2, 3)))[:, 0].float() + self.evidence * peak

    @torch.no_grad()
    def rescale(self, scale: float, shift: float, of_maxima: Tensor | None = None) -> None:
        """Makes the score logit `scale * logit + shift`, plus `of_maxima` times the maxima of the
        deepest features (float, one for each channel)."""
        self.context.weight.mul_(scale)
        self.context.bias.mul_(scale).add_(shift)
        self.evidence.mul_(scale)
        if of_maxima is not None:
            self.context.weight.add_(of_maxima.to(self.context.weight))


class SegmentationNetwork(nn.Module):
    """Takes RGB images; returns mask logits and a score logit.

    A 1 x 1 convolution (the bridge) reduces the channels of the encoder's deepest features. The
    U-Net decoder ends at half the image's size and gives four logits for each 2 x 2 pixels. No
    convolution runs at full size, because it would take most of the time.
    """

    def __init__(self, encoder: str, bridge_channels: int, decoder_channels: Sequence[int]):
        """See `model.WatermarkSegmenter`; ValueError for an unknown encoder or wrong widths."""
        super().__init__()
        check_channels(bridge_channels, decoder_channels)
        self.names = dict(zip(NETWORK_KEYS, (encoder, bridge_channels, list(decoder_channels))))
        self.encoder = make_encoder(encoder)
        *skips, deepest = self.encoder.out_channels
        self.bridge = nn.Sequential(
            nn.Conv2d(deepest, bridge_channels, 1, bias=False),
            nn.BatchNorm2d(bridge_channels),
            nn.ReLU(inplace=True),
        )
        self.decoder = UnetDecoder(
            (*skips, bridge_channels), decoder_channels, n_blocks=len(decoder_channels)
        )
        self.mask_head = nn.Conv2d(decoder_channels[-1], CELL**2, 3, padding=1)
        nn.init.constant_(self.mask_head.bias, START_BIAS)
        self.score_head = ScoreHead(deepest)
        for name, values in zip(("mean", "std"), normalisation(encoder)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last)  # 1.5 times as fast on CPUs

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        shape = image.shape
        if image.ndim != 4 or shape[1] != 3 or shape[2] % STRIDE or shape[3] % STRIDE:
            raise ValueError(
                f"Got a batch of shape {tuple(shape)}; it must be N x 3 x H x W with H and W "
                f"multiples of {STRIDE}. `segment` takes images of any size."
            )
        if not image.is_floating_point():
            image = image.float() / 255
        image = (image - self.mean) / self.std
        image = image.to(self.mask_head.weight.dtype, memory_format=torch.channels_last)
        *skips, deepest = self.encoder(image)
        cells = self.mask_head(self.decoder([*skips, self.bridge(deepest)]))
        logits = pixel_shuffle(cells, CELL).float()  # N x 1 x H x W
        return logits, self.score_head(logits, deepest)

    def parameter_groups(self, encoder_rate: float, rate: float, weight_decay: float) -> list[dict]:
        """AdamW's groups of trainable parameters; norms and biases have no weight decay."""
        groups = defaultdict(list)
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups[name.startswith("encoder."), parameter.ndim > 1].append(parameter)
        return [
            dict(params=parameters, lr=encoder_rate if in_encoder else rate,
                 weight_decay=weight_decay if decays else 0.0)
            for (in_encoder, decays), parameters in groups.items()
        ]  # fmt: skip

    def freeze_unused(self) -> None:
        """Freezes the parameters that no output depends on.

        Some encoders of smp have such parameters, and DDP would wait for their gradients.
        """
        was_training, image = self.training, torch.zeros(1, 3, STRIDE, STRIDE)
        self.eval()
        with torch.enable_grad():
            sum(output.sum() for output in self(image.to(self.mean.device))).backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
        self.zero_grad()
        self.train(was_training)


def check_channels(bridge_channels: int, decoder_channels: Sequence[int]) -> None:
    """Raises ValueError unless the widths are valid and the decoder ends at half size."""
    levels = STRIDE.bit_length() - CELL.bit_length()
    widths = [bridge_channels, *decoder_channels]
    if len(decoder_channels) != levels or not all(isinstance(w, int) and w > 0 for w in widths):
        raise ValueError(
            f"bridge_channels is {bridge_channels}, decoder_channels {list(decoder_channels)}; use "
            f"whole numbers above 0, {levels} for the decoder, the deepest first."
        )


def make_encoder(name: str, weights: str | None = None) -> nn.Module:
    """An encoder of smp; ValueError if smp knows no such name."""
    try:
        with warnings.catch_warnings():  # names that start with timm- are deprecated
            warnings.simplefilter("ignore", DeprecationWarning)
            encoder = smp.encoders.get_encoder(name, weights=weights)
    except (KeyError, RuntimeError) as error:  # raised by smp and timm
        raise ValueError(
            f"No encoder {name!r} with weights {weights}: {error} Use a name that "
            "segmentation-models-pytorch knows."
        ) from error
    for module in encoder.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
            module.__class__ = DepthwiseConv
    return encoder


def normalisation(encoder: str) -> tuple[Sequence[float], Sequence[float]]:
    """An encoder's mean and standard deviation of RGB in 0..1; ImageNet's if timm lacks it."""
    known = timm.models.get_pretrained_cfg(encoder.removeprefix("timm-").removeprefix("tu-"))
    return (known.mean, known.std) if known else IMAGENET
