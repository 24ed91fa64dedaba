"""The evaluation from the command line: its table is right, its errors are clear."""

import json

import numpy as np
import pytest

import evaluate
from evaluation.accuracy import Outcome, summarise
from evaluation.metrics import score_mask
from evaluation.tables import markdown
from evaluation.test_files import find_test_files
from evaluation.testset import SLICES
from samples import IGNORE
from samples.pairs import pair_files
from samples.splits import make_manifest, write_manifest


def outcome(label, iou_pixels, score=0.5):
    """An Outcome with so many of four pixels right."""
    truth = np.uint8([[1, 1, 1, 1]]) if label else np.uint8([[0, 0, 0, 0]])
    scores = score_mask(np.arange(4)[None] < iou_pixels, truth)
    return Outcome("x", label, score, scores, scores)


def test_table_averages_marked_images_and_counts_false_alarms():
    slices = {
        "text": [outcome(1, 4, 0.9), outcome(1, 1, 0.4), outcome(IGNORE, 0)],
        "clean": [outcome(0, 0, 0.1), outcome(0, 2, 0.6)],
    }
    results = summarise(slices)
    text, clean = results["slices"]["text"], results["slices"]["clean"]
    assert (text["marked"], text["clean"], text["undecided"]) == (2, 0, 1)
    assert text["decidable"]["iou"][0] == pytest.approx((1 + 0.25) / 2)
    assert text["alpha"]["pooled_iou"][0] == pytest.approx(5 / 8)
    assert text["auroc"][0] == pytest.approx(3 / 4)  # .9 beats both, .4 one of two
    assert clean["images_marked"][0] == 0.5 and clean["area_marked"][0] == pytest.approx(0.25)
    assert clean["decidable"] == {}
    table = markdown(results)
    assert table.count("| text | 2 | 0.62 (") == 2  # once for each truth
    assert "clean: 50.0 (" in table and "text: 1 images left out" in table
    assert "Mean IoU" not in table  # of one slice


def test_the_mean_over_slices_is_said():
    rights = {"text": 4, "faint": 1, "real-look": 2}
    slices = {name: [outcome(1, right, 0.9)] for name, right in rights.items()}
    both = markdown(summarise({**slices, "clean": [outcome(0, 0, 0.1)]}))
    assert "\nMean IoU of these 3 slices: 0.583; of the 2 without real-look: 0.625.\n" in both
    del slices["real-look"]
    assert "\nMean IoU of these 2 slices: 0.625.\n" in markdown(summarise(slices))


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
    evaluate.main(["--weights", str(weights), "--output", str(tmp_path / "pairs"), *folders])
    pairs = json.loads((tmp_path / "pairs/results.json").read_text())
    values = {o["name"]: o["decidable"]["iou"] for o in first["outcomes"]}
    assert {o["name"]: o["decidable"]["iou"] for o in pairs["outcomes"]} == values


def test_what_cannot_be_written_ends_the_evaluation(arguments, tmp_path):
    path = tmp_path / "out/images/text/0001.png"
    path.mkdir(parents=True)  # where an image is to be
    with pytest.raises(SystemExit, match=r"Is a directory: .*0001\.png"):
        evaluate.main([*arguments, "--save-images"])
    (tmp_path / "file").write_bytes(b"")
    taken = [*arguments, "--together", "2", "--slices", "text", "--output", str(tmp_path / "file")]
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
        evaluate.main(
            ["--weights", str(weights), "--images", str(folders[0]), "--masks", str(folders[1])]
        )


def test_pairs_take_no_manifest(capsys):
    with pytest.raises(SystemExit):
        evaluate.parse(["--images", "a", "--masks", "b", "--manifest", "held_out.json"])
    assert "--images and --masks go without it" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    "wrong, message",
    [
        ([], "give either --photos and --logos, or"),
        (["--photos", "x"], "give either"),
        (["--images", "a", "--masks", "b", "--photos", "c"], "give either"),
        (["--images", "a", "--masks", "b", "--count", "0"], "--count is 0"),
        (["--images", "a", "--masks", "b", "--slices", "nothing"], "invalid choice: 'nothing'"),
        (["--photos", "a", "--logos", "b", "--calibrate", "0.1"], "name them by --weights"),
        (["--photos", "a", "--logos", "b", "--quantize"], "name them by --weights"),
        (
            ["--images", "a", "--masks", "b", "--count", "5", "--fonts", "c"],
            "--images does not read --count, --fonts",
        ),
        (
            ["--photos", "a", "--logos", "b", "--together", "3", "--save-images"],
            "--together does not read --save-images",
        ),
        (
            "--photos a --logos b --together 3 --slices clean".split(),
            "--together needs slices with marks: LOGO-L, ",
        ),
        (
            "--photos a --logos b --fit-score 0.1 --weights c --slices text".split(),
            "--fit-score does not read --slices",
        ),
    ],
)
def test_wrong_usage_is_explained(capsys, wrong, message):
    with pytest.raises(SystemExit):
        evaluate.parse(wrong)
    assert message in capsys.readouterr().err


def test_empty_folder_is_explained(arguments, tmp_path):
    (tmp_path / "empty").mkdir()
    arguments[arguments.index("--photos") + 1] = str(tmp_path / "empty")
    with pytest.raises(SystemExit, match="No usable image below"):
        evaluate.main(arguments)


def test_all_slices_are_evaluated_by_default():
    options = evaluate.parse(["--images", "a", "--masks", "b"])
    assert options.slices == list(SLICES) and options.count >= 100
