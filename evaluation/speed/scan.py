"""Images a second of `batch.scan` with one and two actors, against a plain loop; and its memory."""

import io
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
from PIL import Image

from batch.look import Found, decode, open_image, predict_by_size
from batch.scan import ScanOptions, check_ray, scan, session
from batch.scanner import row_of
from evaluation.speed.memory import growth_mb
from evaluation.speed.photos import photo_folder
from evaluation.speed.timing import alternate, memory_mb, rate_per_s, report
from inference.runtime import load_segmenter
from samples.files import find_images

SMALL_PX = (160, 120)  # width, height of the images
ACTORS = (1, 2)  # with one core each
LOOP_SHARDS = 4  # that the loop goes through: its rate does not depend on their number
STAGED = 64  # images whose stages are timed apart
READ_EVERY_S = 0.5  # memory, and not before the caches of the first shards are full


def write_shards(folder: Path, photos: list, count: int, shards: int) -> list[Path]:
    """.tar shards as img2dataset writes them: crops of the photos (uint8, H x W x 3, RGB)."""
    paths = [folder / f"{number:05}.tar" for number in range(shards)]
    (width, height), each = SMALL_PX, -(-count // shards)
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as archive:
            for index in range(number * each, min(count, (number + 1) * each)):
                photo = photos[index % len(photos)]
                x = index * 37 % max(1, photo.shape[1] - width)
                y = index * 23 % max(1, photo.shape[0] - height)
                crop = cv2.cvtColor(photo[y : y + height, x : x + width], cv2.COLOR_RGB2BGR)
                add(archive, f"{index:09}.jpg", cv2.imencode(".jpg", crop)[1].tobytes())
                add(archive, f"{index:09}.json", b'{"index": %d}' % index)
    return paths


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def images_of(path: Path) -> list[bytes]:
    with tarfile.open(path) as archive:
        return [archive.extractfile(one).read() for one in archive if one.name.endswith(".jpg")]


def loop_rate(segmenter, paths: list[Path]) -> float:
    """Images/s of what one would write without `batch`: one image after the other, no rows."""
    images = [data for path in paths for data in images_of(path)]
    return rate_per_s(lambda data: segmenter.segment(Image.open(io.BytesIO(data))), images)


def stage_rates(segmenter, images: list[bytes]) -> dict[str, float]:
    """Images that one core decodes, sees through the network and turns to rows, per CPU second."""
    photos, options = [decode(open_image(data)) for data in images], ScanOptions(min_score=0)
    with segmenter.predicting(1) as predict:
        answers = predict_by_size(photos, predict)
        found = [Found(photo, *answer, seconds=0) for photo, answer in zip(photos, answers)]
        stages = {
            "decode": lambda i: decode(open_image(images[i])),
            "network": lambda i: predict_by_size([photos[i]], predict),
            "rows": lambda i: row_of(found[i], options),
        }
        rates = {}
        for name, stage in stages.items():
            start_s = time.process_time()
            for i in range(len(images)):
                stage(i)
            rates[name] = round(len(images) / (time.process_time() - start_s), 1)
    print(f"{photos[0].shape[1]} x {photos[0].shape[0]} px, by one core:", end=" ")
    print(", ".join(f"{name} {rate:.0f} images/s" for name, rate in rates.items()))
    return rates


@contextmanager
def watched(readings: list[float], rows: Path) -> Iterator[None]:
    """Adds what all actors together hold, MB, once the first shards are done."""
    done = threading.Event()

    def watch():
        while not done.wait(READ_EVERY_S):
            if len(list(rows.glob("*.parquet"))) >= max(ACTORS):
                readings.append(sum(memory_mb("VmRSS", pid) for pid in actor_pids()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def actor_pids() -> list[int]:
    """Of Ray's processes that scan shards, as Linux names them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if name.startswith(b"ray::") and b"ShardScanner" in name:
            found.append(int(path.parent.name))
    return found


def scan_rate(source: Path, output: Path, actors: int, readings: list[float]) -> float:
    """Images/s from the begin of the first shard to the end of the last one."""
    with watched(readings, output / "rows"):
        summary = scan(str(source), str(output), ScanOptions(actors=actors, cpus_per_actor=1))
    print(summary)
    return summary.images_per_s


def benchmark_scan(options) -> dict:
    """Images/s of `scan` with default settings, against `loop_rate`; growth of its actors."""
    check_ray(None)
    segmenter, readings = load_segmenter(), {actors: [] for actors in ACTORS}
    with tempfile.TemporaryDirectory() as work, photo_folder(options.photos) as folder:
        source = Path(work) / "in"
        source.mkdir()
        photos = [file.read() for file in find_images(folder)[:64]]
        paths = write_shards(source, photos, options.count, options.shards)
        segmenter.segment(photos[0])  # what only the first call costs
        whole = [file.path.read_bytes() for file in find_images(folder)[:STAGED]]
        small = images_of(paths[0])[:STAGED]
        stages = {"small": stage_rates(segmenter, small), "whole": stage_rates(segmenter, whole)}
        tasks = {"loop": lambda _: loop_rate(segmenter, paths[:LOOP_SHARDS])}
        for actors in ACTORS:
            tasks[f"scan, actors: {actors}"] = lambda n, actors=actors: scan_rate(
                source, Path(work) / f"out{n}-{actors}", actors, readings[actors]
            )
        with session(None):
            rates = alternate(tasks, options.repeats)
    rows = report(rates, "loop", "images/s")
    result = {"loop_per_s": rows["loop"][0], "program": type(segmenter).__name__, "stages": stages}
    for actors in ACTORS:
        rate, ratio = rows[f"scan, actors: {actors}"]
        result |= {f"scan{actors}_per_s": rate, f"ratio{actors}": ratio}
        result |= memory_of(actors, readings[actors])
    return result


def memory_of(actors: int, readings: list[float]) -> dict[str, float]:
    """Peak and growth of what the actors held together, MB, printed; nothing of a short run."""
    if len(readings) < 8:
        return {}
    peak, growth = max(readings), growth_mb(readings)
    print(f"memory, actors: {actors}: peak {peak:.0f} MB, end - warm {growth:.1f} MB")
    return {f"peak{actors}_mb": peak, f"growth{actors}_mb": growth}
