"""The files of a weights folder. PyTorch is not imported here."""

import os
from pathlib import Path

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights"
CONFIG, WEIGHTS = "config.json", "model.safetensors"  # the files of a weights folder
INT8 = "int8.xml", "int8.bin"  # files of the quantized network (optional)


def check_writable(folder) -> None:
    """Raises PermissionError if nothing can be written into a weights folder."""
    for path in (Path(folder), check_folder(folder)[0]):
        if not os.access(path, os.W_OK):
            raise PermissionError(f"{path} is read-only: copy the folder to where you may write.")


def check_folder(folder) -> tuple[Path, Path]:
    """The two files of a weights folder; FileNotFoundError if one is missing."""
    for name in (CONFIG, WEIGHTS):
        if not (Path(folder) / name).is_file():
            raise FileNotFoundError(
                f"No {name} in {folder}. Give a folder of weights, such as "
                "lightning_logs/version_0/weights."
            )
    return Path(folder) / CONFIG, Path(folder) / WEIGHTS
