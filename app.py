"""A page that finds watermarks in the browser: `python app.py`, then open the address it prints.

Three tabs: one photo, how visible a mark of your own is, many images. Everything runs on this
machine, uploads are deleted, and without --share nothing is sent anywhere.
"""

import argparse
import html
import io
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr
import matplotlib
import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from batch import Options, segment_files
from batch.look import open_image
from batch.rows import failure, reason_of, to_json
from inference import load_segmenter
from inference.folder import SHIPPED_WEIGHTS
from inference.pictures import encode, mask_bytes, overlay, shrunk
from inference.reading import IMAGE_SUFFIXES, read_image
from inference.segmenter import MIN_SCORE, THRESHOLD, Segmenter, check_limits
from inference.segmenter import decide as decide_mask

UPLOAD_LIMIT = "200mb"  # of one file
PREVIEW_PX = 1280  # longest side of a photo that is shown
MAX_PIXELS = 50_000_000  # of one photo, which takes some 18 bytes a pixel while it is looked at
KEPT_BYTES = 300_000_000  # of all answers together, at 4 bytes a pixel
MAX_WAITING = 64  # requests; a further one is told that the queue is full
MAX_FILES = 24  # of the tab for many images
MAX_TEXT = 60  # characters of a mark
SWEEP_S, KEEP_S = 60, 840  # how often files are looked at, and from which age on deleted
DOCS = Path(__file__).with_name("docs")
EXAMPLES = {
    "Two marks": DOCS / "example.jpg",
    "No mark": DOCS / "example_clean.jpg",
    "Coins, no mark": DOCS / "example_coins.jpg",
}
COLUMN_PX = 320  # least width: a phone shows one column
NETWORK = {"concurrency_id": "network", "concurrency_limit": 1}  # of all events that run it
TABLE = ["path", "score", "coverage", "error"]  # columns of the report that are shown
SIZE = "The mark's longer side over the photo's shorter one"
SLIDERS = [  # (least, most, start, step), texts; in the order of `decide`
    ((0, 1, THRESHOLD, 0.01), {"label": "Threshold", "info": "Probability of a marked pixel"}),
    ((0, 50, 0, 1), {"label": "Dilation (px)", "info": "Widens the mask"}),
    ((0, 1, MIN_SCORE, 0.01), {"label": "Min. score", "info": "Below it the mask is empty"}),
]
CSS = ".drop .wrap { padding-top: 28px; }"
PASTE_JS = """() => document.addEventListener('paste', (event) => {
  const drop = [...document.querySelectorAll('.drop')].find((one) => one.offsetParent);
  const input = drop?.querySelector('input[type=file]');
  if (!input || !event.clipboardData.files.length) return;
  input.files = event.clipboardData.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
})"""


# --- What the network says, kept for a while ---------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What the network says of one photo of H x W pixels."""

    name: str
    photo: np.ndarray  # uint8, h x w x 3, RGB, at most PREVIEW_PX long
    probability: np.ndarray  # float32, H x W, 0..1
    score: float  # 0..1

    @property
    def bytes(self) -> int:
        return self.photo.nbytes + self.probability.nbytes


class Answers:
    """Asks the network about photos and keeps the latest answers, within a bound of memory.

    The network runs in one thread: OpenVINO keeps memory for every thread that it has served.
    """

    def __init__(self, segmenter: Segmenter, limit: int = KEPT_BYTES):
        """Of all answers together `limit` bytes are kept; the latest one in any case."""
        self.segmenter, self.limit, self.kept = segmenter, limit, {}
        self.lock, self.thread = threading.Lock(), ThreadPoolExecutor(1)

    def run(self, function, *arguments):
        """function(*arguments), in the network's thread."""
        return self.thread.submit(function, *arguments).result()

    def ask(self, path: str) -> str:
        """Keeps the network's answer to a photo; the token to get it by.

        Raises:
            ValueError: the photo cannot be used; see `check_photo`.
        """
        check_photo(path)
        rgb = read_image(path)
        found = self.run(self.segmenter.segment, rgb)
        answer = Answer(Path(path).stem, shrunk(rgb, PREVIEW_PX), found.probability, found.score)
        with self.lock:
            self.kept[token := secrets.token_hex(8)] = answer
            while len(self.kept) > 1 and sum(a.bytes for a in self.kept.values()) > self.limit:
                self.kept.pop(next(iter(self.kept)))  # the oldest
        return token

    def get(self, token: str) -> Answer:
        """A kept answer; ValueError if it is no longer kept."""
        with self.lock:
            if token in self.kept:
                return self.kept[token]
        raise ValueError("The answer to this photo is no longer in memory. Choose the photo again.")


def check_photo(path) -> None:
    """What is broken behind the header of a photo, `read_image` finds.

    Raises:
        ValueError: there is no such photo, or it has more than MAX_PIXELS.
    """
    path = Path(path)
    try:
        with open_image(str(path), allow_huge=True) as image:
            pixels = image.width * image.height
    except (OSError, ValueError, SyntaxError) as error:
        kinds = "JPEG, PNG, WebP, TIFF, HEIC, AVIF, GIF or BMP"
        raise ValueError(f"{path.name} {reason_of(error)}. Choose a photo: {kinds}.") from None
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"{path.name} has more than {MAX_PIXELS // 1_000_000} megapixels, the most that fits "
            "into memory beside other requests. Choose a smaller photo, or use segment.py."
        )


# --- What the events of the page call ----------------------------------------------------------


@contextmanager
def explained(*paths):
    """What can be wrong with a visitor's files becomes a sentence on the page."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = str(error)
        for path in filter(None, paths):  # a visitor knows its name alone
            text = text.replace(str(path), Path(path).name)
        raise gr.Error(html.escape(text), duration=None, print_exception=False) from error


def find_example(answers: Answers, index: int, *settings):
    """`find_upload` for one of EXAMPLES."""
    return find_upload(answers, str(list(EXAMPLES.values())[index]), *settings)


def find_upload(answers: Answers, path: str | None, *settings):
    """The token, the probability, and what `decide` returns, for a photo of any kind.

    Args:
        settings: threshold, dilation and minimum score, as `Segmenter.segment` takes them.
    """
    with explained(path):
        if path is None:
            raise ValueError("No photo came. Choose one.")
        token = answers.ask(path)
        probability = shrunk(answers.get(token).probability, PREVIEW_PX)
    return token, np.rint(probability * 255).astype(np.uint8), *decide(answers, token, *settings)


def decide(answers: Answers, token: str | None, *settings):
    """Pictures to compare, score, a sentence, the mask and its file: all without the network."""
    if token is None:  # a slider moved before there was a photo
        return [gr.skip()] * 5
    with explained():
        check_limits(*settings)
        answer = answers.get(token)
    found = decide_mask(answer.probability, answer.score, *settings)
    mask, (height, width) = mask_bytes(found.mask), found.mask.shape
    small = shrunk(mask, PREVIEW_PX)
    said = f"**{found.coverage:.1%}** of the {width} x {height} pixels are marked."
    if found.score < settings[2]:
        said += " The score is below the minimum score, so the mask is empty."
    file = save_bytes_to_cache(encode(mask, ".png"), f"{answer.name}.mask.png", get_upload_folder())
    pictures = answer.photo, overlay(answer.photo, small >= 128)
    return pictures, {"watermark": found.score}, said, small, file


def look(answers: Answers, logo, text: str | None, photo, opacity: float, size: float):
    """A mark on a photo, what is found of it, a sentence, and the heat map."""
    from evaluation.figures import to_picture
    from evaluation.visibility import heat_map, try_mark  # slow to import: PyTorch

    photo, text = photo or EXAMPLES["No mark"], text or ""
    with explained(logo, photo):
        if len(text) > MAX_TEXT:  # the page's own limit holds in browsers alone
            raise ValueError(f"The text has {len(text)} characters. Give {MAX_TEXT} at most.")
        for path in filter(None, (logo, photo)):
            check_photo(path)
        mark = answers.segmenter, logo, text, read_image(photo), opacity, size
        trial = answers.run(try_mark, *mark)
    found = trial.found
    said = f"Score **{found.score:.2f}**; **{found.coverage:.1%}** of the pixels are found."
    pictures = trial.image, overlay(trial.image, found.mask)
    return *pictures, said, to_picture(heat_map(trial.cells))


def find_many(answers: Answers, paths, progress=gr.Progress(track_tqdm=True)):  # noqa: B008
    """Contact sheet, table and ZIP file of a handful of images: highest score first."""
    from evaluation.figures import overlay_sheet

    with explained(), tempfile.TemporaryDirectory() as folder:
        if not paths or len(paths) > MAX_FILES:
            raise ValueError(f"{len(paths or [])} files came. Choose 1 to {MAX_FILES}.")
        photos, masks = Path(folder, "photos"), Path(folder, "masks")
        photos.mkdir()
        records = [record for path in map(Path, paths) if (record := refused(path, photos))]
        if len(records) < len(paths):  # a folder, in which no list of paths is followed
            chosen = Options(overlay=True)
            records += segment_files([photos], masks, chosen, answers.segmenter, True).records
        records = [{**record, "path": Path(record["path"]).name} for record in records]
        records.sort(key=lambda record: (record["score"] is None, -(record["score"] or 0)))
        good = [record for record in records if record["error"] is None]
        overlays = [masks / Path(one["mask"]).with_suffix(".overlay.jpg") for one in good]
        sheet, data = overlay_sheet(good, overlays), io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:  # PNG files would not become smaller
            archive.writestr("report.jsonl", b"".join(to_json(one) + b"\n" for one in records))
            for one in good:
                archive.write(masks / one["mask"], one["mask"])
        file = save_bytes_to_cache(data.getvalue(), "masks.zip", get_upload_folder())
    return sheet, [[record[name] for name in TABLE] for record in records], file


def refused(path: Path, folder: Path) -> dict | None:
    """The record of a file that is not looked at; any other is copied, under a name of its own."""
    try:
        check_photo(path)
        if not path.name.lower().endswith(IMAGE_SUFFIXES):
            raise ValueError(f"{path.name} has not the ending of an image. Rename it.")
    except (OSError, ValueError) as error:
        return {"path": path.name, "mask": None, **failure(error)}
    name = path.name
    while (folder / name).exists():
        name = f"~{name}"
    shutil.copyfile(path, folder / name)
    return None


# --- The page ----------------------------------------------------------------------------------


def make_page(answers: Answers) -> gr.Blocks:
    """The page, which `launch` starts."""
    page = gr.Blocks(
        title="Watermark segmentation", analytics_enabled=False, delete_cache=(SWEEP_S, KEEP_S)
    )
    with page:
        gr.Markdown("# Watermark segmentation\nWhich pixels of a photo does a watermark cover?")
        with gr.Tab("One photo"):
            photo_tab(answers)
        with gr.Tab("How visible is my mark?"), gr.Row():
            mark_tab(answers)
        with gr.Tab("Many images"):
            many_tab(answers)
        gr.Markdown(
            "Everything is computed on the machine that runs this page. Files are deleted within "
            f"{(SWEEP_S + KEEP_S) // 60} minutes."
        )
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def drop(label: str, **options) -> gr.File:
    """A place for any file: what cannot be used is explained after the upload."""
    field = gr.File(label=label, height=170, elem_classes="drop", **options)
    # `gr.File` itself leaves an empty file for each one that comes.
    field.preprocess = lambda got: getattr(got, "path", None) or (got and [f.path for f in got])
    return field


def picture(label: str, alt: str, **options) -> gr.Image:
    options = {"interactive": False, "buttons": ["fullscreen"], **options}
    return gr.Image(label=label, alt_text=alt, **options)


def photo_tab(answers: Answers) -> None:
    with gr.Row():
        with gr.Column(scale=2, min_width=COLUMN_PX):
            photo = drop("Photo: drop, paste or choose one", elem_id="photo")
            examples = gr.Dataset(
                label="Examples", components=[gr.Image(visible=False)], type="index",
                samples=[[str(path)] for path in EXAMPLES.values()], sample_labels=list(EXAMPLES),
            )  # fmt: skip
            score, said = gr.Label(label="Score", show_heading=False), gr.Markdown()
            download = gr.DownloadButton("Download the mask (PNG)", variant="primary")
        with gr.Column(scale=3, min_width=COLUMN_PX):
            compare = gr.ImageSlider(
                label="The photo, and its watermark in red", interactive=False, slider_position=0,
                elem_id="compare", buttons=["fullscreen"], max_height=900, format="jpeg",
            )  # fmt: skip
            with gr.Row():
                sliders = [gr.Slider(*span, min_width=200, **texts) for span, texts in SLIDERS]
            with gr.Row():
                mask = picture("Mask", "The mask: white where the photo is marked", format="png")
                probability = picture("Probability", "The probability of each pixel: white is 1")
    token, shown = gr.State(), [compare, score, said, mask, download]
    for event, function, given in (
        (photo.upload, find_upload, photo), (examples.click, find_example, examples)
    ):  # fmt: skip
        answered = event(
            partial(function, answers), [given, *sliders], [token, probability, *shown],
            show_progress_on=compare, api_name=function.__name__, **NETWORK,
        )  # fmt: skip
        for after in (answered.success, answered.failure):  # room for the next one
            after(lambda: None, None, photo, queue=False)
    gr.on(
        [slider.input for slider in sliders], partial(decide, answers), [token, *sliders], shown,
        show_progress="hidden", trigger_mode="always_last", concurrency_limit=2,
    )  # fmt: skip


def mark_tab(answers: Answers) -> None:
    with gr.Column(scale=2, min_width=COLUMN_PX):
        logo = drop("Logo with transparency (PNG or WebP)")
        text = gr.Textbox(label="or a line of text", max_length=MAX_TEXT)
        photo = drop("Photo (without one: our example)")
        opacity = gr.Slider(0.02, 1, 0.4, step=0.02, label="Opacity")
        size = gr.Slider(0.05, 1, 0.4, step=0.05, label="Size", info=SIZE)
        button = gr.Button("Look", variant="primary")
    with gr.Column(scale=3, min_width=COLUMN_PX):
        with gr.Row():
            marked = picture("The photo with the mark", "The photo with your mark")
            found = picture("What the network finds", "The pixels that the network finds, in red")
        said = gr.Markdown()
        heat = picture("On this photo", "Recall and IoU for each opacity and size of the mark")
    inputs, outputs = [logo, text, photo, opacity, size], [marked, found, said, heat]
    button.click(
        partial(look, answers), inputs, outputs, show_progress_on=marked, api_name="look", **NETWORK
    )


def many_tab(answers: Answers) -> None:
    files = drop(f"Up to {MAX_FILES} images: drop or choose", file_count="multiple")
    sheet = picture("By score", "The images by score, what is marked in red")
    table = gr.Dataframe(headers=TABLE, label="Report", interactive=False)
    download = gr.DownloadButton("Download masks and report (ZIP)", variant="primary")
    files.upload(
        partial(find_many, answers), files, [sheet, table, download], show_progress_on=sheet,
        api_name="find_many", **NETWORK,
    )  # fmt: skip


def launch(page: gr.Blocks, **options):
    """Starts the page; see `gr.Blocks.launch`."""
    sans, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]  # nothing to download
    theme = gr.themes.Default(primary_hue="red", font=sans, font_mono=mono)
    options = {"max_file_size": UPLOAD_LIMIT, "footer_links": [], "js": PASTE_JS, **options}
    return page.launch(theme=theme, css=CSS, **options)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")  # as a Space sets it
    add("--host", default=host, help="address to listen at; 0.0.0.0: for the whole network")
    add("--port", type=int, default=7860)
    add("--share", action="store_true", help="open it to the internet through Gradio's servers")
    options = parser.parse_args(arguments)
    matplotlib.use("Agg")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl+C
    try:
        with tempfile.TemporaryDirectory() as folder:  # Gradio leaves files behind at its end
            os.environ["GRADIO_TEMP_DIR"] = folder
            page = make_page(Answers(load_segmenter(options.weights)))
            launch(page, server_name=options.host, server_port=options.port, share=options.share)
    except (OSError, ValueError) as error:  # the weights; a port in use
        sys.exit(f"app.py: {error}")


if __name__ == "__main__":
    main()
