"""The notebook, executed with small settings."""

import json
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
SMALL = """
IMAGE_SIZE, TRAIN_SAMPLES, PAGES, VAL_SAMPLES, MEASURED = 64, 16, 8, 24, 1
RUN = Path("lightning_logs/notebook-test")
"""


def test_every_cell_runs_with_small_settings():
    notebook = nbformat.read(ROOT / "watermark-segmentation.ipynb", as_version=4)
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    place = next(i for i, names in enumerate(tags) if "parameters" in names)
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL))
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()  # raises on an error
    text = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert "clean photos have a false mark" in text and "| IoU of general marks |" in text
