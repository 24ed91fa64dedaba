"""A model on disk and on a hub: two files, `config.json` and `model.safetensors`, and no pickle."""

import tempfile
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HTTPError

from inference.folder import CONFIG, SHIPPED_WEIGHTS, WEIGHTS
from inference.weights import make_from_config, save_network

FILES = [CONFIG, WEIGHTS]


class SavedModel:
    """Mixed into a module with a `network` and `start_from`: saves and loads it.

    The hub's two methods save and load a folder, as `save` and `load` do, and move it.
    """

    def save(self, folder, half: bool = False) -> None:
        """Writes `config.json` and `model.safetensors`, which `load` reads.

        Args:
            folder: created if missing; an older model there is replaced. Other files stay, such as
                `trained_on.json`, which lists what an older one was trained on.
            half: store float16, half the size; outputs then differ in the third decimal.
        """
        save_network(self.network, folder, half)

    @classmethod
    def load(cls, folder=SHIPPED_WEIGHTS, **settings):
        """The model in a folder that `save` wrote, on the CPU, ready to segment or to train on.

        Args:
            folder: by default the weights that come with this repository.
            settings: training arguments of the constructor, such as learning_rate.

        Raises:
            FileNotFoundError: the folder or one of its two files is missing.
            ValueError: a file is damaged, or of another program or network.
        """
        model = make_from_config(partial(cls, **settings), folder)
        model.start_from(Path(folder) / WEIGHTS, f"the network in {CONFIG}")
        return model.eval()

    @classmethod
    def from_pretrained(cls, name_or_folder, revision: str | None = None, **settings):
        """The model in a folder, or of a name on a hub, from which it is downloaded once.

        Args:
            name_or_folder: "owner/name", or a folder that `save` wrote; a folder wins.
            revision: branch, tag or commit on the hub; None: its main branch.
            settings: see `load`.

        Raises:
            FileNotFoundError, ValueError: see `load` and `find_folder`.
        """
        return cls.load(find_folder(name_or_folder, revision), **settings)

    def push_to_hub(
        self, name: str, half: bool = False, private: bool | None = None, token: str | None = None
    ) -> str:
        """Uploads what `save` writes to a hub; returns the address of the commit.

        Args:
            name: "owner/name"; created if missing.
            half: see `save`.
            private: whether a repository that is created here is; None: as its owner has set.
            token: of the hub; None: the one that `hf auth login` keeps.

        Raises:
            ConnectionError: the hub cannot be reached or refuses.
        """
        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder, half)
            try:
                api.create_repo(name, private=private, exist_ok=True)
                return api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=FILES)
            except (OSError, HTTPError) as error:
                raise ConnectionError(
                    f"{name} cannot be uploaded ({_reason(error)}). Check the name and the "
                    "network, unset HF_HUB_OFFLINE, and log in once: hf auth login."
                ) from error


def find_folder(name_or_folder, revision: str | None = None) -> Path:
    """The folder of a model: as given, or of a hub's name in the hub's cache, downloaded if needed.

    Raises:
        ValueError: neither a folder nor a name, or a folder with a revision.
        FileNotFoundError: no such folder, and the hub has no such model or cannot be reached.
    """
    if Path(name_or_folder).is_dir():
        if revision is not None:
            raise ValueError(
                f"{name_or_folder} is a local folder, which has no revision {revision}. Leave the "
                "revision out, or give a name on the hub."
            )
        return Path(name_or_folder)
    try:
        found = snapshot_download(str(name_or_folder), revision=revision, allow_patterns=FILES)
    except (OSError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else FileNotFoundError
        raise kind(
            f"{name_or_folder} is no folder here, nor can it be had from the hub "
            f"({_reason(error)}). Give a folder that `save` wrote, or an owner/name and, if any, "
            "a revision that exist there. Without a network: download it where there is one, "
            f"hf download {name_or_folder} {' '.join(FILES)} --local-dir DIR, and give DIR."
        ) from error
    return Path(found)


def _reason(error: Exception) -> str:
    """The kind of an error of the hub's library, and its first line."""
    first, *_ = str(error).strip().split("\n")
    return f"{type(error).__name__}: {first}"
