"""The network: an smp encoder, a U-Net decoder to half size, and a head for the score."""

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

CELL = 2  # px; the decoder ends with one vector for each CELL x CELL pixels, and gives their logits
START_BIAS = -2.0  # of mask logits: an untrained network marks little
EVIDENCE_PX = 8  # side of the patches whose mean probability counts for the score
START_EVIDENCE = 5.0  # weight of the strongest patch in an untrained network's score
NETWORK_KEYS = ("encoder", "bridge_channels", "decoder_channels")

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, std


class DepthwiseConv(nn.Conv2d):
    """With fp32 weights, under the CPU's autocast, it computes in fp32: trained in bf16 it is slow.

    The dense convolutions, which gain by bf16, stay in it: log 27.
    """

    def forward(self, image: Tensor) -> Tensor:
        cpu = image.device.type == "cpu"
        if not (cpu and torch.is_autocast_enabled("cpu") and self.weight.dtype == torch.float32):
            return super().forward(image)
        with torch.autocast("cpu", enabled=False):
            return super().forward(image.float()).to(image.dtype)


class ScoreHead(nn.Module):
    """The logit that a photo carries a mark: its strongest patch, and what the scene is like.

    One small mark anywhere must do, so evidence is not averaged over the photo. Richer heads on the
    same features rank photos no better (log 19).
    """

    def __init__(self, channels: int):
        """
        Args:
            channels: of the encoder's deepest features.
        """
        super().__init__()
        self.context = nn.Linear(channels, 1)
        self.evidence = nn.Parameter(torch.tensor(START_EVIDENCE))
        nn.init.zeros_(self.context.weight)
        nn.init.constant_(self.context.bias, -1.0)

    def forward(self, logits: Tensor, deepest: Tensor) -> Tensor:
        """float32 score logits, N, of mask logits and the encoder's deepest features."""
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
    """Takes plain RGB; returns mask logits and a score logit.

    An encoder of smp, a 1 x 1 convolution (the bridge) that narrows its deepest features, smp's
    U-Net decoder up to half the image's size, and from there four logits for each 2 x 2 pixels.
    Nothing is convolved at full size, where most of the time would go.
    """

    def __init__(self, encoder: str, bridge_channels: int, decoder_channels: Sequence[int]):
        """See `model.WatermarkSegmenter`; ValueError for a name or widths that cannot be."""
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
        """AdamW's groups of those that train: rates by part, no decay of norms and biases."""
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
        """Takes parameters that no output depends on out of the training.

        Some encoders of smp have such layers, and DDP would wait for their gradients.
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
    """Raises ValueError unless these are widths of a network whose decoder ends at half size."""
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
        with warnings.catch_warnings():  # that timm- names are an older spelling
            warnings.simplefilter("ignore", DeprecationWarning)
            encoder = smp.encoders.get_encoder(name, weights=weights)
    except (KeyError, RuntimeError) as error:  # smp's and timm's
        raise ValueError(
            f"No encoder {name!r} with weights {weights}: {error} Use a name that "
            "segmentation-models-pytorch knows."
        ) from error
    for module in encoder.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
            module.__class__ = DepthwiseConv
    return encoder


def normalisation(encoder: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation, of RGB in 0..1, for an encoder: timm's, else ImageNet's."""
    known = timm.models.get_pretrained_cfg(encoder.removeprefix("timm-").removeprefix("tu-"))
    return (known.mean, known.std) if known else IMAGENET
