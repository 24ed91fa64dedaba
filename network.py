"""The network, the devices it runs on, and the folder that holds a trained one."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pixel_shuffle

from inference import STRIDE
from runtime import CONFIG, WEIGHTS, check_folder

CELL = 2  # px; the decoder ends with one vector for each CELL x CELL pixels, and gives their logits
START_BIAS = -2.0  # of mask logits: an untrained network marks little
EVIDENCE_PX = 8  # side of the patches whose mean probability counts for the score
START_EVIDENCE = 5.0  # weight of the strongest patch in an untrained network's score
FORMAT, VERSION = "watermark-segmentation", 3
NETWORK_KEYS = ("encoder", "bridge_channels", "decoder_channels")

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean, std
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
NORMALISATIONS = {  # of smp's encoders that timm does not know by their name, other than IMAGENET
    "inceptionv4": HALVES,
    "inceptionresnetv2": HALVES,
    "xception": HALVES,
}


class ScoreHead(nn.Module):
    """The logit that a photo carries a mark: its strongest patch, and what the scene is like.

    One small mark anywhere must do, so evidence is not averaged over the photo. Richer heads on the
    same features rank photos no better (EXPERIMENTS.md, 2026-11-24).
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
    def rescale(self, scale: float, shift: float) -> None:
        """Makes the score logit `scale * logit + shift`."""
        self.context.weight.mul_(scale)
        self.context.bias.mul_(scale).add_(shift)
        self.evidence.mul_(scale)


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
        mean, std = normalisation(encoder)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last)  # 1.5 times as fast on CPUs

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if (
            image.ndim != 4
            or image.shape[1] != 3
            or image.shape[2] % STRIDE
            or image.shape[3] % STRIDE
        ):
            raise ValueError(
                f"Got a batch of shape {tuple(image.shape)}; it must be N x 3 x H x W with H and W "
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

    def freeze_unused(self) -> None:
        """Takes parameters that no output depends on out of the training.

        Some encoders of smp have such layers, and DDP would wait for their gradients.
        """
        was_training, image = self.training, torch.zeros(1, 3, STRIDE, STRIDE)
        self.eval()
        with torch.enable_grad():
            logits, score = self(image.to(self.mean.device))
            parameters = [p for p in self.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(
                logits.sum() + score.sum(), parameters, allow_unused=True
            )
        for parameter, gradient in zip(parameters, gradients):
            parameter.requires_grad_(gradient is not None)
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
            return smp.encoders.get_encoder(name, weights=weights)
    except (KeyError, RuntimeError) as error:  # smp's and timm's
        raise ValueError(
            f"No encoder {name!r}: {error} Use a name that segmentation-models-pytorch knows."
        ) from error


def normalisation(encoder: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation, of RGB in 0..1, that an encoder of smp expects."""
    name = encoder.removeprefix("timm-").removeprefix("tu-")
    if encoder.startswith("timm-mobilenetv3"):
        name = f"tf_{name}"  # smp takes those for them
    known = timm.models.get_pretrained_cfg(name)
    return (known.mean, known.std) if known else NORMALISATIONS.get(name, IMAGENET)


def load_encoder(encoder: nn.Module, name: str, weights: str | os.PathLike) -> None:
    """Fills an smp encoder with "imagenet" weights, as smp downloads them, or a local file's.

    Raises:
        ConnectionError: "imagenet" was asked and the hub cannot be reached.
        FileNotFoundError, ValueError: the file is missing, or of another encoder.
    """
    choices = "a path to the encoder's .safetensors file, or None for a random start"
    if str(weights) == "imagenet":
        known = smp.encoders.encoders.get(name)
        if known and "imagenet" not in known["pretrained_settings"]:
            raise ValueError(f"smp has no ImageNet weights of {name}; give {choices}.")
        try:
            pretrained = make_encoder(name, weights="imagenet")
        except OSError as error:
            raise ConnectionError(
                f"The ImageNet weights of {name} cannot be downloaded ({type(error).__name__}). "
                f"Without a network, set encoder_weights to {choices}."
            ) from error
        encoder.load_state_dict(pretrained.state_dict())
        return
    if not Path(weights).is_file():
        raise FileNotFoundError(
            f'No encoder weights at {weights}. Give "imagenet" (downloads), {choices}.'
        )
    load_weights(encoder, Path(weights), f"the encoder {name}")


def load_weights(module: nn.Module, path: Path, what: str) -> None:
    """Fills a module from a .safetensors file; ValueError if it is damaged or does not fit."""
    try:
        module.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}.") from error
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold the weights of {what}. {error}") from error


def save_network(network: SegmentationNetwork, folder, half: bool = False) -> None:
    """See `WatermarkSegmenter.save`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT, "version": VERSION, **network.names}
    state = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    save_file(state, folder / f"{WEIGHTS}.part")
    os.replace(folder / f"{WEIGHTS}.part", folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def make_from_config(make: Callable[..., nn.Module], folder) -> nn.Module:
    """make(**names) with the names in a weights folder; raises as `load_network` does."""
    path, _ = check_folder(folder)
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    found = (config.get("format"), config.get("version")) if isinstance(config, dict) else None
    if found in [(FORMAT, older) for older in range(1, VERSION)]:
        raise ValueError(
            f"{path} is of version {found[1]}, whose network this code no longer has: it reads "
            f"version {VERSION}. Train again (README), or use the commit that wrote the folder."
        )
    if found != (FORMAT, VERSION):
        raise ValueError(f"{path} is of {found}, not of {(FORMAT, VERSION)}.")
    missing = [name for name in NETWORK_KEYS if name not in config]
    if missing:
        raise ValueError(f"{path} names no network: it lacks {', '.join(missing)}.")
    try:
        return make(**{name: config[name] for name in NETWORK_KEYS})
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error


def load_network(folder) -> SegmentationNetwork:
    """The network in a folder, in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: the folder or one of its two files is missing.
        ValueError: a file is damaged, or of another program or network.
    """
    network = make_from_config(SegmentationNetwork, folder)
    load_weights(network, Path(folder) / WEIGHTS, f"the network in {CONFIG}")
    return network.eval()


def bf16_is_fast(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 natively; elsewhere autocast only slows things down."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    # AVX512-BF16 alone does not pay: 11.5 instead of 14.3 samples/s in training (EXPERIMENTS.md).
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16"))


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
