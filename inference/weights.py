"""Weights on disk: a trained network's folder, an encoder's file."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from inference.folder import CONFIG, WEIGHTS, check_folder
from inference.network import NETWORK_KEYS, SegmentationNetwork, make_encoder

FORMAT, VERSION = "watermark-segmentation", 3


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
        found = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}.") from error
    wanted = module.state_dict()
    shapes = [{name: tuple(value.shape) for name, value in s.items()} for s in (found, wanted)]
    wrong = sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()})
    if wrong:
        there, here = (table.get(wrong[0], "missing") for table in shapes)
        raise ValueError(
            f"{path} does not hold the weights of {what}: {len(wrong)} tensors differ, such as "
            f"{wrong[0]}, {there} there and {here} here."
        )
    module.load_state_dict(found)


def save_network(network: SegmentationNetwork, folder, half: bool = False) -> None:
    """See `SavedModel.save`."""
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


def check_same_network(saved: dict, own) -> None:
    """Raises ValueError unless settings of a checkpoint and of a model are of the same network."""
    if not set(NETWORK_KEYS) <= set(saved):
        raise ValueError(
            "The checkpoint is of a network that this code no longer has. Start from trained "
            "weights instead (--init_from), or use the commit that wrote it."
        )
    for name in NETWORK_KEYS:
        one, other = (np.array(values.get(name)) for values in (saved, own))
        if not np.array_equal(one, other):
            raise ValueError(
                f"The checkpoint's {name} is {one.tolist()}, this model's is {other.tolist()}. "
                f"Give --model.{name} as in the run that wrote it (config.yaml in its folder)."
            )
