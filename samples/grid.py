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
    size = (CELL_PX, CELL_PX)
    cells = [data.stages((0, i % len(data)))["image"] for i in range(ROWS * COLUMNS)]
    cells = [cv2.resize(cell, size, interpolation=cv2.INTER_AREA) for cell in cells]
    rows = [cv2.hconcat(cells[i : i + COLUMNS]) for i in range(0, len(cells), COLUMNS)]
    grid = cv2.cvtColor(cv2.vconcat(rows), cv2.COLOR_RGB2BGR)
    if before is not None:
        old = cv2.imread(str(before))
        if old is None or old.shape[0] != grid.shape[0]:
            raise ValueError(f"{before} is no grid. Draw one first: python dataset.py --grid FILE")
        gap = np.full((len(grid), CELL_PX // 8, 3), 255, np.uint8)
        grid = cv2.hconcat([old[:, : grid.shape[1]], gap, grid])
    if not cv2.imwrite(str(path), grid):
        raise OSError(f"{path} cannot be written. Check the folder.")
