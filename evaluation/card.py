"""The model card: its header and its tables of results, both from the same evaluation."""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from evaluation.tables import markdown

BEGIN, END = "<!-- results, by evaluate.py --card -->", "<!-- end of results -->"
ABOUT = {
    "model_name": "watermark-segmentation",
    "license": "mit",
    "library_name": "pytorch",
    "pipeline_tag": "image-segmentation",
    "tags": ["watermark", "watermark-detection", "segmentation-models-pytorch", "safetensors"],
    "metrics": ["iou", "roc_auc"],
}
TEST_SET = "watermark-segmentation test set"
HEADLINES = {  # what `accuracy.summarise` calls it, to its name and the hub's
    "iou": ("IoU", "iou"),
    "images_marked": ("clean images marked", "false_positive_rate"),
}


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
    """Replaces the header of a card, and what stands between its BEGIN and END.

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
    card.data = ModelCardData(**ABOUT, eval_results=headlines(results))
    card.save(path)


def headlines(results: dict) -> list[EvalResult]:
    """Of each slice its IoU or the share of clean images marked; AUROC over all slices."""
    rows = [(name, *HEADLINES[key], row[key][0]) for name, row in results["slices"].items()
            for key in HEADLINES if key in row]  # fmt: skip
    if results["score"]:
        rows.append(("all", "AUROC of the score", "roc_auc", results["score"]["auroc"][0]))
    return [
        EvalResult(
            task_type="image-segmentation", dataset_type=TEST_SET.replace(" ", "-"),
            dataset_name=f"{TEST_SET}, {name}", dataset_config=name,
            metric_type=kind, metric_name=metric, metric_value=round(value, 2),
        )
        for name, metric, kind, value in rows
    ]  # fmt: skip
