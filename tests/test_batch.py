"""Many images to masks and a report: nothing is lost or half written, and bytes are equal."""

import hashlib
import json
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
from conftest import paint_photo
from PIL import Image

import segment
from batch import predict
from batch import run as batch_run
from batch.files import OutputError, UsageError, locked
from batch.run import Options, segment_files
from batch.scan import ScanOptions
from inference.deploy import TorchSegmenter
from inference.pictures import boxes_of, coco_rle

ROOT = Path(__file__).parents[1]


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
def go(tiny_weights):
    """`segment_files` with the tiny network; the masks do not depend on the score."""

    def call(sources, output, **options):
        chosen = {"min_score": 0.0, "weights": tiny_weights, "device": "cpu", **options}
        return segment_files(sources, output, Options(**chosen))

    return call


def files(folder) -> dict[str, bytes]:
    """Name to bytes of all files in a folder; the report without its times."""
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


def failed(summary) -> dict[str, str]:
    return {r["path"]: r["error"] for r in summary.records if r["error"] is not None}


def test_every_image_gets_its_mask_and_its_line(folder, go, tiny_model):
    summary = go([folder], "out")
    records = lines("out")
    names = ["00", "02", "04", "sub/01", "sub/03", "sub/05"]
    assert [r["path"] for r in records] == [f"in/{name}.jpg" for name in names]
    assert [r["mask"] for r in records] == [f"{name}.png" for name in names]
    for record in records:
        mask = np.asarray(Image.open(Path("out", record["mask"])))
        expected = tiny_model.segment(record["path"], min_score=0)
        assert mask.dtype == np.uint8 and np.array_equal(mask, expected.mask * np.uint8(255))
        assert record["score"] == pytest.approx(expected.score, abs=1e-5)
        assert record["coverage"] == pytest.approx(expected.coverage, abs=1e-7)
        assert record["boxes"] == boxes_of(expected.mask) and record["error"] is None
        assert record["seconds"] > 0
    assert sorted(files("out")) == sorted([f"{name}.png" for name in names] + ["report.jsonl"])
    assert summary.records == records
    assert str(summary).startswith(f"6 images, {summary.marked} marked, 0 failed; ")


def test_masks_have_the_size_that_a_viewer_shows(odd_images, go, tmp_path):
    paths, expected = zip(*odd_images)
    summary = go(paths, tmp_path / "out")
    for record, rgb in zip(summary.records, expected, strict=True):
        with Image.open(tmp_path / "out" / record["mask"]) as mask:
            assert mask.size == rgb.shape[1::-1] and mask.mode == "L", record["path"]


def test_options_reach_the_outputs(folder, go, tiny_model):
    pytest.importorskip("pycocotools")
    chosen = dict(overlay=True, probability=True, rle=True, soft=True, dilate=2)
    go([folder], "out", **chosen)
    assert len(files("out")) == 6 * 3 + 1
    for record in lines("out"):
        mask = tiny_model.segment(record["path"], min_score=0, dilation_px=2).mask
        assert record["rle"] == coco_rle(mask)
        soft = np.asarray(Image.open(f"out/{record['mask']}"))
        assert np.array_equal(soft, cv2.GaussianBlur(mask * np.uint8(255), (0, 0), 2))
    with Image.open("out/00.probability.png") as deep:
        assert deep.mode.startswith("I") and deep.size == Image.open("in/00.jpg").size
    fast = go([folder], "fast", fast=True, threshold=0.0)
    assert all(record["coverage"] == 1 for record in fast.records)
    scores = [tiny_model.segment(one["path"], fast=True).score for one in fast.records]
    assert [one["score"] for one in fast.records] == pytest.approx(scores, abs=1e-4)


def test_the_report_as_a_table(folder, go):
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("in", os.fsdecode(b"\xff.jpg")).write_bytes(b"no image")
    rows = go([folder], "out").records
    masks = {name: data for name, data in files("out").items() if name != "report.jsonl"}
    summary = go([folder], "out", report="parquet")
    assert summary.done_before == 6 and set(files("out")) == {*masks, "report.parquet"}
    table = parquet.read_table("out/report.parquet")
    assert table["boxes"].to_pylist() == [row["boxes"] for row in rows]
    assert table["score"].to_pylist() == [row["score"] for row in rows]
    assert "in/\\udcff.jpg" in table["path"].to_pylist()


def test_a_bad_file_costs_only_its_own_line(folder, bad_file, go, monkeypatch):
    read = predict.read_image

    def broken(image):
        if image.filename.endswith("02.jpg"):
            raise ZeroDivisionError("division by zero")
        return read(image)

    monkeypatch.setattr(predict, "read_image", broken)
    shutil.copy(bad_file, "in/bad.jpg")
    os.symlink("loop.jpg", "in/loop.jpg")
    Image.fromarray(paint_photo(1, 20, 30)).save(f"in/{'x' * 251}.jpg")  # its mask fits
    Path("list.txt").write_text("in\nin/never there.jpg\n")
    summary = go(["list.txt"], "out", overlay=True)
    errors = failed(summary)
    assert "levels of symbolic links" in errors["in/loop.jpg"]
    assert errors["in/never there.jpg"] == "No such file or directory"
    assert errors["in/02.jpg"] == "ZeroDivisionError: division by zero"
    assert errors["in/bad.jpg"] and "in/bad.jpg" not in errors["in/bad.jpg"]
    assert errors[f"in/{'x' * 251}.jpg"].endswith("File name too long")  # its overlay does not
    assert len(
        errors
    ) == summary.failed == 5 and f"failed: in/bad.jpg: {errors['in/bad.jpg']}" in str(summary)
    assert all(r["mask"] is None and r["boxes"] == [] for r in summary.records if r["error"])


@pytest.mark.parametrize("together", [False, True])
def test_a_pipe_is_no_image_and_is_not_waited_for(folder, go, together):
    for name in ("in/pipe.gif", "in/pipe.jpg"):
        os.mkfifo(name)
    errors = failed(go([folder], "out", together=together))
    assert errors == {"in/pipe.gif": "is not a file", "in/pipe.jpg": "is not a file"}


NAMES = [" two  spaces .jpg", "-dash.jpg", "größe 日本.jpg", "a'b\"c\n.jpg"]


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
    Image.fromarray(paint_photo(0, 150, 1700)).save("in/large.png")  # in tiles
    for workers in (1, 4):
        go([folder], f"out{workers}", workers=workers, probability=True)
    assert files("out1") == files("out4")


def test_new_changed_failed_and_lost_images_are_done_on_the_next_run(folder, go):
    Path("in/later.jpg").write_bytes(b"not yet")
    assert go([folder], "out").failed == 1
    Image.fromarray(paint_photo(9, 40, 40)).save("in/later.jpg")
    Image.fromarray(paint_photo(9, 50, 60)).save("in/new.jpg")
    Image.fromarray(paint_photo(9, 60, 60)).save("in/00.jpg")
    Path("out/02.png").unlink()
    Path("out/04.png").write_bytes(b"")  # as a crash leaves it
    times = {path: path.stat().st_mtime_ns for path in Path("out/sub").iterdir()}
    summary = go([folder], "out")
    assert summary.done_before == 3 and not summary.failed and len(summary.records) == 8
    assert {path: path.stat().st_mtime_ns for path in times} == times
    go([folder], "fresh")
    assert files("out") == files("fresh")
    Path("in/04.jpg").write_bytes(b"broken now")
    assert go([folder], "out").failed == 1 and "04.png" not in files("out")


def test_results_of_other_options_or_images_are_kept_unless_overwritten(folder, go):
    Path("other").mkdir()
    Image.fromarray(paint_photo(3, 90, 80)).save("other/00.jpg")
    go([folder], "out")
    before = files("out")
    with pytest.raises(UsageError, match="other options, weights, devices or programs"):
        go([folder], "out", fast=True)
    with pytest.raises(UsageError, match=r"out/00\.png belongs to .*in/00\.jpg\. Give another"):
        go(["other"], "out")
    with pytest.raises(UsageError, match=r"input out/00\.png was written by an earlier run"):
        go(["out/00.png"], "out", overwrite=True)
    assert files("out") == before
    go([folder], "out", threshold=0.0, overwrite=True)
    assert all(record["coverage"] == 1 for record in lines("out"))


def test_files_of_others_are_never_replaced(folder, go):
    Path("out").mkdir()
    Path("out/00.png").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(
            UsageError, match=r"has a file 00\.png that segment\.py did not write.*move that file"
        ):
            go([folder], "out", overwrite=overwrite)
    shutil.copy("in/00.jpg", "out/02.png")  # an input, too
    with pytest.raises(UsageError, match=r"has a file 02\.png that segment\.py did not write"):
        go([Path("out/02.png").resolve()], "out")
    assert {*files("out")} == {"00.png", "02.png"} and not Path("out/.progress.jsonl").exists()


def test_two_runs_never_write_to_one_folder(folder, go):
    with locked(Path("out")), pytest.raises(UsageError, match="Another run is writing to out"):
        go([folder], "out")
    assert files("out") == {}
    Path("file").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"The output file is a file\. Give a folder"):
        go([folder], "file")


@pytest.mark.parametrize("name", ["../victim/thesis", "{}/victim/thesis", "link/thesis"])
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
    with pytest.raises(UsageError, match=r"out/sub/01\.png is outside: a link leads"):
        go([folder], "out")
    Path("out/sub").unlink()
    os.symlink("../victim/notes", "out/.progress.jsonl")
    with pytest.raises(UsageError, match=r"out/\.progress\.jsonl is a link"):
        go(["in/00.jpg"], "out")
    assert files("victim") == {"notes": b"mine"}


def test_what_was_corrected_by_hand_stays(folder, go):
    go([folder], "out")
    corrected = paint_photo(0, 30, 50).tobytes()
    for name in ("00.png", "02.png", "report.jsonl"):
        Path("out", name).write_bytes(corrected)
    Image.fromarray(paint_photo(9, 60, 60)).save("in/02.jpg")  # a new photo, whose mask stays, too
    for _ in range(2):
        summary = str(go([folder], "out"))
        for name in ("00.png", "02.png", "report.jsonl"):
            assert f"changed since it was written, not replaced: {name}" in summary
            assert Path("out", name).read_bytes() == corrected
    Path("in/00.jpg").write_bytes(b"broken now")
    assert go([folder], "out").failed and Path("out/00.png").read_bytes() == corrected
    assert "changed" not in str(go([folder], "out", overwrite=True))
    assert "00.png" not in files("out") and files("out")["02.png"] != corrected


def test_photos_that_are_out_of_reach_keep_their_masks(folder, go):
    Path("list.txt").write_text("in/00.jpg\nin/02.jpg\n")
    go(["list.txt"], "out")
    before = files("out")
    os.rename("in", "not mounted today")
    summary = go(["list.txt"], "out")
    for record, earlier in zip(summary.records, before.pop("report.jsonl"), strict=True):
        assert "cannot be read now (No such file or directory); mask and" in record["error"]
        assert {**record, "error": None, "seconds": 0} == earlier
    assert {name: files("out")[name] for name in before} == before
    os.rename("not mounted today", "in")
    assert go(["list.txt"], "out").done_before == 2


def test_an_interrupted_run_ends_soon_and_has_noted_every_mask(folder, go, make_model, monkeypatch):
    Image.fromarray(paint_photo(0, 60, 60_000)).save("in/001.png")  # 90 views
    predict = TorchSegmenter.predict_views

    def slowly(self, views):
        time.sleep(0.1)
        return predict(self, views)

    def interrupt(bar, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TorchSegmenter, "predict_views", slowly)
    monkeypatch.setattr(batch_run.tqdm, "update", interrupt)
    start_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        segment_files([folder], "out", Options(workers=1), make_model().eval())
    assert time.monotonic() - start_s < 6
    notes = filter(None, Path("out/.progress.jsonl").read_text().splitlines())
    records = [json.loads(note)["record"] for note in notes]
    assert sorted(record["mask"] for record in records) == sorted(files("out"))
    assert 0 < len(records) < 6


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


def test_killed_and_started_again_it_ends_with_the_same_bytes(tmp_path, go, tiny_weights):
    paint(30, tmp_path / "in", zoom=6)
    go([tmp_path / "in"], tmp_path / "whole", probability=True)
    output = tmp_path / "out"
    command = [sys.executable, ROOT / "segment.py", tmp_path / "in", "--output", output]
    command += ["--weights", tiny_weights, "--min-score", "0", "--probability", "--device", "cpu"]
    run = subprocess.Popen([*map(str, command), "--backend", "torch"], stderr=subprocess.DEVNULL)
    journal = output / ".progress.jsonl"
    while run.poll() is None and (
        not journal.exists() or journal.read_bytes().count(b'"record"') < 5
    ):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (output / "report.jsonl").exists()
    left = files(output)
    journal.write_bytes(journal.read_bytes() + b'\n{"key": "torn')
    summary = go([tmp_path / "in"], output, probability=True)
    assert 0 < summary.done_before < 30
    assert files(output) == files(tmp_path / "whole")
    assert all(left[name] == data for name, data in files(output).items() if name in left)


def test_pillows_limit_holds_unless_lifted(folder, go, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 720)  # an error above twice as much
    errors = failed(go([folder], "out"))
    assert len(errors) == 5 and all("--allow-huge" in error for error in errors.values())
    read = predict.read_image

    def in_work(image):
        assert Image.MAX_IMAGE_PIXELS == 720  # for whatever else this process opens
        return read(image)

    monkeypatch.setattr(predict, "read_image", in_work)
    assert not go([folder], "out", allow_huge=True).failed


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (Options, dict(dilate=-1), "dilation of -1 px"),
        (Options, dict(report="csv"), "jsonl, parquet"), (Options, dict(every=0), "every is 0"),
        (ScanOptions, dict(keep_below=1.5), "keep_below is 1.5"),
        (ScanOptions, dict(backend="x"), "backend is 'x'"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_a_missing_package_is_named_before_the_work(monkeypatch):
    monkeypatch.setattr("batch.command.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install pycocotools"):
        Options(rle=True)


def test_exit_status_tells_how_it_went(folder, tiny_weights, capsys):
    tiny = ["--weights", tiny_weights, "--device", "cpu"]
    assert segment.main(["in", "--output", "out", *tiny]) == 0
    assert "6 images, " in capsys.readouterr().out
    Path("in/bad.jpg").write_bytes(b"bad")
    assert segment.main(["in", "--output", "out", *tiny]) == 1
    assert "failed: in/bad.jpg: " in capsys.readouterr().out
    for wrong, message in {
        ("nowhere", *tiny): "nowhere cannot be read: No such file",
        ("in", "--device", "gpu"): "device is 'gpu'; use auto",
        ("in", "--weights", "none"): "none",
    }.items():
        assert segment.main([*wrong, "--output", "out2"]) == 2
        assert message in capsys.readouterr().err
    for wrong in (["in"], ["in", "--output", "x", "--threshold", "7"]):
        with pytest.raises(SystemExit) as caught:
            segment.main(wrong)
        assert caught.value.code == 2
    assert not Path("x").exists() and not Path("out2").exists()


@pytest.mark.parametrize("error", [OutputError("the disk is full"), ValueError("no such column")])
def test_whatever_stops_a_run_is_named_in_a_line(folder, tiny_weights, monkeypatch, capsys, error):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr("batch.run.predict_samples", stop)
    given = ["in", "--output", "out", "--weights", tiny_weights, "--device", "cpu"]
    assert segment.main(given) == 1
    message = f"segment.py: stopped: {error}. Finished results are kept. To continue, run the "
    assert message + "same command without --overwrite." in capsys.readouterr().err
