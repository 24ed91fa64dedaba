"""Writes a grid of samples, which shows what a change of the settings does."""

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.functional import resize
from torchvision.utils import make_grid

from inference.reading import read_image

COUNT, COLUMNS, CELL_PX = 36, 6, 192


def write_grid(data: Dataset, path, before=None) -> None:
    """Writes the first COUNT samples of a `dataset.WatermarkDataset` as one picture.

    Args:
        path: of the picture, PNG or JPEG.
        before: an older grid, shown at the left of the new one.
    """
    images = torch.stack([data[divmod(i, len(data))]["image"] for i in range(COUNT)])
    grid = make_grid(resize(images, [CELL_PX] * 2), COLUMNS, pad_value=255)
    grid = grid.permute(1, 2, 0).numpy()
    if before is not None:
        old = read_image(before)
        if old.shape[0] != len(grid):
            raise ValueError(f"{before} is no grid. Draw one first: python dataset.py --grid FILE")
        grid = np.hstack([old[:, : grid.shape[1]], grid])
    Image.fromarray(grid).save(path)
