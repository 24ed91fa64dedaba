"""The model card: a header that hubs read, and numbers that agree with the table."""

import re

import pytest
from huggingface_hub import ModelCard
from test_evaluate import outcome

import evaluate
from evaluation.accuracy import summarise
from evaluation.card import BEGIN, END, write_card
from evaluation.testset import SLICES

BODY = f"# A card\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.md"
    path.write_text(BODY)
    return path


@pytest.fixture
def results():
    slices = {
        "text": [outcome(1, 4, 0.9), outcome(1, 1, 0.4)],
        "clean": [outcome(0, 0, 0.1), outcome(0, 2, 0.6)],
    }
    about = {"test_set_sha256": "a" * 64, "model_sha256": "b" * 64, "program": "torch cpu 123"}
    return {**summarise(slices), **about}


def header_numbers(card: ModelCard) -> dict[tuple[str, str], float]:
    return {(r.dataset_config, r.metric_type): r.metric_value for r in card.data.eval_results}


def table_numbers(card: ModelCard) -> dict[tuple[str, str], float]:
    """IoU, F1 and AUROC of each slice in the first table of a card's text."""
    numbers, table = {}, card.text.split(BEGIN)[1].split('Truth "alpha')[0]
    for line in re.findall(r"^\| ([\w-]+) \| \d+ \| (.*) \|$", table, re.MULTILINE):
        cells = [float(cell.split(" ")[0]) for cell in line[1].split(" | ")]
        for kind, index in (("iou", 0), ("f1", 1), ("roc_auc", 4)):
            numbers[line[0], kind] = cells[index]
    for name, share in re.findall(r"^(clean[\w-]*): ([\d.]+) ", card.text, re.MULTILINE):
        numbers[name, "false_positive_rate"] = float(share) / 100
    return numbers


def test_header_and_table_say_the_same(card, results):
    write_card(results, card)
    written = ModelCard.load(card)
    assert header_numbers(written) == table_numbers(written)
    assert header_numbers(written)["text", "roc_auc"] == 0.75
    assert written.data.pipeline_tag == "image-segmentation" and written.data.license == "mit"


def test_all_other_text_stays_and_twice_gives_the_same(card, results):
    write_card(results, card)
    once = card.read_bytes()
    text = ModelCard.load(card).text
    assert text.split(BEGIN)[0] == BODY.split(BEGIN)[0] and text.endswith(BODY.split(END)[1])
    assert "old" not in text and "Test set aaaaaaaaaaaaaaaa, model bbbb" in text
    write_card(results, card)
    assert card.read_bytes() == once


def test_a_card_without_room_is_explained_before_the_evaluation(arguments, tmp_path):
    (tmp_path / "bare.md").write_text("# A card\n")
    for name, message in (("bare.md", "bare.md has no lines <!-- res"), ("no.md", "No model card")):
        with pytest.raises(SystemExit, match=message):
            evaluate.main([*arguments, "--slices", *SLICES, "--card", str(tmp_path / name)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "other", [["--together", "3"], ["--calibrate", "0.1"], ["--slices", "text", "clean"]]
)
def test_other_tables_are_not_for_the_card(capsys, other):
    with pytest.raises(SystemExit):
        evaluate.parse(["--photos", "a", "--logos", "b", "--card", "c", *other])
    assert "--card needs the whole table" in capsys.readouterr().err


def test_the_card_tells_of_the_default_threshold(capsys):
    with pytest.raises(SystemExit):
        evaluate.parse(["--photos", "a", "--logos", "b", "--card", "c", "--threshold", "0.4"])
    assert "leave out --threshold" in capsys.readouterr().err


def test_pairs_are_not_for_the_card(capsys):
    with pytest.raises(SystemExit):
        evaluate.parse(["--images", "a", "--masks", "b", "--card", "c"])
    assert "--card needs the whole table of --photos and --logos" in capsys.readouterr().err


def test_evaluation_writes_its_own_numbers(arguments, card, tmp_path):
    evaluate.main([*arguments, "--slices", *SLICES, "--card", str(card)])
    written = ModelCard.load(card)
    assert header_numbers(written) == table_numbers(written)
    assert (tmp_path / "out/results.md").read_text() in written.text
