"""`evaluate.py measure`: its tables, its files and its errors."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate
from evaluation.accuracy import markdown, summarise
from evaluation.metrics import score_mask
from evaluation.testset import find_test_files, synthetic_slices
from samples import IGNORE
from samples.pairs import pair_files
from samples.splits import make_manifest, write_manifest

ABOUT = {"test_set_sha256": "a" * 64, "model_sha256": "b" * 64, "program": "torch cpu 123"}


def outcome(label, right_px, score=0.5, photo="1"):
    """The outcome of an image of four pixels, of which the first `right_px` are in the mask."""
    truth = np.uint8([[1, 1, 1, 1]]) if label else np.uint8([[0, 0, 0, 0]])
    scores = score_mask(np.arange(4)[None] < right_px, truth)
    about = {"name": "x", "photo": photo, "label": label, "score": score}
    return {**about, **scores._asdict(), "alpha_iou": scores.iou, "alpha_f1": scores.f1}


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
    table = markdown({**results, **ABOUT})
    assert "Test set aaaaaaaaaaaaaaaa, model bbbbbbbbbbbbbbbb (SHA-256), run by torch cpu." in table
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


def test_the_table_has_usual_marks_first_and_names_imitations():
    names = ["CLWD", "LOGO-L", "text", "large-corner", "unknown"]
    table = markdown({**summarise({name: [outcome(1, 4)] for name in names}), **ABOUT})
    rows = [line.split(" | ")[0][2:] for line in table.splitlines() if " | 1 | " in line]
    assert rows == ["large-corner", "text", "LOGO-L-like", "CLWD-like", "unknown"]


def read_results(folder) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_evaluation_writes_everything_and_its_images_measure_the_same_as_pairs(
    arguments, weights, photos, tmp_path, capsys
):
    evaluate.main([*arguments, "--save-images"])
    first, out = read_results(tmp_path / "out"), tmp_path / "out"
    assert (out / "results.md").read_text() in capsys.readouterr().out
    assert (out / "gallery/text.png").exists() and (out / "gallery/clean.png").exists()
    evaluate.main(arguments)
    second = read_results(out)
    assert first["test_set_sha256"] == second["test_set_sha256"]
    assert first["slices"] == second["slices"]
    pairs = ["measure", "--images", str(out / "images"), "--masks", str(out / "masks")]
    pairs += ["--weights", str(weights), "--output", str(tmp_path / "pairs")]
    evaluate.main(pairs)
    values = {one["name"]: one["iou"] for one in first["outcomes"]}
    measured = read_results(tmp_path / "pairs")["outcomes"]
    assert {one["name"]: one["iou"] for one in measured} == values
    listed = make_manifest(photos=pair_files(out / "images", out / "masks")[:3])
    write_manifest(listed, weights / "trained_on.json")
    with pytest.raises(SystemExit, match="3 of 4 photos to test with were trained on"):
        evaluate.main(pairs)


def test_files_that_were_trained_on_are_refused_and_fonts_noted(
    arguments, weights, photos, fonts, capsys
):
    write_manifest(make_manifest(photos=photos[:3]), weights / "trained_on.json")
    with pytest.raises(SystemExit, match="3 of 8 photos to test with were trained on"):
        evaluate.main(arguments)
    write_manifest(make_manifest(fonts=fonts), weights / "trained_on.json")
    cut = arguments.index("--fonts")
    evaluate.main(arguments[:cut] + arguments[cut + 2 :])  # with matplotlib's fonts
    assert "2 of " in (out := capsys.readouterr().out) and "fonts were trained on" in out


def test_manifest_restricts_the_files(arguments, photos, logos, fonts, tmp_path):
    write_manifest(make_manifest(photos=photos[3:], logos=logos, fonts=fonts), tmp_path / "m.json")
    folders = photos[0].path.parent, logos[0].path.parent, arguments[-4]
    files = find_test_files(*folders, manifest=tmp_path / "m.json")
    counts = {kind: len(kept) for kind, kept in files.items()}
    assert counts == {"photos": 5, "logos": 6, "fonts": 2}
    write_manifest(make_manifest(photos=photos, logos=logos), tmp_path / "m.json")
    with pytest.raises(SystemExit, match="manifest lists no fonts"):
        evaluate.main([*arguments, "--manifest", str(tmp_path / "m.json")])


def test_slices_are_made_of_their_own_photos(logos, photo_folder, tmp_path, capsys):
    (tmp_path / "large").mkdir()
    Image.new("RGB", (1200, 900), "teal").save(tmp_path / "large/one.jpg")
    files = find_test_files(photo_folder, logos[0].path.parent, large=tmp_path / "large")
    slices = synthetic_slices(["text", "large-text", "large-clean", "print-text"], 9, 0, files)
    counts = {name: len(images) for name, images in slices.items()}
    assert counts == {"text": 9, "large-text": 9, "large-clean": 1}  # clean photos do not repeat
    assert slices["large-text"][0].make().image.shape == (900, 1200, 3)
    assert [image.photo for image in slices["text"][7:]] == ["photos 7", "photos 0"]
    assert "Left out, because it needs --print: print-text." in capsys.readouterr().out
    with pytest.raises(ValueError, match="None of the slices has photos"):
        synthetic_slices(["print-text"], 1, 0, files)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("--photos x", "Give --photos and --logos, or --images and --masks"),
        ("--images a --masks b --count 5", "With the latter, leave out --slices, --count"),
        ("--photos nowhere --logos nowhere", "No folder at nowhere"),
    ],
)
def test_measure_says_what_it_needs(weights, wrong, message):
    with pytest.raises(SystemExit, match=message):
        evaluate.main(["measure", "--weights", str(weights), *wrong.split()])
