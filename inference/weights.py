"""Saves and loads trained weights: `config.json` and `model.safetensors` in a folder or on the
Hugging Face Hub, or the .safetensors file of an encoder."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from huggingface_hub import ModelHubMixin, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from inference.folder import CONFIG, SHIPPED_WEIGHTS, WEIGHTS, check_folder
from inference.network import NETWORK_KEYS, SegmentationNetwork, make_encoder

FORMAT, VERSION = "watermark-segmentation", 3
HUB_OPTIONS = "revision", "cache_dir", "force_download", "local_files_only", "token"


class SavedModel(ModelHubMixin, library_name=FORMAT, pipeline_tag="image-segmentation"):
    """Adds saving and loading to a module with a `network`.

    `from_pretrained("OWNER/NAME")` and `push_to_hub("OWNER/NAME")` are huggingface_hub's.
    `push_to_hub` also uploads a new model card; ignore_patterns=["README.md"] keeps the old one.
    For half precision, call `save(folder, half=True)` and run `hf upload OWNER/NAME folder`.
    """

    def save(self, folder, half: bool = False) -> None:
        """Writes `config.json` and `model.safetensors`, which `load` reads.

        Args:
            folder: created if missing. An older model in it is replaced; other files stay.
            half: store float16: half the size; outputs differ in the third decimal.
        """
        save_network(self.network, folder, half)

    @classmethod
    def load(cls, folder=SHIPPED_WEIGHTS, **settings):
        """The model in a folder that `save` wrote, on the CPU, in evaluation mode.

        Args:
            folder: by default the weights of this repository.
            settings: training arguments of the constructor, such as learning_rate.

        Raises:
            FileNotFoundError: the folder or one of its two files is missing.
            ValueError: a file is damaged, or belongs to another program or network.
        """
        model = make_from_config(partial(cls, **settings), folder)
        load_weights(model.network, Path(folder) / WEIGHTS, f"the network in {CONFIG}")
        return model.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id, **settings):
        hub = {name: settings.pop(name) for name in HUB_OPTIONS}
        if not Path(model_id).is_dir():
            model_id = snapshot_download(model_id, allow_patterns=[CONFIG, WEIGHTS], **hub)
        return cls.load(model_id, **settings)


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


def load_network(folder) -> SegmentationNetwork:
    """The network in a folder, on the CPU, in evaluation mode; raises as `SavedModel.load`."""
    network = make_from_config(SegmentationNetwork, folder)
    load_weights(network, Path(folder) / WEIGHTS, f"the network in {CONFIG}")
    return network.eval()


def make_from_config(make: Callable[..., nn.Module], folder) -> nn.Module:
    """Calls make(encoder=..., ...) with the config of a folder; the weights are random.

    Raises:
        FileNotFoundError, ValueError: see `SavedModel.load`.
    """
    path, _ = check_folder(folder)
    try:
        config = dict(json.loads(path.read_text()))
        if (config["format"], config["version"]) != (FORMAT, VERSION):
            raise ValueError(f"it is of {config['format']}, version {config['version']}")
        return make(**{name: config[name] for name in NETWORK_KEYS})
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be used ({type(error).__name__}: {error}). This code reads {FORMAT}, "
            f"version {VERSION}. Use the commit that wrote the folder, or train again (README)."
        ) from error


def load_weights(module: nn.Module, path: Path, what: str) -> None:
    """Loads a .safetensors file into a module.

    Args:
        what: name of the module in the error message.

    Raises:
        ValueError: the file is damaged, or its tensors are not those of the module.
    """
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}.") from error
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        _, *differences = str(error).splitlines()
        raise ValueError(
            f"{path} does not hold the weights of {what}: {' '.join(differences)[:200].strip()}"
        ) from error


def load_encoder(encoder: nn.Module, name: str, weights: str | os.PathLike) -> None:
    """Loads weights into an encoder of smp.

    Args:
        weights: "imagenet", which smp downloads, or a .safetensors file.

    Raises:
        ConnectionError: the download failed.
        FileNotFoundError, ValueError: the file is missing, or is for another encoder.
    """
    choices = "a path to the encoder's .safetensors file, or None for a random start"
    if str(weights) == "imagenet":
        try:
            pretrained = make_encoder(name, weights="imagenet")
        except OSError as error:
            raise ConnectionError(
                f"The ImageNet weights of {name} cannot be downloaded ({type(error).__name__}). "
                f"Without a network, set encoder_weights to {choices}."
            ) from error
        encoder.load_state_dict(pretrained.state_dict())
    elif Path(weights).is_file():
        load_weights(encoder, Path(weights), f"the encoder {name}")
    else:
        raise FileNotFoundError(
            f'No encoder weights at {weights}. Give "imagenet" (downloads), {choices}.'
        )


def check_same_network(saved: dict, own) -> None:
    """Raises ValueError if a checkpoint's network settings differ from those of a model."""
    for name in NETWORK_KEYS:
        one, other = (np.array(values.get(name)).tolist() for values in (saved, own))
        if one != other:
            raise ValueError(
                f"The checkpoint's {name} is {one}, this model's is {other}. Give --model.{name} "
                "as in the run that wrote it (config.yaml in its folder). A checkpoint with None "
                "is of a network that this code no longer has: start from weights (--init_from)."
            )
