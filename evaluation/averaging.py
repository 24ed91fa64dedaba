"""The mean of several trained networks: points of one training, or of one and its start.

Their mean is better than each of them, as long as one grew out of the other (docs/log, 22).
Source: Wortsman et al., "Model soups", arXiv:2203.05482.
"""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from torch.optim.swa_utils import AveragedModel

from inference.weights import load_network, save_network
from samples.splits import TRAINED_ON, merge_manifests, read_manifest, write_manifest


def average(folders: Sequence, output: Path) -> str:
    """Writes the mean of weights folders to a folder, and what any of them was trained on.

    Args:
        folders: two or more; one that is given twice weighs twice.
        output: made if missing, weights in it are replaced.

    Returns:
        A sentence that says what was written.
    """
    if len(folders) < 2:
        raise ValueError(f"A mean needs two folders or more; only {folders[0]} was given.")
    networks = [load_network(folder) for folder in folders]
    mean = AveragedModel(networks[0], use_buffers=True)
    for folder, network in zip(folders, networks):
        if network.names != networks[0].names:
            raise ValueError(
                f"{folder} holds the network {network.names}, {folders[0]} holds "
                f"{networks[0].names}: only weights of the same network have a mean."
            )
        mean.update_parameters(network)
    lists = [Path(folder) / TRAINED_ON for folder in folders]
    silent = [str(path.parent) for path in lists if not path.is_file()]
    manifests = [] if silent else list(map(read_manifest, lists))  # `output` may be one of them
    save_network(mean.module, output)
    said = f"{output}: the mean of {len(folders)} networks"
    if manifests:
        write_manifest(reduce(merge_manifests, manifests), output / TRAINED_ON)
        return said
    (output / TRAINED_ON).unlink(missing_ok=True)
    return f"{said}; what it was trained on is unknown: no {TRAINED_ON} in {', '.join(silent)}"
