"""Turns samples into tensors and batches, and divides them among the processes of a training."""

import math

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from inference.segmenter import recompressed
from samples import IGNORE

MIN_MARK_PIXELS = 16  # a photo with fewer mask pixels does not count as marked


def split_index(index: int | tuple[int, int], length: int) -> tuple[int, int]:
    """The index as (epoch, index); an index alone is of epoch 0. IndexError if out of range."""
    epoch, index = index if isinstance(index, tuple) else (0, index)
    if not 0 <= index < length:
        raise IndexError(f"index {index} is out of range 0..{length - 1}")
    return epoch, index


def image_label(mask: np.ndarray) -> int:
    """1 if the mask shows a mark, 0 if it is empty, IGNORE if the mark is too faint or small."""
    if np.count_nonzero(mask == 1) >= MIN_MARK_PIXELS:
        return 1
    return IGNORE if mask.any() else 0


def to_tensors(image: np.ndarray, mask: np.ndarray) -> dict[str, torch.Tensor]:
    """A sample of `WatermarkDataset` from image (uint8, S x S x 3) and mask (uint8, S x S).

    `recompressed` saves the image as JPEG, as `segment` does before the network gets it.
    """
    return {
        "image": torch.from_numpy(recompressed(image)).permute(2, 0, 1).contiguous(),
        "mask": torch.from_numpy(mask)[None],
        "label": torch.tensor(image_label(mask), dtype=torch.uint8),
    }


class PaddedDataset(Dataset):
    """A dataset that goes on after its end with samples whose mask and label are IGNORE."""

    def __init__(self, data: Dataset):
        self.data = data

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if index < len(self.data):
            return self.data[index]
        sample = self.data[0]
        ignored = {name: torch.full_like(sample[name], IGNORE) for name in ("mask", "label")}
        return {**sample, **ignored}


class FreshSampler(Sampler):
    """Gives the indices (epoch, 0), (epoch, 1), ... Each epoch has new samples.

    Lightning calls `set_epoch`. In distributed training, every process gets a share of its own, all
    of the same size. Samples of one crop stay in one process.
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
    cv2.setNumThreads(0)  # the worker processes already use all cores


def make_loader(dataset, batch_size: int, workers: int = 0, train: bool = False) -> DataLoader:
    """Batches of a dataset. Training gets new samples in each epoch, validation always the same.

    In distributed training, `batch_size` is that of one process, and all processes get equally many
    samples. Training leaves out a remainder. Validation fills it up with `PaddedDataset`, so that
    every sample counts once.
    """
    rank, processes = _rank()
    together = getattr(dataset, "marks_per_crop", 1)
    sampler = FreshSampler(len(dataset), together)
    if train and len(sampler) < batch_size:
        raise ValueError(
            f"{len(dataset)} training samples, {together} for each crop, do not fill one batch of "
            f"{batch_size} for each of {processes} processes. Use a smaller batch_size or more "
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
