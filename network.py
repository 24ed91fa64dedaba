"""The network, the devices it runs on, and the folder that holds a trained one."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from inference import STRIDE
from runtime import CONFIG, WEIGHTS, check_folder

COARSE_CHANNELS = 8  # of the decoder's output, which the full-size image refines
REFINE_CHANNELS = 16
EVIDENCE_PX = 8  # side of the patches whose mean probability counts for the score
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMAT, VERSION = "watermark-segmentation", 2
NETWORK_KEYS = ("architecture", "encoder", "decoder_channels")


class SegmentationNetwork(nn.Module):
    """An smp model that takes plain RGB and returns mask logits and a score logit.

    An smp decoder sees the photo at half its size or less, so that thin letters run together. Two
    convolutions at full size, which see the photo itself, correct its logits.
    """

    def __init__(self, architecture: str, encoder: str, decoder_channels: Sequence[int] | None):
        """See `model.WatermarkSegmenter`; ValueError if smp does not know the names."""
        super().__init__()
        self.names = dict(zip(NETWORK_KEYS, (architecture, encoder, decoder_channels)))
        options = {"decoder_channels": tuple(decoder_channels)} if decoder_channels else {}
        head = {"classes": 1, "pooling": "max", "dropout": None}
        try:
            self.model = smp.create_model(
                architecture, encoder, None, classes=COARSE_CHANNELS, aux_params=head, **options
            )
        except KeyError as error:
            raise ValueError(
                f"No network of architecture {architecture!r} and encoder {encoder!r}: {error}. "
                "Use names that segmentation-models-pytorch knows."
            ) from error
        self.refine = nn.Sequential(
            nn.Conv2d(COARSE_CHANNELS + 3, REFINE_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(REFINE_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(REFINE_CHANNELS, 1, 3, padding=1),
        )
        self.evidence_weight = nn.Parameter(torch.tensor(5.0))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
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
        image = image.to(self.refine[0].weight.dtype, memory_format=torch.channels_last)
        coarse, context = self.model(image)  # N x COARSE_CHANNELS x H x W, N x 1
        logits = coarse[:, :1] + self.refine(torch.cat([coarse, image], 1))
        logits, context = logits.float(), context[:, 0].float()  # N x 1 x H x W, N
        # The score rests on the strongest patch of the mask: one small mark anywhere must do.
        evidence = avg_pool2d(logits.sigmoid(), EVIDENCE_PX).amax((1, 2, 3))  # N
        return logits, context + self.evidence_weight * evidence

    @torch.no_grad()
    def rescale_score(self, scale: float, shift: float) -> None:
        """Makes the score logit `scale * logit + shift`."""
        linear = next(m for m in self.model.classification_head if isinstance(m, nn.Linear))
        linear.weight.mul_(scale)
        linear.bias.mul_(scale).add_(shift)
        self.evidence_weight.mul_(scale)


def load_encoder(encoder: nn.Module, name: str, weights: str | os.PathLike) -> None:
    """Fills an smp encoder with "imagenet" weights, as smp downloads them, or a local file's.

    Raises:
        ConnectionError: "imagenet" was asked and the hub cannot be reached.
        FileNotFoundError, ValueError: the file is missing, or of another encoder.
    """
    choices = "a path to the encoder's .safetensors file, or None for a random start"
    if str(weights) == "imagenet":
        try:
            pretrained = smp.encoders.get_encoder(name, weights="imagenet")
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
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


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
