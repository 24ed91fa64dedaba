"""The page: what its events answer, and the whole of it in a real browser."""

import json
import re
import shutil
import time
import zipfile
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
def network():
    return Bright()


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


@pytest.mark.usefixtures("score_of_the_head")
def test_a_photo_is_answered(network, photo):
    wanted = expected_file(photo, *SETTINGS)
    _, probability, pictures, score, said, mask, file = app.find_upload(network, photo, *SETTINGS)
    assert Path(file).read_bytes() == wanted and Path(file).name == "photo.mask.png"
    assert score == pytest.approx({"watermark": 0.9}) and "160 x 120 pixels are marked" in said
    assert probability.shape == mask.shape == (120, 160) and set(np.unique(mask)) == {0, 255}
    assert [picture.shape for picture in pictures] == [(120, 160, 3)] * 2


@pytest.mark.parametrize("settings", [(0.45, 0, 0.5), (0.55, 3, 0.1)])
def test_sliders_decide_like_segment_without_the_network(network, photo, settings):
    wanted = expected_file(photo, *settings)
    answer, *_ = app.find_upload(network, photo, *SETTINGS)
    *_, file = app.show(answer, *settings)
    assert Path(file).read_bytes() == wanted and network.views == 4  # asked once
    _, _, said, mask, _ = app.show(answer, 0.5, 0, 0.95)
    assert not mask.any() and "**0.0%**" in said and "below the minimum score" in said


def test_large_photos_are_shown_reduced_and_their_mask_is_not(network, tmp_path):
    photo = str(tmp_path / "large.png")
    cv2.imwrite(photo, paint_photo(0, 1000, 1500))
    *_, shown, file = app.find_upload(network, photo, *SETTINGS)
    assert max(shown.shape) == 1280 and cv2.imread(file).shape == (1000, 1500, 3)


def test_a_clip_has_one_mask_and_the_times_of_the_mark(network, tmp_path):
    frames = [Image.fromarray(paint_photo(seed, 60, 80)) for seed in range(4)]
    clip = tmp_path / "clip.gif"
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=500)
    _, _, pictures, _, said, mask, file = app.find_upload(network, str(clip), *SETTINGS)
    assert mask.shape == (60, 80) and mask.any() and Path(file).name == "clip.mask.png"
    assert "4 frames were checked" in said and re.search(r"seen from 0\.\d s to 1\.\d s", said)
    assert pictures[0].shape == (60, 80, 3)


def test_files_that_cannot_be_used_become_a_sentence_with_their_name(network, bad_file, tmp_path):
    with pytest.raises(gr.Error) as error:
        app.find_upload(network, str(bad_file), *SETTINGS)
    assert bad_file.name in str(error.value) and str(bad_file.parent) not in str(error.value)
    (tmp_path / "<b>x.png").write_bytes(b"")
    with pytest.raises(gr.Error, match=r"&lt;b&gt;x\.png is empty"):  # no markup
        app.find_upload(network, str(tmp_path / "<b>x.png"), *SETTINGS)
    with pytest.raises(gr.Error, match="No photo was sent"):
        app.find_upload(network, None, *SETTINGS)
    with pytest.raises(gr.Error, match="Give a logo or a line of text as the mark: neither came"):
        app.try_my_mark(network, None, None, None, 0.5, 0.4)


def test_photos_that_are_too_large_are_refused_by_their_header(network, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", app.MAX_PIXELS // 2)  # as `main` does
    Image.new("LA", (5_001, 10_000)).save(tmp_path / "large.png")
    large, limit = str(tmp_path / "large.png"), "exceeds limit of 50000000 pixels"
    with pytest.raises(gr.Error, match=f"large.png cannot be decoded: .* {limit}.* smaller photo"):
        app.find_upload(network, large, *SETTINGS)
    for logo, text, photo in ((large, "", None), (None, "text", large)):
        with pytest.raises(gr.Error, match=limit):
            app.try_my_mark(network, logo, text, photo, 0.5, 0.4)
    _, ((name, *_, error),), _ = app.find_many(network, [large])
    assert name == "large.png" and limit in error


@pytest.mark.parametrize("logo, text", [("logo0.png", ""), (None, "a line")])
def test_a_mark_is_drawn_searched_and_measured(network, logo_folder, photo, logo, text):
    logo = logo and str(logo_folder / logo)
    (marked, found), said, heat = app.try_my_mark(network, logo, text, photo, 0.8, 0.5)
    before = np.array(Image.open(photo))
    assert marked.shape == found.shape == before.shape and said.startswith("Score **0.90**")
    assert 0.01 < (np.abs(marked.astype(int) - before) > 30).any(2).mean() < 0.5
    assert min(heat.size) > 100 and Path(photo).exists()


@pytest.mark.parametrize(
    "logo, text, size, message",
    [
        ("logo0.png", "text", 0.4, "both came"),
        ("opaque.png", "", 0.4, "opaque.png (has no transparency: a mark needs"),
        (None, "a line of text that is long", 0.1, "too small to read"),
        (None, "x" * 61, 0.4, "The text has 61 characters. Give 60 at most"),
    ],
)
def test_marks_that_cannot_be_used_are_explained(
    network, logo_folder, photo, tmp_path, logo, text, size, message
):
    shutil.copy(logo_folder / "logo0.png", tmp_path)
    Image.new("RGB", (20, 20)).save(tmp_path / "opaque.png")
    with pytest.raises(gr.Error, match=re.escape(message)) as error:
        app.try_my_mark(network, logo and str(tmp_path / logo), text, photo, 0.5, size)
    assert "/" not in str(error.value)


@pytest.mark.usefixtures("score_of_the_head")
def test_many_images_come_by_score_with_masks_and_report(network, photo, tmp_path):
    files = [tmp_path / name for name in ("a/same.png", "b/same.png", "list.txt")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        shutil.copy(photo, file)
    files[2].write_text(photo)  # not a list to follow
    with pytest.raises(gr.Error, match=f"0 files were sent. Choose 1 to {app.MAX_FILES}"):
        app.find_many(network, [])
    gallery, table, file = app.find_many(network, list(map(str, files)))
    assert [row[0] for row in table] == ["same.png", "~same.png", "list.txt"]
    assert [row[1] for row in table] == [0.9, 0.9, None] and "ending of an image" in table[2][3]
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["report.jsonl", "same.png", "~same.png"]
        assert [caption for _, caption in gallery] == ["0.90 same.png", "0.90 ~same.png"]
        assert archive.read("same.png") == expected_file(photo, *SETTINGS)
        lines = list(map(json.loads, archive.read("report.jsonl").splitlines()))
    assert [line["path"] for line in lines] == [row[0] for row in table]


def test_an_image_that_is_also_a_list_of_paths_is_not_followed(network, photo, tmp_path):
    Image.open(photo).save(tmp_path / "evil.TXT", "GIF")
    with open(tmp_path / "evil.TXT", "ab") as file:
        file.write(f"\n{photo}\n".encode())
    _, ((_, score, _, error),), _ = app.find_many(network, [str(tmp_path / "evil.TXT")])
    assert score is None and "does not have the ending of an image" in error


@pytest.fixture(autouse=True)
def signals_and_folder_as_before(monkeypatch):
    """`main` is for a process of its own: it sets a signal handler and Gradio's folder."""
    monkeypatch.setattr(app.signal, "signal", lambda *given: None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", app.get_upload_folder())


@pytest.mark.parametrize("arguments, host", [([], "127.0.0.1"), (["--host", "0.0.0.0"], "0.0.0.0")])
def test_the_page_is_for_this_machine_unless_asked_and_leaves_no_file(monkeypatch, arguments, host):
    called, written = {}, []

    def launch(page, **options):
        called.update(options)
        written.append(Path(app.get_upload_folder()) / "upload.png")
        written[0].touch()

    monkeypatch.setattr(app, "load_segmenter", lambda folder: Bright())
    monkeypatch.setattr(app, "launch", launch)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    app.main(arguments)
    assert Image.MAX_IMAGE_PIXELS == app.MAX_PIXELS // 2
    assert called == {"server_name": host, "server_port": 7860, "share": False}
    assert not written[0].parent.exists()


@pytest.fixture(scope="module")
def server():
    """The page's segmenter and address."""
    network = Bright()
    page = app.make_page(network)
    _, url, _ = app.launch(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    yield network, url
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


def test_after_a_text_file_from_an_uploaded_photo_to_the_downloaded_mask(
    server, open_page, photo, tmp_path
):
    network, page = server[0], open_page(1280)
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#photo input[type=file]", tmp_path / "notes.txt")
    page.get_by_text("notes.txt is not an image that Pillow can read").wait_for()
    page.wait_for_selector("#photo input[type=file]", state="attached")
    page.set_input_files("#photo input[type=file]", photo)
    page.wait_for_selector("#compare img")
    sources = "[...document.querySelectorAll('#compare img')].map((one) => one.src).join()"
    before, views = page.evaluate(sources), network.views
    slider = page.get_by_role("slider", name="range slider for Threshold")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(f"old => {sources} !== old", arg=before)
    page.wait_for_timeout(500)  # the last of five answers
    assert slider.input_value() == "0.55" and network.views == views
    with page.expect_download() as download:
        page.get_by_text("Download the mask").click()
    file = Path(download.value.path()).read_bytes()
    assert file == expected_file(photo, 0.55, 0, 0.5) != expected_file(photo, *SETTINGS)


def test_an_example_on_a_phone_by_keyboard(open_page):
    page = open_page(390)
    page.get_by_role("button", name="Two marks").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare img")
    page.wait_for_selector("img[alt='The probability of each pixel: white is 1']")
    upper, lower = (page.locator(name).bounding_box() for name in ("#photo", "#compare"))
    assert lower["y"] > upper["y"] + upper["height"]  # one column
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    named = page.locator("img:visible:not(#compare img)")  # whose label says what it shows
    assert named.evaluate_all("all => all.every((one) => one.alt)")


def test_the_api_has_one_name_for_each_tab(network):
    names = {e.api_name: e.api_visibility for e in app.make_page(network).fns.values()}
    assert [n for n in names if names[n] == "public"] == ["find_upload", "look", "find_many"]


def test_uploads_and_results_are_deleted_after_a_while(monkeypatch, tmp_path, photo):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(app, "SWEEP_S", 1)
    monkeypatch.setattr(app, "KEEP_S", 10)
    page = app.make_page(Bright())
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
