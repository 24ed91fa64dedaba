"""A page that finds watermarks in the browser: `python app.py`, then open the address it prints.

The tabs: one photo or clip, how visible your own mark is, many images. All runs on this machine.
Uploads are deleted. Without --share nothing is sent anywhere.
"""

import argparse
import html
import io
import json
import os
import shutil
import signal
import sys
import tempfile
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
from PIL import Image

from batch import Options, segment_files
from inference import load_segmenter, segment_video
from inference.clips import is_clip
from inference.folder import SHIPPED_WEIGHTS
from inference.pictures import encode, mask_bytes, overlay, shrunk
from inference.reading import IMAGE_SUFFIXES, read_image
from inference.segmenter import MIN_SCORE, THRESHOLD, Segmenter, decide

UPLOAD_LIMIT = "200mb"  # for each file
PREVIEW_PX = 1280  # longest side of a photo that is shown
GALLERY_PX = 640  # longest side of a photo in the gallery
MAX_PIXELS = 50_000_000  # in a photo; the network needs about 18 bytes for each
SESSIONS = 16  # visitors whose latest answer stays in memory, 4 bytes a pixel
MAX_WAITING = 64  # requests in the queue; the next one is refused
MAX_FILES = 24  # in the tab "Many images"
MAX_TEXT = 60  # characters in the text of a mark
SWEEP_S, KEEP_S = 60, 840  # every SWEEP_S, files older than KEEP_S are deleted
EXAMPLES = {"Two marks": "example", "No mark": "example_clean", "Coins, no mark": "example_coins"}
EXAMPLES = {name: Path(__file__).parent / f"docs/{file}.jpg" for name, file in EXAMPLES.items()}
NETWORK = {"concurrency_id": "network", "concurrency_limit": 1}  # for all events that run it
TABLE = ["path", "score", "coverage", "error"]  # the columns of the report that the page shows
SLIDERS = [  # (lowest, highest, start, step), texts; the order is that of `segmenter.decide`
    ((0, 1, THRESHOLD, 0.01), {"label": "Threshold", "info": "Probability of a marked pixel"}),
    ((0, 50, 0, 1), {"label": "Dilation (px)", "info": "Widens the mask"}),
    ((0, 1, MIN_SCORE, 0.01), {"label": "Min. score", "info": "Below it the mask is empty"}),
]
NETWORK_THREAD = ThreadPoolExecutor(1)  # OpenVINO keeps memory for each thread that calls it
PASTE_JS = """() => document.addEventListener('paste', (event) => {
  const drop = [...document.querySelectorAll('.drop')].find((one) => one.offsetParent);
  const input = drop?.querySelector('input[type=file]');
  if (!input || !event.clipboardData.files.length) return;
  input.files = event.clipboardData.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
})"""


@dataclass(frozen=True)
class Answer:
    """The result for a photo or clip of H x W pixels. The page keeps each visitor's latest."""

    name: str
    photo: np.ndarray  # uint8, h x w x 3, RGB, at most PREVIEW_PX long; a frame of a clip
    probability: np.ndarray  # float32, H x W, 0..1
    score: float  # 0..1
    note: str = ""  # about a clip


def segment_upload(segmenter: Segmenter, path: str) -> Answer:
    """Runs the network on a photo or clip; ValueError if it cannot use the file."""
    name = Path(path).stem
    if not is_clip(path):
        rgb = read_image(path)
        result = segmenter.segment(rgb)
        return Answer(name, shrunk(rgb, PREVIEW_PX), result.probability, result.score)
    result = segment_video(segmenter, path)
    notes = [f"{result.frames} frames were checked."]
    if result.seen_s:
        notes.append("The mark was seen from {:.1f} s to {:.1f} s.".format(*result.seen_s))
    if result.each:
        notes.append("It jumps: this mask covers all places, segment.py writes one for each frame.")
    note = " ".join([*notes, result.damage or ""])
    probability = np.maximum(result.probability, result.mask if result.each else 0)
    return Answer(name, shrunk(result.picture, PREVIEW_PX), probability, result.score, note)


@contextmanager
def explained(*paths):
    """Shows errors of a visitor's files as a sentence on the page."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = str(error)
        if isinstance(error.__cause__, Image.DecompressionBombError):
            text += " Choose a smaller photo, or use segment.py."
        for path in filter(None, paths):  # a visitor knows only the file's name
            text = text.replace(str(path), Path(path).name)
        raise gr.Error(html.escape(text), duration=None, print_exception=False) from error


def find_upload(segmenter: Segmenter, path: str | None, *settings):
    """The answer, the probability, and what `show` returns; `settings` are those of SLIDERS."""
    with explained(path):
        if path is None:
            raise ValueError("No photo was sent. Choose one.")
        answer = NETWORK_THREAD.submit(segment_upload, segmenter, path).result()
    return answer, shrunk(answer.probability, PREVIEW_PX), *show(answer, *settings)


def show(answer: Answer | None, *settings):
    """Pictures to compare, score, a sentence, mask and mask file. Does not run the network."""
    if answer is None:
        gr.Warning("Choose a photo, or choose it again: its answer is no longer in memory.")
        return [gr.skip()] * 5
    result = decide(answer.probability, answer.score, *settings)
    mask, (height, width) = mask_bytes(result.mask), result.mask.shape
    small = shrunk(mask, PREVIEW_PX)
    sentence = f"**{result.coverage:.1%}** of the {width} x {height} pixels are marked."
    if result.score < settings[2]:
        sentence += " The score is below the minimum score, so the mask is empty."
    file = save_bytes_to_cache(encode(mask, ".png"), f"{answer.name}.mask.png", get_upload_folder())
    pictures = answer.photo, overlay(answer.photo, small >= 128)
    return pictures, {"watermark": result.score}, f"{sentence} {answer.note}", small, file


def try_my_mark(segmenter: Segmenter, logo, text: str | None, photo, opacity: float, size: float):
    """The photo with the mark, with and without its mask, a sentence, and the heat map."""
    from evaluation.figures import to_picture
    from evaluation.visibility import heat_map, try_mark  # slow to import: PyTorch

    photo, text = photo or EXAMPLES["No mark"], text or ""
    with explained(logo, photo):
        if len(text) > MAX_TEXT:  # only browsers check the limit of the text field
            raise ValueError(f"The text has {len(text)} characters. Give {MAX_TEXT} at most.")
        mark = segmenter, logo, text, read_image(photo), opacity, size
        image, result, cells = NETWORK_THREAD.submit(try_mark, *mark).result()
    sentence = f"Score **{result.score:.2f}**; **{result.coverage:.1%}** of the pixels are found."
    return (image, overlay(image, result.mask)), sentence, to_picture(heat_map(cells))


def find_many(segmenter: Segmenter, paths, progress=gr.Progress(track_tqdm=True)):  # noqa: B008
    """Overlays, table and ZIP file of several images, highest score first."""
    with explained(), tempfile.TemporaryDirectory() as folder:
        if not paths or len(paths) > MAX_FILES:
            raise ValueError(f"{len(paths or [])} files were sent. Choose 1 to {MAX_FILES}.")
        photos, masks, data = Path(folder, "photos"), Path(folder, "masks"), io.BytesIO()
        photos.mkdir()
        records = [record for path in map(Path, paths) if (record := copy_or_refuse(path, photos))]
        if len(records) < len(paths):  # a folder, where .txt lists of paths are ignored
            options = Options(overlay=True)
            records += segment_files([photos], masks, options, segmenter, True).records
        records = [{**record, "path": Path(record["path"]).name} for record in records]
        records.sort(key=lambda record: (record["score"] is None, -(record["score"] or 0)))
        good = [record for record in records if record["error"] is None]
        drawn = [read_image((masks / one["mask"]).with_suffix(".overlay.jpg")) for one in good]
        captions = [f"{one['score']:.2f} {one['path']}" for one in good]
        gallery = [(shrunk(rgb, GALLERY_PX), text) for rgb, text in zip(drawn, captions)]
        with zipfile.ZipFile(data, "w") as archive:  # no compression: PNG has its own
            archive.writestr("report.jsonl", "".join(json.dumps(one) + "\n" for one in records))
            for one in good:
                archive.write(masks / one["mask"], one["mask"])
        file = save_bytes_to_cache(data.getvalue(), "masks.zip", get_upload_folder())
    return gallery, [[record[name] for name in TABLE] for record in records], file


def copy_or_refuse(path: Path, folder: Path) -> dict | None:
    """The record of a file that is refused. Copies any other into `folder`, under a unique name."""
    name = path.name
    if not name.lower().endswith(IMAGE_SUFFIXES):
        reason = f"{name} does not have the ending of an image. Rename it."
        return {**dict.fromkeys([*TABLE, "mask"]), "path": name, "error": reason}
    while (folder / name).exists():
        name = f"~{name}"
    shutil.copyfile(path, folder / name)
    return None


def make_page(segmenter: Segmenter) -> gr.Blocks:
    """The page; `launch` starts it."""
    with gr.Blocks(title="Watermark segmentation", delete_cache=(SWEEP_S, KEEP_S)) as page:
        gr.Markdown(
            "# Watermark segmentation\nWhich pixels does a watermark cover? The page computes on "
            f"its own machine and deletes your files within {(SWEEP_S + KEEP_S) // 60} minutes."
        )
        with gr.Tab("One photo or clip"):
            photo_tab(segmenter)
        with gr.Tab("How visible is my mark?"), gr.Row():
            mark_tab(segmenter)
        with gr.Tab("Many images"):
            many_tab(segmenter)
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def drop(label: str, **options) -> gr.File:
    """A field that takes any file; the page explains after the upload why it cannot use one."""
    field = gr.File(label=label, height=170, elem_classes="drop", **options)
    # `gr.File` itself leaves an empty file behind for each upload.
    field.preprocess = lambda got: getattr(got, "path", None) or (got and [f.path for f in got])
    return field


def slider(label: str, elem_id: str) -> gr.ImageSlider:
    return gr.ImageSlider(
        label=label, elem_id=elem_id, interactive=False, slider_position=0, buttons=["fullscreen"],
        max_height=900, format="jpeg",
    )  # fmt: skip


def picture(label: str, alt: str, **options) -> gr.Image:
    shown = {"interactive": False, "buttons": ["fullscreen"]}
    return gr.Image(label=label, alt_text=alt, **shown, **options)


def photo_tab(segmenter: Segmenter) -> None:
    with gr.Row():
        with gr.Column(scale=2):
            photo = drop("Photo or clip: drop, paste or choose one", elem_id="photo")
            examples = gr.Dataset(
                label="Examples", components=[gr.Image(visible=False)], type="values",
                samples=[[str(path)] for path in EXAMPLES.values()], sample_labels=list(EXAMPLES),
            )  # fmt: skip
            score, sentence = gr.Label(label="Score", show_heading=False), gr.Markdown()
            download = gr.DownloadButton("Download the mask (PNG)", variant="primary")
        with gr.Column(scale=3):
            compare = slider("The photo, and its watermark in red", "compare")
            with gr.Row():
                sliders = [gr.Slider(*span, min_width=200, **texts) for span, texts in SLIDERS]
            with gr.Row():
                mask = picture("Mask", "The mask: white where the photo is marked", format="png")
                probability = picture("Probability", "The probability of each pixel: white is 1")
    answer, shown = gr.State(time_to_live=KEEP_S), [compare, score, sentence, mask, download]
    find = partial(find_upload, segmenter)
    for event, function, given in (
        (photo.upload, find, photo),
        (examples.click, lambda sample, *settings: find(*sample, *settings), examples),
    ):
        answered = event(
            function, [given, *sliders], [answer, probability, *shown], show_progress_on=compare,
            api_visibility="public" if given is photo else "private", api_name="find_upload",
            **NETWORK,
        )  # fmt: skip
        for after in (answered.success, answered.failure):  # `then` does not follow an error
            after(lambda: None, None, photo, queue=False, api_visibility="private")
    gr.on(
        [slider.input for slider in sliders], show, [answer, *sliders], shown,
        show_progress="hidden", trigger_mode="always_last", concurrency_limit=2,
        api_visibility="private",  # it needs the answer in the visitor's session
    )  # fmt: skip


def mark_tab(segmenter: Segmenter) -> None:
    with gr.Column(scale=2):
        logo = drop("Logo with transparency (PNG or WebP)")
        text = gr.Textbox(label="or a line of text", max_length=MAX_TEXT)
        photo = drop("Photo (without one: our example)")
        opacity = gr.Slider(0.02, 1, 0.4, step=0.02, label="Opacity")
        size = gr.Slider(0.05, 1, 0.4, step=0.05, label="Mark / shorter side of the photo")
        button = gr.Button("Try the mark", variant="primary")
    with gr.Column(scale=3):
        marked = slider("The photo with your mark, and what the network finds in red", "marked")
        sentence = gr.Markdown()
        heat = picture("On this photo", "Recall and IoU for each opacity and size of the mark")
    inputs, outputs = [logo, text, photo, opacity, size], [marked, sentence, heat]
    button.click(partial(try_my_mark, segmenter), inputs, outputs, api_name="look", **NETWORK)


def many_tab(segmenter: Segmenter) -> None:
    files = drop(f"Up to {MAX_FILES} images: drop or choose", file_count="multiple")
    gallery = gr.Gallery(label="Highest score first, mask in red", columns=4, interactive=False)
    table = gr.Dataframe(headers=TABLE, label="Report", interactive=False)
    download = gr.DownloadButton("Download masks and report (ZIP)", variant="primary")
    files.upload(
        partial(find_many, segmenter), files, [gallery, table, download], show_progress_on=gallery,
        api_name="find_many", **NETWORK,
    )  # fmt: skip


def launch(page: gr.Blocks, **options):
    """Starts the page; see `gr.Blocks.launch`."""
    fonts = {"font": "system-ui", "font_mono": "ui-monospace"}  # nothing to download
    theme = gr.themes.Default(primary_hue="red", **fonts)
    return page.launch(
        theme=theme, css=".drop .wrap { padding-top: 28px; }", js=PASTE_JS, footer_links=[],
        max_file_size=UPLOAD_LIMIT, state_session_capacity=SESSIONS, **options,
    )  # fmt: skip


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default=SHIPPED_WEIGHTS, help="folder that train.py wrote")
    host = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")  # a Space sets it
    add("--host", default=host, help="address to listen at; 0.0.0.0: for the local network")
    add("--port", type=int, default=7860)
    add("--share", action="store_true", help="open it to the internet through Gradio's servers")
    options = parser.parse_args(arguments)
    matplotlib.use("Agg")
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses what has more than twice as many
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl+C
    try:
        with tempfile.TemporaryDirectory() as folder:  # deletes the files that Gradio leaves
            os.environ["GRADIO_TEMP_DIR"] = folder
            page = make_page(load_segmenter(options.weights))
            launch(page, server_name=options.host, server_port=options.port, share=options.share)
    except (OSError, ValueError) as error:  # the weights; a port in use
        sys.exit(f"app.py: {error}")


if __name__ == "__main__":
    main()
