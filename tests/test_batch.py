"""Many images to masks and a report: nothing lost, nothing half-written, the same bytes always."""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import paint_photo
from PIL import Image

import segment
from batch import look
from batch import run as batch_run
from batch.command import run_command
from batch.files import OutputError, UsageError, locked
from batch.run import Options, segment_files
from inference import openvino_backend
from inference.deploy import TorchSegmenter
from inference.pictures import boxes_of, coco_rle

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("weights")
    tiny_model.save(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six photos of different sizes and modes in `in/`, below a new current folder."""
    monkeypatch.chdir(tmp_path)
    paint(6, Path("in"))
    return Path("in")


def paint(count: int, folder: Path, zoom: int = 1) -> None:
    (folder / "sub").mkdir(parents=True)
    for i in range(count):
        photo = Image.fromarray(
            paint_photo(i, zoom * (30 + 7 * (i % 5)), zoom * (50 - 3 * (i % 4)))
        )
        mode = ("RGB", "L", "CMYK")[i % 3]
        photo.convert(mode).save(folder / f"{'sub/' if i % 2 else ''}{i:02}.jpg")


@pytest.fixture
def go(weights, tiny_model):
    """`segment_files` with the tiny network; always a mask, whatever the score."""

    def call(sources, output, **options):
        chosen = {"min_score": 0.0, "weights": weights, "device": "cpu", **options}
        return segment_files(sources, output, Options(**chosen))

    return call


def files(folder) -> dict[str, bytes]:
    """Name to bytes of all files below a folder, the report without its times."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".progress"):
            found[name] = path.read_bytes()
    if "report.jsonl" in found:
        lines = [json.loads(line) for line in found["report.jsonl"].splitlines()]
        found["report.jsonl"] = [{**line, "seconds": 0} for line in lines]
    return found


def lines(output) -> list[dict]:
    return [json.loads(line) for line in (Path(output) / "report.jsonl").read_text().splitlines()]


def test_every_image_gets_its_mask_and_its_line(folder, go, tiny_model):
    summary = go([folder], "out")
    records = lines("out")
    names = ["00", "02", "04", "sub/01", "sub/03", "sub/05"]
    assert [r["path"] for r in records] == [f"in/{name}.jpg" for name in names]
    assert [r["mask"] for r in records] == [f"{name}.png" for name in names]
    for record in records:
        mask = np.asarray(Image.open(Path("out", record["mask"])))
        expected = tiny_model.segment(record["path"], min_score=0)
        assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
        assert mask.shape == (record["height"], record["width"])
        assert np.array_equal(mask == 255, expected.mask)
        assert record["score"] == pytest.approx(expected.score, abs=1e-5)
        assert record["coverage"] == pytest.approx(expected.coverage, abs=1e-7)
        assert record["boxes"] == boxes_of(expected.mask) and record["error"] is None
        assert record["seconds"] > 0
    assert sorted(files("out")) == sorted([f"{name}.png" for name in names] + ["report.jsonl"])
    assert summary.records == records and not summary.failed
    assert str(summary).startswith(f"6 images, {summary.marked} marked, 0 failed; ")


def test_masks_have_the_size_that_a_viewer_shows(odd_image, go, tmp_path):
    path, expected = odd_image
    summary = go([path], tmp_path / "out")
    with Image.open(tmp_path / "out" / summary.records[0]["mask"]) as mask:
        assert mask.size == expected.shape[1::-1] and mask.mode == "L"


def test_options_reach_the_outputs(folder, go, tiny_model):
    pytest.importorskip("pycocotools")
    chosen = dict(overlay=True, probability=True, rle=True, soft=True, dilate=2)
    go([folder], "out", **chosen)
    names = sorted(files("out"))
    assert len(names) == 6 * 3 + 1
    for record in lines("out"):
        mask = tiny_model.segment(record["path"], min_score=0, dilation_px=2).mask
        assert record["rle"] == coco_rle(mask)
        soft = np.asarray(Image.open(f"out/{record['mask']}"))
        assert np.array_equal(soft, cv2.GaussianBlur(mask * np.uint8(255), (0, 0), 2))
    with Image.open("out/00.probability.png") as deep:
        assert deep.mode.startswith("I") and deep.size == Image.open("in/00.jpg").size
    go([folder], "empty", min_score=1.0)
    assert all(record["coverage"] == 0 and record["boxes"] == [] for record in lines("empty"))
    go([folder], "all", threshold=0.0)
    assert all(record["coverage"] == 1 for record in lines("all"))


def test_the_report_as_a_table(folder, go):
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("in", os.fsdecode(b"\xff.jpg")).write_bytes(b"no image")
    table = parquet.read_table(go([folder], "out", report="parquet").report)
    assert table.column_names == list(batch_run.COLUMNS)
    rows = go([folder], "lines").records
    assert table["boxes"].to_pylist() == [row["boxes"] for row in rows]
    assert table["score"].to_pylist() == [row["score"] for row in rows]
    assert "in/\\udcff.jpg" in table["path"].to_pylist()


@pytest.mark.parametrize(
    "error, status, said",
    [
        (PermissionError(13, "Permission denied", "x"), 1, "segment.py: stopped: [Errno 13]"),
        (ValueError("no such column"), 1, "segment.py: stopped: no such column. Go on."),
        (OutputError("the disk is full"), 1, "segment.py: stopped: the disk is full. Go on."),
        (UsageError("no image"), 2, "segment.py: no image"),
    ],
)
def test_errors_end_a_command_with_a_line(capsys, error, status, said):
    def work():
        raise error

    assert run_command("segment.py", work, "Go on.") == status
    assert capsys.readouterr().err.startswith(said)


def test_the_summary_says_what_was_passed_over(folder, go):
    assert "passed over" not in str(go([folder], "out"))
    for name in ("a.psd", "b.PSD", "sub/c.raw"):
        Path("in", name).write_bytes(b"")
    summary = go([folder], "out")
    assert "passed over, by their ending no images: 2 .psd, 1 .raw" in str(summary)
    assert not summary.failed and "earlier run" not in str(summary)
    Path("in/masks").mkdir()
    Path("in/masks/.progress.jsonl").write_bytes(b"")
    told = "passed over, folders with masks of an earlier run: 1; photos in them must be named"
    assert told in str(go([folder], "out"))


def test_a_bad_file_costs_only_its_own_line(folder, bad_file, go):
    shutil.copy(bad_file, "in/bad.jpg")
    os.symlink("loop.jpg", "in/loop.jpg")
    os.mkfifo("in/pipe.jpg")
    Path("list.txt").write_text("in\nin/never there.jpg\n")
    summary = go(["list.txt"], "out")
    failed = {record["path"]: record["error"] for record in summary.failed}
    assert set(failed) == {"in/bad.jpg", "in/loop.jpg", "in/pipe.jpg", "in/never there.jpg"}
    assert "levels of symbolic links" in failed["in/loop.jpg"]
    assert failed["in/pipe.jpg"] == "is no file"
    assert failed["in/never there.jpg"] == "No such file or directory"
    assert failed["in/bad.jpg"] and "in/bad.jpg" not in failed["in/bad.jpg"]
    assert all(record["mask"] is None and record["boxes"] == [] for record in summary.failed)
    assert len(files("out")) == 6 + 1
    assert all(f"failed: {path}: " in str(summary) for path in failed)


def test_whatever_a_decoder_raises_costs_only_one_line(folder, go, monkeypatch):
    read = look.read_image

    def broken(image):
        if image.filename.endswith("02.jpg"):
            raise ZeroDivisionError("division by zero")
        return read(image)

    monkeypatch.setattr(look, "read_image", broken)
    (record,) = go([folder], "out").failed
    assert record["error"] == "ZeroDivisionError: division by zero"
    assert record["path"] == "in/02.jpg" and record["mask"] is None


NAMES = [" two  spaces .jpg", "-dash.jpg", "größe 日本.jpg", "x" * 251 + ".jpg", "a'b\"c\n.jpg"]


def test_odd_names_keep_their_masks(tmp_path, monkeypatch, go):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    names = [*NAMES, os.fsdecode(b"\xff.jpg")]
    for name in names:
        Image.fromarray(paint_photo(1, 20, 30)).save(f"in/{name}", format="JPEG")
    go(["in"], "out", overlay=True)
    records = lines("out")
    assert {record["path"] for record in records} == {f"in/{name}" for name in names}
    assert all(Path("out", record["mask"]).is_file() for record in records)
    assert len(files("out")) == 2 * len(names) + 1


def test_the_same_bytes_whatever_the_number_of_workers(folder, go):
    for workers in (1, 3, 8):
        go([folder], f"out{workers}", workers=workers, probability=True)
    assert files("out1") == files("out3") == files("out8")


def test_tiles_of_a_large_image_are_the_same_for_all_workers(tmp_path, go):
    Image.fromarray(paint_photo(0, 150, 1700)).save(tmp_path / "large.png")
    for workers in (1, 4):
        go([tmp_path / "large.png"], tmp_path / f"out{workers}", workers=workers, probability=True)
    masks = [files(tmp_path / f"out{workers}")["large.probability.png"] for workers in (1, 4)]
    assert masks[0] == masks[1]


def test_each_view_has_one_thread_and_the_caller_keeps_his(folder, go, make_model):
    model, seen = make_model(), set()
    network = model.network.forward

    def forward(image):
        seen.add(torch.get_num_threads())
        return network(image)

    model.network.forward = forward
    torch.set_num_threads(2)
    try:
        segment_files([folder], "out", segmenter=model)
        assert seen == {1} and torch.get_num_threads() == 2 and model.training
    finally:
        torch.set_num_threads(1)


def test_a_finished_run_is_not_done_again(folder, go):
    go([folder], "out")
    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    before = files("out")
    summary = go([folder], "out", workers=2, report="jsonl")
    assert summary.done_before == 6 and "6 of them done before" in str(summary)
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")} == times
    assert files("out") == before


def test_new_changed_failed_and_lost_images_are_done_on_the_next_run(folder, go):
    Path("in/later.jpg").write_bytes(b"not yet")
    assert len(go([folder], "out").failed) == 1
    Image.fromarray(paint_photo(9, 40, 40)).save("in/later.jpg")
    Image.fromarray(paint_photo(9, 50, 60)).save("in/new.jpg")
    Image.fromarray(paint_photo(9, 60, 60)).save("in/00.jpg")
    Path("out/02.png").unlink()
    summary = go([folder], "out")
    assert summary.done_before == 4 and not summary.failed and len(summary.records) == 8
    go([folder], "fresh")
    assert files("out") == files("fresh")


def test_results_of_other_options_are_kept_unless_overwritten(folder, go):
    go([folder], "out")
    before = files("out")
    with pytest.raises(UsageError, match="other options, weights, devices or programs"):
        go([folder], "out", threshold=0.0)
    assert files("out") == before
    go([folder], "out", threshold=0.0, overwrite=True)
    assert all(record["coverage"] == 1 for record in lines("out"))


def test_an_input_that_an_earlier_run_wrote_is_not_deleted(folder, go):
    go([folder], "out")
    before = files("out")
    with pytest.raises(UsageError, match=r"00\.png, an input, is of an earlier run"):
        go(["out/00.png"], "out", overwrite=True)
    assert files("out") == before


def test_files_of_others_are_never_replaced(folder, go):
    Path("out").mkdir()
    Path("out/00.png").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"has a 00\.png that no run wrote.*move that file"):
            go([folder], "out", overwrite=overwrite)
        assert files("out") == {"00.png": b"mine"} and not Path("out/.progress.jsonl").exists()
    Path("out/00.png").unlink()
    go([folder], "out")
    Path("out/new.png").write_bytes(b"mine")
    Path("out/report.parquet").write_bytes(b"mine")
    shutil.copy("in/00.jpg", "new.jpg")
    with pytest.raises(UsageError, match=r"has a new\.png that no run wrote"):
        go([folder, "new.jpg"], "out")
    with pytest.raises(UsageError, match=r"has a report\.parquet that no run wrote"):
        go([folder], "out", report="parquet")


def test_a_report_of_another_kind_replaces_the_older_one(folder, go):
    go([folder], "out")
    masks = {name: data for name, data in files("out").items() if name != "report.jsonl"}
    assert go([folder], "out", report="parquet").done_before == 6
    assert set(files("out")) == {*masks, "report.parquet"}


def test_the_mask_of_another_image_is_never_taken_for_ones_own(folder, go):
    Path("other").mkdir()
    Image.fromarray(paint_photo(3, 90, 80)).save("other/00.jpg")
    go([folder], "out")
    before = files("out")
    with pytest.raises(UsageError, match=r"out/00\.png is of .*in/00\.jpg\. Give another"):
        go(["other"], "out")
    assert files("out") == before


def test_two_runs_never_write_to_one_folder(folder, go):
    with locked(Path("out")), pytest.raises(UsageError, match="Another run is writing to out"):
        go([folder], "out")
    assert files("out") == {}
    go([folder], "out")


def test_an_interrupted_run_ends_soon_and_has_noted_every_mask(folder, go, make_model, monkeypatch):
    model = make_model().eval()
    Image.fromarray(paint_photo(0, 60, 60_000)).save("in/001.png")  # 90 views
    look = TorchSegmenter.predict_views

    def slowly(self, views):
        time.sleep(0.1)
        return look(self, views)

    def interrupt(bar, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TorchSegmenter, "predict_views", slowly)
    monkeypatch.setattr(batch_run.tqdm, "update", interrupt)
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        segment_files([folder], "out", Options(workers=1), model)
    assert time.monotonic() - start_s < 6
    notes = [
        json.loads(line) for line in Path("out/.progress.jsonl").read_text().splitlines() if line
    ]
    records = [note["record"] for note in notes]
    assert not any(record["error"] for record in records)
    assert sorted(record["mask"] for record in records) == sorted(files("out"))
    assert 0 < len(records) < 6


@pytest.mark.parametrize("name", ["../victim/thesis", "{}/victim/thesis", "link/thesis.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_outside_the_output_folder_is_touched(folder, go, name, overwrite):
    Path("victim").mkdir()
    Path("victim/thesis").write_text("years of work")
    go([folder], "out")
    os.symlink("../victim", "out/link")
    name, journal = name.format(Path.cwd()), Path("out/.progress.jsonl")
    note = json.loads(journal.read_bytes().split(b"\n")[1])
    digest = hashlib.sha256(b"years of work").hexdigest()[:32]
    notes = [{**note, "path": "", "name": name, "claim": name, "files": {name: digest}}]
    notes.append({**note, "files": {name: digest}})
    with journal.open("ab") as file:
        file.write(b"".join(b"\n" + json.dumps(n).encode() + b"\n" for n in notes))
    Path("in/00.jpg").write_bytes(b"broken now, so that its outputs go")
    go([folder], "out", overwrite=overwrite)
    assert Path("victim/thesis").read_text() == "years of work"


def test_links_that_lead_out_of_the_output_folder_are_refused(folder, go):
    Path("victim").mkdir()
    Path("victim/notes").write_text("mine")
    Path("out").mkdir()
    os.symlink("../victim", "out/sub")
    with pytest.raises(UsageError, match=r"out/sub/01\.png is outside, where a link"):
        go([folder], "out")
    Path("out/sub").unlink()
    os.symlink("../victim/notes", "out/.progress.jsonl")
    with pytest.raises(UsageError, match=r"out/\.progress\.jsonl is a link"):
        go([folder], "out")
    assert files("victim") == {"notes": b"mine"}


def test_a_mask_that_was_corrected_by_hand_stays(folder, go):
    go([folder], "out")
    corrected = paint_photo(0, 30, 50).tobytes()
    Path("out/00.png").write_bytes(corrected)
    Path("out/02.png").write_bytes(corrected)
    Image.fromarray(paint_photo(9, 60, 60)).save("in/02.jpg")  # a new photo, whose mask stays, too
    for _ in range(2):
        summary = go([folder], "out")
        assert "changed since it was written, left as it is: 00.png" in str(summary)
        assert files("out")["00.png"] == files("out")["02.png"] == corrected
    Path("in/00.jpg").write_bytes(b"broken now")
    assert go([folder], "out").failed and files("out")["00.png"] == corrected
    assert "changed" not in str(go([folder], "out", overwrite=True))
    assert "00.png" not in files("out") and files("out")["02.png"] != corrected


def test_a_report_that_was_changed_is_not_replaced(folder, go):
    go([folder], "out")
    Path("out/report.jsonl").write_text("my remarks")
    with pytest.raises(UsageError, match=r"report\.jsonl was changed since it was written"):
        go([folder], "out")
    assert Path("out/report.jsonl").read_text() == "my remarks"


def test_photos_that_are_out_of_reach_keep_their_masks(folder, go):
    Path("list.txt").write_text("in/00.jpg\nin/02.jpg\n")
    go(["list.txt"], "out")
    before = files("out")
    os.rename("in", "not mounted today")
    summary = go(["list.txt"], "out")
    for record, earlier in zip(summary.failed, before.pop("report.jsonl"), strict=True):
        assert "cannot be read now (No such file or directory); mask and" in record["error"]
        assert {**record, "error": None, "seconds": 0} == earlier
    assert {name: files("out")[name] for name in before} == before
    os.rename("not mounted today", "in")
    assert go(["list.txt"], "out").done_before == 2


def test_damaged_outputs_are_made_again_and_stale_ones_removed(folder, go):
    go([folder], "out", overlay=True)
    whole = files("out")
    Path("out/00.png").write_bytes(b"")
    Path("out/02.overlay.jpg").unlink()
    assert go([folder], "out", overlay=True).done_before == 4
    assert files("out") == whole
    Path("in/04.jpg").write_bytes(b"broken now")
    assert len(go([folder], "out", overlay=True).failed) == 1
    assert {*whole} - {*files("out")} == {"04.png", "04.overlay.jpg"}
    go([folder], "out", overwrite=True)
    assert not [name for name in files("out") if "overlay" in name]


def test_an_output_that_is_no_folder_is_refused(folder, go):
    Path("out").write_bytes(b"mine")
    with pytest.raises(UsageError, match="out cannot be written"):
        go([folder], "out")


@pytest.mark.parametrize("limit", [150, 900])
def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(folder, go, limit):
    resource = pytest.importorskip("resource")  # no file may grow above a limit: errno EFBIG
    go([folder], "fresh")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written: File too large"):
            go([folder], "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    whole = files("fresh")
    assert all(whole[name] == data for name, data in files("out").items())
    go([folder], "out")
    assert files("out") == whole


def test_a_torn_journal_is_read_up_to_the_tear(folder, go):
    go([folder], "out")
    whole, journal = files("out"), Path("out/.progress.jsonl")
    *notes, last, _, _, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([*notes, last[:-40]]))
    Path("out", json.loads(last)["record"]["mask"]).unlink()  # outputs come after their note
    Path("out/report.jsonl").unlink()
    summary = go([folder], "out")
    assert summary.done_before == 5 and files("out") == whole


def command(*arguments):
    on_cpu = ["--backend", "torch", "--device", "cpu"]
    return [sys.executable, str(ROOT / "segment.py"), *map(str, arguments), *on_cpu]


def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path, go, weights):
    paint(30, tmp_path / "in", zoom=6)
    go([tmp_path / "in"], tmp_path / "whole", probability=True)
    output = tmp_path / "out"
    arguments = [tmp_path / "in", "--output", output, "--weights", weights, "--min-score", "0"]
    run = subprocess.Popen(command(*arguments, "--probability"), stderr=subprocess.DEVNULL)
    journal = output / ".progress.jsonl"
    while run.poll() is None and (
        not journal.exists() or journal.read_bytes().count(b'"record"') < 5
    ):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (output / "report.jsonl").exists()
    left = files(output)
    summary = go([tmp_path / "in"], output, probability=True)
    assert 0 < summary.done_before < 30
    assert files(output) == files(tmp_path / "whole")
    assert all(left[name] == data for name, data in files(output).items() if name in left)


def test_pillows_limit_holds_unless_lifted(folder, go, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 720)  # an error above twice as much
    failed = go([folder], "out").failed
    assert len(failed) == 5 and all("--allow-huge" in record["error"] for record in failed)
    read = look.read_image

    def in_work(image):
        assert Image.MAX_IMAGE_PIXELS == 720  # for whatever else this process opens
        return read(image)

    monkeypatch.setattr(look, "read_image", in_work)
    assert not go([folder], "out", allow_huge=True).failed


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(threshold=2), "threshold 2"), (dict(dilate=-1), "dilation of -1 px"),
        (dict(workers=0), "workers is 0"), (dict(report="csv"), "jsonl, parquet"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_a_missing_package_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr("batch.command.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pycocotools"):
        Options(rle=True)


# --- The script --------------------------------------------------------------------------------


def test_exit_status_tells_how_it_went(folder, weights, capsys):
    tiny = ["--weights", weights, "--device", "cpu"]
    assert segment.main(["in", "--output", "out", *tiny]) == 0
    assert "6 images, " in capsys.readouterr().out
    Path("in/bad.jpg").write_bytes(b"bad")
    assert segment.main(["in", "--output", "out", *tiny]) == 1
    assert "failed: in/bad.jpg: " in capsys.readouterr().out
    assert segment.main(["nowhere", "--output", "out", *tiny]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert segment.main(["in", "--output", "out2", "--weights", "nowhere"]) == 2
    assert "No config.json in nowhere" in capsys.readouterr().err
    assert segment.main(["in", "--output", "out2", "--device", "gpu"]) == 2
    assert "No device 'gpu' here; use auto, cpu" in capsys.readouterr().err
    assert segment.main(["in/00.jpg", "--output", "out3", *tiny, "./in/02.jpg"]) == 0
    for wrong in (["in"], ["in", "--output", "x", "--threshold", "7"], ["--output", "x"]):
        with pytest.raises(SystemExit) as caught:
            segment.main(wrong)
        assert caught.value.code == 2
    assert not Path("x").exists()


def test_a_full_disk_is_told_in_one_line(folder, weights, monkeypatch, capsys):
    def full(*_, **more):
        raise OutputError("out/00.png cannot be written: No space left on device")

    monkeypatch.setattr("batch.journal.write_whole", full)
    assert segment.main(["in", "--output", "out", "--weights", weights, "--device", "cpu"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in message and "same command goes on" in message


def test_the_script_segments_with_the_shipped_weights(folder, capsys):
    Path("photos.txt").write_text("in/00.jpg\nin/sub/01.jpg\n")
    assert segment.main(["photos.txt", "--output", "out"]) == 0
    assert sorted(files("out")) == ["in/00.png", "in/sub/01.png", "report.jsonl"]


def test_the_conversion_of_the_network_is_announced(tmp_path, monkeypatch):
    log = logging.getLogger("inference")
    monkeypatch.setattr(log, "level", log.level)  # put back afterwards
    assert segment.main([str(tmp_path / "none"), "--output", str(tmp_path / "out")]) == 2
    assert openvino_backend.LOG.isEnabledFor(logging.INFO)


def test_fast_looks_once_and_is_another_run(folder, go, tiny_model):
    slow = go([folder], "out").records
    with pytest.raises(UsageError, match="results of other options"):
        go([folder], "out", fast=True)
    fast = go([folder], "fast", fast=True).records
    assert [one["score"] for one in slow] != [one["score"] for one in fast]
    paths = [one["path"] for one in fast]
    scores = [tiny_model.segment(path, fast=True).score for path in paths]
    assert [one["score"] for one in fast] == pytest.approx(scores, abs=1e-4)
