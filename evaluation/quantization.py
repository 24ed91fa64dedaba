"""Converts the network to 8-bit integers for OpenVINO: faster on a CPU, and nearly as accurate.

Most convolutions compute with integers, whose ranges come from training samples. The first
convolutions and the two heads stay in floats: in integers they make the masks worse (log 26).
"""

import logging
import os
from pathlib import Path

import numpy as np

from dataset import WatermarkSettings, make_datasets
from inference.folder import INT8, check_folder
from inference.openvino_backend import (
    MADE_OF,
    files_hash,
    import_openvino,
    openvino_core,
    openvino_network,
    write_network,
)

SAMPLE_PX = 384  # side of a sample
FIRST = 3  # number of first convolutions that stay in floats
HEADS = ".*(mask_head|score_head).*"


def quantize(folder, folders, count: int, seed: int) -> str:
    """Writes `int8.xml` and `int8.bin` into a weights folder, for the backend openvino-int8.

    Args:
        folders: folders of photos, of logos and of fonts, as `dataset.make_datasets` takes them.
        count: number of samples.

    Returns:
        A message about what was written.
    """
    _, weights = check_folder(folder)
    paths = [Path(folder) / name for name in INT8]
    try:
        import_openvino()  # NNCF does not install it
        nncf = import_openvino("nncf")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"Two packages are missing: pip install openvino nncf ({error})."
        ) from error
    nncf.set_log_level(logging.WARNING)
    settings = WatermarkSettings(image_size=SAMPLE_PX)
    data = make_datasets(*folders, settings, train_length=count, seed=seed)[0]
    network, _ = openvino_network(openvino_core(), Path(folder))
    convolutions = [op for op in network.get_ordered_ops() if "Convolution" in op.get_type_name()]
    names = [op.get_friendly_name() for op in convolutions[:FIRST]]
    quantized = nncf.quantize(
        network,
        nncf.Dataset(range(count), lambda index: data[index]["image"].numpy()[np.newaxis]),
        preset=nncf.QuantizationPreset.MIXED,  # activations may be negative
        subset_size=count,
        ignored_scope=nncf.IgnoredScope(names=names, patterns=[HEADS]),
    )
    quantized.set_rt_info(files_hash(weights), MADE_OF)
    write_network(quantized, paths[0])
    size_mb = sum(map(os.path.getsize, paths)) / 1e6
    return f"{paths[0]} and its .bin, {size_mb:.1f} MB, from {count} samples"
