"""The evaluation from the command line: its table is right, its errors are clear."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate
from evaluation.accuracy import Outcome, summarise
from evaluation.metrics import score_mask
from evaluation.tables import markdown
from evaluation.test_files import find_test_files, synthetic_slices
from samples import IGNORE
from samples.pairs import pair_files
from samples.splits import make_manifest, write_manifest


def outcome(label, iou_pixels, score=0.5, photo="1"):
    """An Outcome with so many of four pixels right."""
    truth = np.uint8([[1, 1, 1, 1]]) if label else np.uint8([[0, 0, 0, 0]])
    scores = score_mask(np.arange(4)[None] < iou_pixels, truth)
    return Outcome("x", photo, label, score, scores, scores)


def test_table_averages_marked_images_and_counts_false_alarms():
    slices = {
        "text": [outcome(1, 4, 0.9), outcome(1, 1, 0.4), outcome(IGNORE, 0)],
        "clean": [outcome(0, 0, 0.1), outcome(0, 2, 0.6)],
    }
    results = summarise(slices)
    text, clean = results["slices"]["text"], results["slices"]["clean"]
    assert (text["marked"], text["clean"], text["undecided"]) == (2, 0, 1)
    assert text["iou"][0] == pytest.approx((1 + 0.25) / 2)
    assert text["pooled_iou"][0] == pytest.approx(5 / 8)
    assert text["auroc"][0] == clean["auroc"][0] == pytest.approx(3 / 4)  # .9 beats both, .4 one
    assert clean["images_marked"][0] == 0.5 and clean["area_marked"][0] == pytest.approx(0.25)
    table = markdown(results)
    assert "| text | 2 | 0.62 (" in table and "| clean thumbnails | 2 | 50.0 (" in table
    assert "text: 1 images left out" in table and "Mean IoU of 1 slices: 0.625" in table


def test_images_of_one_photo_count_as_one_in_the_interval():
    def width(photos):
        slices = {
            "text": [outcome(1, 4, 0.3 + 0.02 * i, f"{i * photos // 30}") for i in range(30)],
            "clean": [outcome(0, 0, 0.7 - 0.02 * i, f"{i * photos // 30}") for i in range(30)],
        }
        return np.ptp(summarise(slices)["score"]["auroc"][1:])

    assert width(3) > 1.5 * width(30)


def test_the_table_leads_with_what_a_user_meets_and_names_imitations():
    names = ["CLWD", "LOGO-L", "text", "large-corner", "unknown"]
    table = markdown(summarise({name: [outcome(1, 4)] for name in names}))
    rows = [line.split(" | ")[0][2:] for line in table.splitlines() if " | 1 | " in line]
    assert rows == ["large-corner", "text", "LOGO-L-like", "CLWD-like", "unknown"]


def test_evaluation_writes_everything_and_twice_the_same(arguments, tmp_path, capsys):
    evaluate.main([*arguments, "--save-images"])
    first = json.loads((tmp_path / "out/results.json").read_text())
    evaluate.main(arguments)
    second = json.loads((tmp_path / "out/results.json").read_text())
    assert first["test_set_sha256"] == second["test_set_sha256"]
    assert first["slices"] == second["slices"]
    written = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/**/*")}
    assert {"results.md", "reliability.png", "gallery/text.png", "gallery/clean.png"} <= written
    assert "nobody can tell whether" in capsys.readouterr().out


def test_saved_images_can_be_evaluated_as_pairs(arguments, weights, tmp_path):
    evaluate.main([*arguments, "--save-images"])
    first = json.loads((tmp_path / "out/results.json").read_text())
    folders = ["--images", str(tmp_path / "out/images"), "--masks", str(tmp_path / "out/masks")]
    pairs = ["measure", "--weights", str(weights), "--output", str(tmp_path / "pairs"), *folders]
    evaluate.main(pairs)
    pairs = json.loads((tmp_path / "pairs/results.json").read_text())
    values = {o["name"]: o["decidable"]["iou"] for o in first["outcomes"]}
    assert {o["name"]: o["decidable"]["iou"] for o in pairs["outcomes"]} == values


def test_what_cannot_be_written_ends_the_evaluation(arguments, tmp_path):
    path = tmp_path / "out/images/text/0001.png"
    path.mkdir(parents=True)  # where an image is to be
    with pytest.raises(SystemExit, match=r"Is a directory: .*0001\.png"):
        evaluate.main([*arguments, "--save-images"])
    (tmp_path / "file").write_bytes(b"")
    taken = ["together", *arguments[1:-1], "--output", str(tmp_path / "file")]
    with pytest.raises(SystemExit, match=r"File exists: .*file"):
        evaluate.main(taken)


def test_files_that_were_trained_on_are_refused(arguments, weights, photos):
    write_manifest(make_manifest(photos=photos[:3]), weights / "trained_on.json")
    with pytest.raises(SystemExit, match="3 of 8 photos to test with were trained on"):
        evaluate.main(arguments)


def test_pairs_that_were_trained_on_are_refused(arguments, weights, tmp_path):
    evaluate.main([*arguments, "--save-images"])
    folders = tmp_path / "out/images", tmp_path / "out/masks"
    write_manifest(make_manifest(photos=pair_files(*folders)[:3]), weights / "trained_on.json")
    with pytest.raises(SystemExit, match="3 of 4 photos to test with were trained on"):
        evaluate.main(["measure", "--weights", str(weights),
                       "--images", str(folders[0]), "--masks", str(folders[1])])  # fmt: skip


def test_fonts_that_were_trained_on_are_noted(arguments, weights, photos, fonts, capsys):
    write_manifest(make_manifest(fonts=fonts), weights / "trained_on.json")
    cut = arguments.index("--fonts")
    evaluate.main(arguments[:cut] + arguments[cut + 2 :])  # with matplotlib's
    assert "2 of " in (out := capsys.readouterr().out) and "fonts were trained on" in out


def test_manifest_restricts_the_files(arguments, photos, logos, fonts, tmp_path):
    listed = dict(photos=photos[3:], logos=logos, fonts=fonts)
    write_manifest(make_manifest(**listed), tmp_path / "m.json")
    folders = dict(
        zip(("photos", "logos"), (photos[0].path.parent, logos[0].path.parent)),
        fonts=arguments[arguments.index("--fonts") + 1],
    )
    files = find_test_files(**folders, manifest=tmp_path / "m.json")
    assert {kind: len(found) for kind, found in files.items()} == {
        "photos": 5, "logos": 6, "fonts": 2
    }  # fmt: skip
    write_manifest(make_manifest(**{**listed, "fonts": []}), tmp_path / "m.json")
    with pytest.raises(SystemExit, match="manifest lists no fonts"):
        evaluate.main([*arguments, "--manifest", str(tmp_path / "m.json")])


def test_slices_are_made_of_their_own_photos(photos, logos, fonts, photo_folder, tmp_path, capsys):
    (tmp_path / "large").mkdir()
    Image.new("RGB", (1200, 900), "teal").save(tmp_path / "large/one.jpg")
    folders = photo_folder, logos[0].path.parent, None
    files = find_test_files(*folders, large=tmp_path / "large")
    slices = synthetic_slices(["text", "large-text", "large-clean", "print-text"], 9, 0, files)
    assert {name: len(images) for name, images in slices.items()} == {
        "text": 9, "large-text": 9, "large-clean": 1  # a clean photo does not repeat
    }  # fmt: skip
    assert slices["large-text"][0].make().image.shape == (900, 1200, 3)
    assert [image.photo for image in slices["text"][7:]] == ["photos 7", "photos 0"]
    assert "Left out, because they need --print: print-text." in capsys.readouterr().out
    with pytest.raises(ValueError, match="No slice can be made of the photos given"):
        synthetic_slices(["print-text"], 1, 0, files)
    write_manifest(make_manifest(photos=photos, logos=logos), tmp_path / "m.json")
    with pytest.raises(ValueError, match="lists no large photos to test with"):
        find_test_files(*folders, tmp_path / "m.json", large=tmp_path / "large")


def test_photos_that_share_a_mark_are_measured_together(arguments, tmp_path):
    cut = arguments.index("--slices")
    files = arguments[1:cut]
    evaluate.main(
        ["together", *files, "--slices", "opaque", "--count", "1", "--group-sizes", "2", "4"]
    )
    rows = json.loads((tmp_path / "out/together.json").read_text())
    assert [row["images"] for row in rows] == [2, 4]
    assert (tmp_path / "out/together.md").read_text().count("| opaque | ") == 2


@pytest.mark.parametrize(
    "wrong",
    ["", "measure --count 0", "measure --slices nothing", "together --save-images",
     "together --photos a --logos b --slices clean", "calibrate --photos a --logos b",
     "quantize --photos a --logos b"],
)  # fmt: skip
def test_wrong_usage_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        evaluate.main(wrong.split())
    assert stop.value.code == 2 and "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("", "Give --photos and --logos, or --images and --masks"),
        ("--photos x", "Give --photos and --logos"),
        ("--images a --photos c --logos b", "Give --photos and --logos"),
        ("--images a --masks b --count 5", "evaluated as they are: no --count"),
        ("--images a --masks b --manifest c", "evaluated as they are: no --manifest"),
    ],
)
def test_measure_says_what_it_needs(weights, wrong, message):
    with pytest.raises(SystemExit, match=message):
        evaluate.main(["measure", "--weights", str(weights), *wrong.split()])


def test_empty_folder_is_explained(arguments, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments[arguments.index("--photos") + 1] = str(tmp_path / "empty")
    with pytest.raises(SystemExit, match="No usable image below"):
        evaluate.main(arguments)
