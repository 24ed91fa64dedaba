"""The page: what its events answer, and the whole of it in a real browser."""

import base64
import json
import re
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import gradio as gr
import numpy as np
import pytest
from conftest import paint_photo
from gradio_client import Client, handle_file
from PIL import Image

import app
from app import MAX_PIXELS, Answers, check_photo
from inference.pictures import encode, mask_bytes
from inference.segmenter import Segmenter

SETTINGS = (0.5, 0, 0.5)  # threshold, dilation, minimum score
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Bright(Segmenter):
    """A network for which bright pixels are marked, with a score of 0.9; counts its views."""

    one_core_each = True

    def __init__(self):
        self.views = 0

    @contextmanager
    def predicting(self, threads=None):
        def predict(views):
            self.views += len(views)
            return [(view.mean(2, dtype=np.float32) / 255, 0.9) for view in views]

        yield predict

    def fingerprint(self):
        return "bright"


@pytest.fixture
def answers():
    return Answers(Bright())


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(paint_photo(0, 120, 160)).save(path)
    return str(path)


def expected_file(photo, *settings) -> bytes:
    """The mask that `segment` finds, as the page should offer it."""
    threshold, dilation_px, min_score = settings
    mask = Bright().segment(photo, threshold, dilation_px, min_score).mask
    assert 0 < mask.mean() < 1
    return encode(mask_bytes(mask), ".png")


# --- Events ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("score_of_the_head")
def test_a_photo_is_answered(answers, photo):
    wanted = expected_file(photo, *SETTINGS)
    _, probability, pictures, score, said, mask, file = app.find_upload(answers, photo, *SETTINGS)
    assert Path(file).read_bytes() == wanted and Path(file).name == "photo.mask.png"
    assert score == pytest.approx({"watermark": 0.9}) and "160 x 120 pixels are marked" in said
    assert probability.shape == mask.shape == (120, 160) and set(np.unique(mask)) == {0, 255}
    assert [picture.shape for picture in pictures] == [(120, 160, 3)] * 2


def test_two_uploads_of_one_photo_are_both_answered(answers, photo):
    """Gradio gives both the same path."""
    one, *_ = app.find_upload(answers, photo, *SETTINGS)
    other, *_, file = app.find_upload(answers, photo, *SETTINGS)
    assert one != other and Path(file).read_bytes() == expected_file(photo, *SETTINGS)
    assert app.decide(answers, one, *SETTINGS)[-1] == file


@pytest.mark.parametrize("settings", [(0.45, 0, 0.5), (0.5, 3, 0.5), (0.55, 1, 0.1)])
def test_sliders_decide_like_segment_without_the_network(answers, photo, settings):
    wanted = expected_file(photo, *settings)
    token, *_ = app.find_upload(answers, photo, *SETTINGS)
    *_, file = app.decide(answers, token, *settings)
    assert Path(file).read_bytes() == wanted and answers.segmenter.views == 4  # asked once


def test_a_low_score_is_said(answers, photo):
    token, *_ = app.find_upload(answers, photo, *SETTINGS)
    _, _, said, mask, _ = app.decide(answers, token, 0.5, 0, 0.95)
    assert not mask.any() and "**0.0%**" in said and "below the minimum score" in said


def test_a_slider_before_the_first_photo_changes_nothing(answers):
    assert app.decide(answers, None, *SETTINGS) == [gr.skip()] * 5


def test_large_photos_are_shown_reduced_and_their_mask_is_not(answers, tmp_path):
    photo = str(tmp_path / "large.png")
    cv2.imwrite(photo, paint_photo(0, 1000, 1500))
    *_, shown, file = app.find_upload(answers, photo, *SETTINGS)
    assert max(shown.shape) == 1280 and cv2.imread(file).shape == (1000, 1500, 3)


def test_examples_are_small_stay_and_are_a_marked_a_clean_and_a_wrong_one(answers):
    assert len(app.EXAMPLES) == 3
    for index, path in enumerate(app.EXAMPLES.values()):
        assert path.stat().st_size < 100_000
        assert app.find_example(answers, index, *SETTINGS)[0] in answers.kept


def test_bad_files_become_a_sentence_with_their_name(answers, bad_file):
    with pytest.raises(gr.Error) as error:
        app.find_upload(answers, str(bad_file), *SETTINGS)
    assert bad_file.name in str(error.value) and str(bad_file.parent) not in str(error.value)


def test_no_photo_and_no_text_are_explained(answers):
    with pytest.raises(gr.Error, match="No photo came"):
        app.find_upload(answers, None, *SETTINGS)
    with pytest.raises(gr.Error, match="Give a logo or a line of text as the mark: neither came"):
        app.look(answers, None, None, None, 0.5, 0.4)


def test_names_cannot_bring_markup_into_the_sentence(answers, tmp_path):
    (tmp_path / "<b>x.png").write_bytes(b"")
    with pytest.raises(gr.Error, match=r"&lt;b&gt;x\.png is empty"):
        app.find_upload(answers, str(tmp_path / "<b>x.png"), *SETTINGS)


def test_photos_that_are_too_large_are_refused_by_their_header(tmp_path):
    for width, name in ((5_001, "large.png"), (20_000, "huge.png")):
        Image.new("1", (width, 10_000)).save(tmp_path / name)
        assert width * 10_000 > MAX_PIXELS
        with pytest.raises(ValueError, match=f"{name} has more than 50 megapixels"):
            check_photo(tmp_path / name)


def test_answers_are_kept_within_a_bound_and_the_latest_always(tmp_path):
    paths = [str(tmp_path / f"{index}.png") for index in range(3)]
    for index, path in enumerate(paths):
        Image.fromarray(paint_photo(index, 20, 30)).save(path)
    answers = Answers(Bright(), limit=2 * 20 * 30 * (3 + 4))
    tokens = [answers.ask(path) for path in paths]
    with pytest.raises(ValueError, match=r"no longer in memory. Choose the photo again"):
        answers.get(tokens[0])
    assert [answers.get(token).name for token in tokens[1:]] == ["1", "2"]
    small = Answers(Bright(), limit=0)
    assert small.get(small.ask(paths[0])).name == "0"


@pytest.mark.parametrize("logo, text", [("logo0.png", ""), (None, "a line")])
def test_a_mark_is_drawn_searched_and_measured(answers, logo_folder, photo, logo, text):
    logo = logo and str(logo_folder / logo)
    marked, found, said, heat = app.look(answers, logo, text, photo, 0.8, 0.5)
    before = np.array(Image.open(photo))
    assert marked.shape == found.shape == before.shape and said.startswith("Score **0.90**")
    assert 0.01 < (np.abs(marked.astype(int) - before) > 30).any(2).mean() < 0.5
    assert min(heat.size) > 100 and Path(photo).exists()


@pytest.mark.parametrize(
    "logo, text, size, message",
    [
        (None, " ", 0.4, "Give a logo or a line of text as the mark: neither came"),
        ("logo0.png", "text", 0.4, "both came"),
        ("opaque.png", "", 0.4, "opaque.png (has no transparency: a mark needs"),
        ("zero.png", "", 0.4, "zero.png is empty"),
        ("logo.ico", "", 0.4, "logo.ico is no logo by its ending: give a PNG or a WebP"),
        (None, "a line of text that is long", 0.1, "too small to read"),
        (None, "x" * 61, 0.4, "The text has 61 characters. Give 60 at most"),
    ],
)
def test_marks_that_cannot_be_used_are_explained(
    answers, logo_folder, photo, tmp_path, logo, text, size, message
):
    for name in ("logo0.png", "logo.ico"):
        shutil.copy(logo_folder / "logo0.png", tmp_path / name)
    Image.new("RGB", (20, 20)).save(tmp_path / "opaque.png")
    (tmp_path / "zero.png").touch()
    with pytest.raises(gr.Error, match=re.escape(message)) as error:
        app.look(answers, logo and str(tmp_path / logo), text, photo, 0.5, size)
    assert "/" not in str(error.value)


@pytest.mark.usefixtures("score_of_the_head")
def test_many_images_come_by_score_with_masks_and_report(answers, photo, tmp_path):
    files = [tmp_path / name for name in ("a/same.png", "b/same.png", "list.txt")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        shutil.copy(photo, file)
    files[2].write_text(photo)  # not a list to follow
    sheet, table, file = app.find_many(answers, list(map(str, files)))
    assert [row[0] for row in table] == ["same.png", "~same.png", "list.txt"]
    assert [row[1] for row in table] == [0.9, 0.9, None] and "not an image" in table[2][3]
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["report.jsonl", "same.png", "~same.png"]
        assert archive.read("same.png") == expected_file(photo, *SETTINGS)
        lines = list(map(json.loads, archive.read("report.jsonl").splitlines()))
    assert [line["path"] for line in lines] == [row[0] for row in table] and min(sheet.size) > 100


def test_an_image_that_is_also_a_list_of_paths_is_not_followed(answers, photo, tmp_path):
    for name in ("evil.txt", ".TXT"):
        Image.open(photo).save(tmp_path / name, "GIF")
        with open(tmp_path / name, "ab") as file:
            file.write(f"\n{photo}\n".encode())
        _, ((shown, score, _, error),), _ = app.find_many(answers, [str(tmp_path / name)])
        assert shown == name and score is None and "has not the ending of an image" in error


def test_many_images_that_are_none_still_give_a_report(answers, bad_file):
    sheet, ((name, score, _, error),), file = app.find_many(answers, [str(bad_file)])
    assert sheet is None and name == bad_file.name and score is None and error
    assert zipfile.ZipFile(file).namelist() == ["report.jsonl"]


@pytest.mark.parametrize("count", [0, app.MAX_FILES + 1])
def test_the_number_of_images_is_bounded(answers, photo, count):
    with pytest.raises(gr.Error, match=f"{count} files came. Choose 1 to {app.MAX_FILES}"):
        app.find_many(answers, [photo] * count)


# --- The command -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def signals_and_folder_as_before(monkeypatch):
    """`main` is for a process of its own: it sets a signal handler and Gradio's folder."""
    monkeypatch.setattr(app.signal, "signal", lambda *given: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", app.get_upload_folder())


def test_no_file_outlives_the_page(monkeypatch):
    written = []

    def launch(page, **options):
        written.append(Path(app.get_upload_folder()) / "upload.png")
        written[0].touch()

    monkeypatch.setattr(app, "load_segmenter", lambda folder: Bright())
    monkeypatch.setattr(app, "launch", launch)
    app.main([])
    assert not written[0].parent.exists()


@pytest.mark.parametrize("arguments, host", [([], "127.0.0.1"), (["--host", "0.0.0.0"], "0.0.0.0")])
def test_the_page_is_for_this_machine_unless_asked(monkeypatch, arguments, host):
    called = {}
    monkeypatch.setattr(app, "load_segmenter", lambda folder: Bright())
    monkeypatch.setattr(app, "launch", lambda page, **options: called.update(options))
    app.main(arguments)
    assert called == {"server_name": host, "server_port": 7860, "share": False}


def test_wrong_weights_are_explained(tmp_path):
    with pytest.raises(SystemExit, match=r"app.py: No config.json in"):
        app.main(["--weights", str(tmp_path)])


# --- In the browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    """The page's segmenter and address."""
    answers = Answers(Bright())
    page = app.make_page(answers)
    _, url, _ = app.launch(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield answers.segmenter, url
    page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("No Chromium found: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def open_page(server, browser):
    """Opens the page at a width in px; any request to another host fails the test."""
    pages, foreign = [], []

    def watch(request):
        if not request.url.startswith((server[1], "data:", "blob:")):
            foreign.append(request.url)

    def open_at(width):
        pages.append(page := browser.new_page(viewport={"width": width, "height": 900}))
        page.set_default_timeout(15_000)
        page.on("request", watch)
        page.goto(server[1])
        page.wait_for_selector("#photo input[type=file]", state="attached")
        return page

    yield open_at
    for page in pages:
        page.close()
    assert not foreign


def hand_over(page, path, event: str) -> None:
    """Drops a file on the photo's field, or pastes it into the page."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    page.evaluate(
        """([data, name, event]) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            const target = event === 'drop' ? document.querySelector('#photo button') : document;
            const made = event === 'drop'
                ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true })
                : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true });
            target.dispatchEvent(made);
        }""",
        [data, Path(path).name, event],
    )


def test_from_a_dropped_photo_to_the_downloaded_mask(server, open_page, photo):
    segmenter, page = server[0], open_page(1280)
    hand_over(page, photo, "drop")
    page.wait_for_selector("#compare img")
    sources = "[...document.querySelectorAll('#compare img')].map((one) => one.src).join()"
    before, views = page.evaluate(sources), segmenter.views
    slider = page.get_by_role("slider", name="range slider for Threshold")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(f"old => {sources} !== old", arg=before)
    page.wait_for_timeout(500)  # the last of five answers
    assert slider.input_value() == "0.55" and segmenter.views == views
    with page.expect_download() as download:
        page.get_by_text("Download the mask").click()
    file = Path(download.value.path()).read_bytes()
    assert file == expected_file(photo, 0.55, 0, 0.5) != expected_file(photo, *SETTINGS)


def test_after_a_text_file_the_next_photo_works(open_page, photo, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    page = open_page(1280)
    hand_over(page, tmp_path / "notes.txt", "drop")
    page.get_by_text("notes.txt is not an image that Pillow can read. Choose").wait_for()
    assert "Traceback" not in page.inner_text("body")
    page.wait_for_selector("#photo input[type=file]", state="attached")
    hand_over(page, photo, "paste")
    page.wait_for_selector("#compare img")


@pytest.mark.parametrize("width, columns", [(1280, 2), (390, 1)])
def test_one_column_on_a_phone_and_two_on_a_desk(open_page, width, columns):
    page = open_page(width)
    page.get_by_role("button", name="Two marks").click()
    page.wait_for_selector("#compare img")
    left, right = (page.locator(name).bounding_box() for name in ("#photo", "#compare"))
    assert (right["x"] > left["x"] + left["width"]) == (columns == 2)
    assert (right["y"] > left["y"] + left["height"]) == (columns == 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_everything_is_reached_by_keyboard_and_has_a_text(open_page):
    page = open_page(1280)
    page.get_by_role("button", name="Two marks").click()
    page.wait_for_selector("#compare img")
    page.wait_for_selector("img[alt='The probability of each pixel: white is 1']")
    named = page.locator("img:visible:not(#compare img)")  # whose label says what it shows
    assert named.evaluate_all("all => all.every((one) => one.alt)")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(
            "(e => (e.getAttribute('aria-label') || e.innerText).trim())(document.activeElement)"
        ))  # fmt: skip
    wanted = {"Click to upload or drop files", "Two marks", "Download the mask (PNG)"}
    wanted |= {f"range slider for {texts['label']}" for _, texts in app.SLIDERS}
    assert wanted <= reached


def test_uploads_and_results_are_deleted_after_a_while(monkeypatch, tmp_path, photo):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(app, "SWEEP_S", 1)
    monkeypatch.setattr(app, "KEEP_S", 10)
    page = app.make_page(Answers(Bright()))
    _, url, _ = app.launch(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)

    def files():
        names = {path.name for path in tmp_path.glob("gradio/*/*.*")}
        return names - {path.name for path in app.EXAMPLES.values()}

    Client(url, verbose=False).predict([handle_file(photo)], api_name="/find_many")
    assert {"photo.png", "masks.zip"} <= files()
    assert all(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    deadline = time.monotonic() + 30
    while files() and time.monotonic() < deadline:
        time.sleep(0.2)
    page.close(verbose=False)
    assert not files()


def test_twenty_requests_at_once_are_all_answered(server, tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(20)]
    for index, path in enumerate(paths):
        Image.fromarray(paint_photo(index, 40, 60)).save(path)
    client = Client(server[1], verbose=False)

    def ask(path):
        return client.predict(handle_file(path), *SETTINGS, api_name="/find_upload")

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(ask, paths))
    for path, result in zip(paths, results):
        assert Path(result[-1]).read_bytes() == expected_file(path, *SETTINGS)
