"""Speed and memory; each rate beside a baseline timed in the same run, by turns.

python benchmark.py data       training samples: stages, workers, against bare decoding
python benchmark.py inference  the shipped weights against the network of the original
python benchmark.py training   training on real data against steps on one cached batch
python benchmark.py memory     peaks of a training and of a data worker, and whether that one grows
python benchmark.py files      `segment_files` against a plain loop over `segment`
python benchmark.py scan       `scan` with one and two actors against such a loop; its memory

A printed row: name, median rate, and the median over the repeats of its ratio to the baseline.
"""

import argparse
import json
import sys

from evaluation.speed.data import benchmark_data
from evaluation.speed.files import benchmark_files
from evaluation.speed.memory import benchmark_memory
from evaluation.speed.network import benchmark_inference
from evaluation.speed.scan import benchmark_scan
from evaluation.speed.timing import machine
from evaluation.speed.training import benchmark_training

TRAINING = dict(size=256, batch_size=16, workers=2)
COMMANDS = {  # name to the function and its options with their defaults
    "data": (benchmark_data, dict(count=300, repeats=5)),
    "inference": (benchmark_inference, dict(count=8, repeats=3, large_repeats=3, levers=False)),
    "training": (benchmark_training, dict(**TRAINING, seconds=20.0, repeats=3)),
    "memory": (benchmark_memory, dict(**TRAINING, soak=20000)),
    "files": (benchmark_files, dict(count=40, repeats=3)),
    "scan": (benchmark_scan, dict(count=20000, shards=40, repeats=1)),
}
HELP = {
    "batch_size": "samples of each training step",
    "count": "samples or photos of each run",
    "large_repeats": "the same for the large photo",
    "levers": "instead: one change of the network or its program after the other, at 512 px",
    "repeats": "runs of each, by turns",
    "shards": ".tar files that hold the images of `scan`",
    "seconds": "of each run, after its warm-up",
    "size": "of the samples, px",
    "soak": "samples that one worker makes; its caches fill during the first 5,000",
    "workers": "processes that make samples",
}


def parse() -> argparse.Namespace:
    style = dict(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    parser = argparse.ArgumentParser(**style)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, defaults) in COMMANDS.items():
        command = commands.add_parser(name, **style)
        for option, value in defaults.items():
            flag, text = "--" + option.replace("_", "-"), HELP.get(option, "")
            if value is False:
                command.add_argument(flag, action="store_true", help=text)
                continue
            command.add_argument(flag, type=type(value), default=value, help=f"{text} ({value})")
        if name != "inference":  # its photos are always the same
            text = "folder; default: 500 px JPEGs cut from skimage's"
            command.add_argument("--photos", help=text)
        command.add_argument("--json", action="store_true", help="last line: one JSON object")
    options = parser.parse_args()
    for option, default in COMMANDS[options.command][1].items():
        if default is not False and getattr(options, option) <= 0:
            parser.error(f"{option} is {getattr(options, option)}; give a number above 0.")
    return options


def main() -> None:
    options = parse()
    try:
        result = COMMANDS[options.command][0](options)
    except (OSError, ValueError) as error:
        sys.exit(f"benchmark.py: {error}")
    about = machine()
    print(*(f"{name}: {value}" for name, value in about.items()), sep="; ")
    if options.json:
        print(json.dumps({**result, "machine": about}))


if __name__ == "__main__":
    main()
