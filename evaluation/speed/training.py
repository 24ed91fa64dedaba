"""Images a second of a training: on real data, against steps on one cached batch."""

import logging
import time
import warnings
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback

from evaluation.speed.data import ENDLESS, training_samples
from evaluation.speed.photos import photo_folder
from evaluation.speed.timing import alternate, report
from inference.devices import best_device, best_precision
from model import WatermarkSegmenter
from samples.loading import make_loader

WARM_UP_STEPS = 2  # of a training: they allocate memory and choose kernels


def training_batches(folder: Path, options):
    """Those of train.py."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")  # advises more workers
    samples = training_samples(folder, options.size)
    return make_loader(samples, options.batch_size, options.workers, train=True)


def training_rate(model, loader, seconds: float) -> float:
    """Images/s of a Trainer, set up as train.py does, over `seconds` after WARM_UP_STEPS."""
    start_s, passed_s, images = 0.0, 0.0, 0

    def count(trainer, model, outputs, batch, number):
        nonlocal start_s, passed_s, images
        images += len(batch["image"]) if number >= WARM_UP_STEPS else 0
        trainer.should_stop = images > 0 and time.perf_counter() - start_s >= seconds
        if torch.accelerator.is_available() and (trainer.should_stop or not images):
            torch.accelerator.synchronize()  # only at both ends: a training does not wait either
        start_s = start_s if images else time.perf_counter()
        passed_s = time.perf_counter() - start_s

    trainer = Trainer(
        devices=1, precision=best_precision(), use_distributed_sampler=False, max_epochs=1,
        min_epochs=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[LambdaCallback(on_train_batch_end=count)],
    )  # fmt: skip
    trainer.fit(model, loader)
    return images / passed_s


def benchmark_training(options) -> dict:
    """Images/s on real data, against the same steps on one batch that lies on the device."""
    with photo_folder(options.photos) as folder:
        batches, model = training_batches(folder, options), WatermarkSegmenter()
        batch = next(iter(make_loader(batches.dataset, options.batch_size)))
        batch = {name: value.to(best_device()) for name, value in batch.items()}
        cached = torch.utils.data.DataLoader([batch] * ENDLESS, batch_size=None)
        tasks = {
            "cached batch": lambda _: training_rate(model, cached, options.seconds),
            "real data": lambda _: training_rate(model, batches, options.seconds),
        }
        rates = alternate(tasks, options.repeats)
    setup = {name: getattr(options, name) for name in ("size", "batch_size", "workers")}
    setup |= {"device": str(best_device()), "precision": best_precision()}
    print(", ".join(f"{name} {value}" for name, value in setup.items()))
    rows = report(rates, "cached batch", "images/s")
    rate, ratio = rows["real data"]
    return dict(images_per_s=rate, cached_per_s=rows["cached batch"][0], ratio=ratio, **setup)
