"""A page that finds watermarks in the browser: `python app.py`, then open the address it prints.

Three tabs: one photo, how visible a mark of your own is, many images. Everything runs on this
machine, uploads are deleted, and without --share nothing is sent anywhere.
"""

import argparse
import html
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

import gradio as gr
import matplotlib
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from batch.handful import overlay_of, segment_handful, zip_masks
from inference import load_segmenter
from inference.answers import PREVIEW_PX, Answers, check_photo
from inference.folder import SHIPPED_WEIGHTS
from inference.pictures import data_url, encode, mask_bytes, overlay, shrunk
from inference.reading import read_image
from inference.segmenter import MIN_SCORE, THRESHOLD

UPLOAD_LIMIT = "200mb"  # of one file
MAX_WAITING = 64  # requests; a further one is told that the queue is full
MAX_FILES = 24  # of the tab for many images
MAX_TEXT = 60  # characters of a mark
SWEEP_S, KEEP_S = 60, 840  # how often files are looked at, and from which age on deleted
DOCS = Path(__file__).with_name("docs")
EXAMPLES = {
    "Two marks": DOCS / "example.jpg",
    "No mark": DOCS / "example_clean.jpg",
    "Goes wrong: coins taken for marks": DOCS / "example_wrong.jpg",
}
COLUMN_PX = 320  # least width: a phone shows one column
NETWORK = {"concurrency_id": "network", "concurrency_limit": 1}  # of all events that run it
TABLE = ["path", "score", "coverage", "error"]  # columns of the report that are shown
SIZE = "The mark's longer side over the photo's shorter one"
SLIDERS = [  # (least, most, start, step), texts; in the order of `Answers.decide`
    ((0, 1, THRESHOLD, 0.01), {"label": "Threshold", "info": "Probability of a marked pixel"}),
    ((0, 50, 0, 1), {"label": "Dilation (px)", "info": "Widens the mask"}),
    ((0, 1, MIN_SCORE, 0.01), {"label": "Min. score", "info": "Below it the mask is empty"}),
]
COMPARE = """
{{#if value}}<figure>
<img src="{{value.before}}" alt="The photo">
<img class="after" src="{{value.after}}" alt="{{value.alt}}">
<label>with mask <input type="range" value="0" aria-label="Share of the photo without mask"> without
</label></figure>{{else}}<p>The photo and its watermark in red appear here.</p>{{/if}}
"""
COMPARE_CSS = """
figure { position: relative; margin: 0; }
img { display: block; width: 100%; border-radius: var(--radius-lg); }
.after { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at, 0%)); }
label { display: flex; gap: 8px; margin-top: 8px; }
input { flex: 1; accent-color: var(--color-accent); }
p { padding: 5em 1em; text-align: center; border: 1px dashed var(--border-color-primary);
    border-radius: var(--radius-lg); }
"""
COMPARE_JS = """
const show = (at) => element.style.setProperty('--at', at + '%');
element.addEventListener('input', (event) => show(event.target.value));
watch('value', () => show(0));
"""
CSS = ".drop .wrap { padding-top: 28px; } .html-container { padding: 0 !important; }"
PASTE_JS = """() => document.addEventListener('paste', (event) => {
  const drop = [...document.querySelectorAll('.drop')].find((one) => one.offsetParent);
  const input = drop?.querySelector('input[type=file]');
  if (!input || !event.clipboardData.files.length) return;
  input.files = event.clipboardData.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
})"""


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


def find_upload(answers: Answers, path: str | None, *settings):
    """`find` for an uploaded file, which is deleted then."""
    if path is None:
        raise gr.Error("No photo came. Choose one.", print_exception=False)
    try:
        return find(answers, path, *settings)
    finally:
        Path(path).unlink(missing_ok=True)


def find_example(answers: Answers, index: int, *settings):
    """`find` for one of EXAMPLES."""
    return find(answers, str(list(EXAMPLES.values())[index]), *settings)


def find(answers: Answers, path: str, *settings):
    """The path, the probability, and what `decide` returns, for a photo of any kind.

    Args:
        settings: threshold, dilation and minimum score, as `Answers.decide` takes them.
    """
    with explained(path):
        answers.ask(path)
        probability = answers.get(path).probability_picture()
    return path, probability, *decide(answers, path, *settings)


def decide(answers: Answers, path: str | None, *settings):
    """Pictures to compare, score, a sentence, the mask and its file: all without the network."""
    if path is None:  # a slider moved before there was a photo
        return [gr.skip()] * 5
    with explained():
        answer, found = answers.decide(path, *settings)
    mask, (height, width) = mask_bytes(found.mask), found.mask.shape
    said = f"**{found.coverage:.1%}** of the {width} x {height} pixels are marked."
    if found.score < settings[2]:
        said += " The score is below the minimum score, so the mask is empty."
    pictures = {
        "before": data_url(answer.photo),
        "after": data_url(answer.overlay(found.mask)),
        "alt": f"The photo with its watermark in red, on {found.coverage:.1%} of the pixels",
    }
    name = f"{Path(path).stem}.mask.png"
    file = save_bytes_to_cache(encode(mask, ".png"), name, get_upload_folder())
    return pictures, {"watermark": found.score}, said, shrunk(mask, PREVIEW_PX), file


def look(answers: Answers, logo, text: str, photo, opacity: float, size: float):
    """A mark on a photo, what is found of it, a sentence, and the heat map."""
    from evaluation.figures import to_picture
    from evaluation.trial import try_mark  # slow to import: PyTorch
    from evaluation.visibility import heat_map

    photo = photo or EXAMPLES["No mark"]
    with explained(logo, photo):
        if len(text) > MAX_TEXT:  # the page's own limit holds in browsers alone
            raise ValueError(f"The text has {len(text)} characters. Give {MAX_TEXT} at most.")
        for path in filter(None, (logo, photo)):
            check_photo(path)
        trial = answers.run(try_mark, logo, text, read_image(photo), opacity, size)
    found = trial.found
    said = f"Score **{found.score:.2f}**; **{found.coverage:.1%}** of the pixels are found."
    pictures = trial.image, overlay(trial.image, found.mask)
    return *pictures, said, to_picture(heat_map(trial.cells))


def find_many(answers: Answers, paths, progress=gr.Progress(track_tqdm=True)):  # noqa: B008
    """Contact sheet, table and ZIP file of a handful of images."""
    from evaluation.figures import overlay_sheet

    with explained(), tempfile.TemporaryDirectory() as folder:
        if not paths or len(paths) > MAX_FILES:
            raise ValueError(f"{len(paths or [])} files came. Choose 1 to {MAX_FILES}.")
        records = segment_handful(paths, Path(folder), answers.segmenter, check_photo)
        good = [record for record in records if record["error"] is None]
        sheet = overlay_sheet(good, [overlay_of(one, Path(folder)) for one in good])
        file = save_bytes_to_cache(zip_masks(Path(folder)), "masks.zip", get_upload_folder())
    return sheet, [[record[name] for name in TABLE] for record in records], file


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
            "Everything is computed on the machine that runs this page. The photo of the "
            "first tab is deleted after the answer, other files within "
            f"{(SWEEP_S + KEEP_S) // 60} minutes."
        )
    return page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)


def drop(label: str, **options) -> gr.File:
    """A place for any file: what cannot be used is explained after the upload."""
    return gr.File(label=label, height=170, elem_classes="drop", **options)


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
            compare = gr.HTML(
                html_template=COMPARE, css_template=COMPARE_CSS, js_on_load=COMPARE_JS,
                elem_id="compare",
            )  # fmt: skip
            with gr.Row():
                sliders = [gr.Slider(*span, min_width=200, **texts) for span, texts in SLIDERS]
            with gr.Row():
                mask = picture("Mask", "The mask: white where the photo is marked", format="png")
                probability = picture("Probability", "The probability of each pixel: white is 1")
    path, shown = gr.State(), [compare, score, said, mask, download]
    for event, function, given in (
        (photo.upload, find_upload, photo), (examples.click, find_example, examples)
    ):  # fmt: skip
        answered = event(
            partial(function, answers), [given, *sliders], [path, probability, *shown],
            show_progress_on=compare, api_name=function.__name__, **NETWORK,
        )  # fmt: skip
        for after in (answered.success, answered.failure):  # room for the next one
            after(lambda: None, None, photo, queue=False)
    gr.on(
        [slider.input for slider in sliders], partial(decide, answers), [path, *sliders], shown,
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
