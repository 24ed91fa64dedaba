"""The mean of the weights of several networks.

It is better than each of them if one was trained from the other (log 22).
Source: Wortsman et al., "Model soups", arXiv:2203.05482.
"""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from torch.optim.swa_utils import AveragedModel

from inference.weights import load_network, save_network
from samples.splits import TRAINED_ON, merge_manifests, read_manifest, write_manifest


def average(folders: Sequence, output: Path) -> str:
    """Writes the mean of the weights in `folders`, and a manifest of their training files.

    Args:
        folders: two or more weights folders. A folder that is given twice weighs twice.
        output: the folder to write to. It may be one of `folders`.

    Returns:
        A message about what was written.
    """
    if len(folders) < 2:
        raise ValueError(f"A mean needs two folders or more, but only {folders[0]} was given.")
    networks = [load_network(folder) for folder in folders]
    mean = AveragedModel(networks[0], use_buffers=True)
    for folder, network in zip(folders, networks):
        if network.names != networks[0].names:
            raise ValueError(
                f"{folder} holds the network {network.names}, but {folders[0]} holds "
                f"{networks[0].names}. Only weights of the same network have a mean."
            )
        mean.update_parameters(network)
    lists = [Path(folder) / TRAINED_ON for folder in folders]
    without = [str(path.parent) for path in lists if not path.is_file()]
    manifests = [] if without else list(map(read_manifest, lists))  # before `output` is written
    save_network(mean.module, output)
    message = f"{output}: the mean of {len(folders)} networks"
    if manifests:
        write_manifest(reduce(merge_manifests, manifests), output / TRAINED_ON)
        return message
    (output / TRAINED_ON).unlink(missing_ok=True)
    return f"{message}. Nobody knows its training files: no {TRAINED_ON} in {', '.join(without)}."
