"""The model card: a header that hubs read, and the tables of an evaluation."""

import pytest
from huggingface_hub import ModelCard
from test_evaluate import outcome

import evaluate
from evaluation.accuracy import summarise
from evaluation.card import BEGIN, END, write_card

BODY = f"---\nlicense: other\n---\n# A card\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"


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


def header_numbers(card: ModelCard) -> dict[str, float]:
    return {result.metric_type: result.metric_value for result in card.data.eval_results}


def test_the_header_has_the_headlines(card, results):
    write_card(results, card)
    written = ModelCard.load(card)
    assert header_numbers(written) == {
        "iou": 0.62,
        "f1": 0.7,
        "roc_auc": 0.75,
        "false_positive_rate": 0.5,
    }
    assert written.data.license == "other"  # what people wrote stays


def test_all_other_text_stays_and_twice_gives_the_same(card, results):
    write_card(results, card)
    once = card.read_bytes()
    text = ModelCard.load(card).text
    assert text.split(BEGIN)[0] == BODY.split("---\n")[2].split(BEGIN)[0] and text.endswith(
        BODY.split(END)[1]
    )
    assert "old" not in text and "Test set aaaaaaaaaaaaaaaa, model bbbb" in text
    write_card(results, card)
    assert card.read_bytes() == once


def test_a_card_without_room_is_explained_before_the_evaluation(arguments, tmp_path):
    (tmp_path / "bare.md").write_text("# A card\n")
    for name, message in (("bare.md", "bare.md has no lines <!-- res"), ("no.md", "No model card")):
        with pytest.raises(SystemExit, match=message):
            whole = arguments[: arguments.index("--slices")]
            evaluate.main([*whole, "--card", str(tmp_path / name)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("other", ["--slices text", "--threshold 0.4", "--fast"])
def test_the_card_describes_all_slices_at_the_default_settings(arguments, card, other):
    whole = arguments[: arguments.index("--slices")]
    with pytest.raises(SystemExit, match="leave out --slices, --threshold and --fast"):
        evaluate.main([*whole, "--card", str(card), *other.split()])


def test_evaluation_writes_its_own_numbers(arguments, card, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "SLICES", ["text", "clean"])  # all would take long
    evaluate.main([*arguments[: arguments.index("--slices")], "--card", str(card)])
    written = ModelCard.load(card)
    assert header_numbers(written)["iou"] >= 0
    assert (tmp_path / "out/results.md").read_text() in written.text
