"""Samples to tensors and batches, shared out among the processes of a training."""

import math

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from inference.segmenter import recompressed
from samples import IGNORE

MIN_MARK_PIXELS = 16  # fewer mask pixels than this do not make a marked photo


def split_index(index: int | tuple[int, int], length: int) -> tuple[int, int]:
    """(epoch, index) of a dataset's index, which may be both; IndexError beyond its length."""
    epoch, index = index if isinstance(index, tuple) else (0, index)
    if not 0 <= index < length:
        raise IndexError(f"index {index} is out of range 0..{length - 1}")
    return epoch, index


def image_label(mask: np.ndarray) -> int:
    """Whether the photo carries a visible mark: 1, 0, or IGNORE for a mark too faint or small."""
    if np.count_nonzero(mask == 1) >= MIN_MARK_PIXELS:
        return 1
    return IGNORE if mask.any() else 0


def to_tensors(image: np.ndarray, mask: np.ndarray) -> dict[str, torch.Tensor]:
    """A sample of `WatermarkDataset` from image (uint8, S x S x 3) and mask (uint8, S x S).

    The image is the JPEG that the network is given of every view (`segmenter.recompressed`).
    """
    return {
        "image": torch.from_numpy(recompressed(image)).permute(2, 0, 1).contiguous(),
        "mask": torch.from_numpy(mask)[None],
        "label": torch.tensor(image_label(mask), dtype=torch.uint8),
    }


class PaddedDataset(Dataset):
    """A dataset and, from its end on, samples without weight: mask and label are all IGNORE."""

    def __init__(self, data: Dataset):
        self.data = data

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index < len(self.data):
            return self.data[index]
        sample = self.data[0]
        ignored = {name: torch.full_like(sample[name], IGNORE) for name in ("mask", "label")}
        return {**sample, **ignored}


class FreshSampler(Sampler):
    """Indices (epoch, 0), (epoch, 1), ...: new samples each epoch. Lightning calls `set_epoch`.

    Under several processes each takes its own share, of the same size for all. Samples of one crop
    stay in one process.
    """

    def __init__(self, length: int, marks_per_crop: int = 1):
        self.rank, self.processes = _rank()
        self.together, self.epoch = marks_per_crop, 0
        self.length = length // (self.processes * self.together) * self.together

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self):
        for i in range(self.length):
            crop, mark = divmod(i, self.together)
            yield self.epoch, (self.rank + crop * self.processes) * self.together + mark


def _rank() -> tuple[int, int]:
    """(number of this process, number of processes), (0, 1) unless training is distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _one_thread(worker_id: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism


def make_loader(dataset, batch_size: int, workers: int = 0, train: bool = False) -> DataLoader:
    """Batches of a dataset: fresh samples each epoch to train on, the same ones to validate.

    Under several processes `batch_size` is that of each, and each gets equally many samples: they
    wait for each other. A rest that cannot be shared is left out of training; in validation samples
    without weight (`PaddedDataset`) fill it up, so that each sample counts once.
    """
    rank, processes = _rank()
    together = getattr(dataset, "marks_per_crop", 1)
    sampler = FreshSampler(len(dataset), together)
    if train and len(sampler) < batch_size:
        raise ValueError(
            f"{len(dataset)} training samples, {together} for each crop, do not fill one batch of "
            f"{batch_size} for each of {processes} processes; use a smaller batch_size or more "
            "samples."
        )
    filled = math.ceil(len(dataset) / processes) * processes
    return DataLoader(
        dataset if train else PaddedDataset(dataset),
        batch_size,
        sampler=sampler if train else range(rank, filled, processes),
        num_workers=workers,
        drop_last=train,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        pin_memory=torch.cuda.is_available(),
    )
