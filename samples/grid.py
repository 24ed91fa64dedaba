"""A picture of samples, to see what a change of the settings did."""

import cv2
import numpy as np
from torch.utils.data import Dataset

ROWS, COLUMNS, CELL_PX = 6, 6, 192


def write_grid(data: Dataset, path, before=None) -> None:
    """Writes the first samples of a `dataset.WatermarkDataset` as one picture.

    Args:
        path: of the picture, PNG or JPEG.
        before: an older grid. It is shown at the left, the new one at the right.
    """
    cells = [data.stages((0, i % len(data)))["image"] for i in range(ROWS * COLUMNS)]
    cells = [cv2.resize(cell, [CELL_PX] * 2, interpolation=cv2.INTER_AREA) for cell in cells]
    grid = np.vstack([np.hstack(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)])
    if before is not None:
        old = cv2.imread(str(before), cv2.IMREAD_COLOR_RGB)
        if old is None or old.shape[0] != grid.shape[0]:
            raise ValueError(f"{before} is no grid. Draw one first: python dataset.py --grid FILE")
        gap = np.full((len(grid), CELL_PX // 8, 3), 255, np.uint8)
        grid = np.hstack([old[:, : grid.shape[1]], gap, grid])
    if not cv2.imwrite(str(path), grid[..., ::-1]):
        raise OSError(f"{path} cannot be written. Check the folder.")
