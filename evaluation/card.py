"""The model card: headline figures in its header, and its tables, both of the same evaluation."""

from pathlib import Path

import numpy as np
from huggingface_hub import EvalResult, ModelCard

from evaluation.tables import NAMES, markdown

BEGIN, END = "<!-- results, by evaluate.py --card -->", "<!-- end of results -->"
MODEL, TEST_SET = "watermark-segmentation", "watermark-segmentation test set"


def read_card(path) -> ModelCard:
    """A card with room for results.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no BEGIN and END in it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No model card at {path}. Give a Markdown file.")
    card = ModelCard(path.read_text("utf-8"))
    begin, end = card.text.find(BEGIN), card.text.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"{path} has no lines {BEGIN} and {END}; put them where results belong.")
    return card


def write_card(results: dict, path) -> None:
    """Replaces the headline figures of a card, and what stands between its BEGIN and END.

    Args:
        results: what results.json holds.
        path: of the card; see `read_card`.
    """
    card = read_card(path)
    before, rest = card.text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    origin = (
        f"Test set {results['test_set_sha256'][:16]}, model {results['model_sha256'][:16]} (SHA-256"
        f"), run by {results['program'].rsplit(' ', 1)[0]}."
    )
    card.text = f"{before}{BEGIN}\n{origin}\n\n{markdown(results)}\n{END}{after}"
    card.data.model_name = card.data.get("model_name") or MODEL
    card.data.eval_results = headlines(results)
    card.save(path)


def headlines(results: dict) -> list[EvalResult]:
    """Mean IoU and F1 of the kinds of marks, AUROC over all, false alarms of the clean kinds."""
    slices = results["slices"]
    marked = [row for row in slices.values() if row["marked"]]
    figures = [(name.lower(), name, np.mean([row[name.lower()][0] for row in marked]))
               for name in ("IoU", "F1") if marked]  # fmt: skip
    if results["score"]:
        figures.append(("roc_auc", "AUROC of the score", results["score"]["auroc"][0]))
    for name, row in slices.items():
        if row["clean"]:
            title = f"{NAMES.get(name, name)}: photos with more than 0.1 % of their pixels marked"
            figures.append(("false_positive_rate", title, row["images_marked"][0]))
    return [
        EvalResult(
            task_type="image-segmentation", dataset_type=TEST_SET.replace(" ", "-"),
            dataset_name=f"{TEST_SET}, mean of {len(marked)} kinds of marks",
            metric_type=kind, metric_name=name, metric_value=round(float(value), 2),
        )
        for kind, name, value in figures
    ]  # fmt: skip
