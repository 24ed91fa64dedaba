"""The notebook, executed with small settings, and the state it is committed in."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "watermark-segmentation.ipynb"
SMALL = """
IMAGE_SIZE, TRAIN_SAMPLES, PAGES, VAL_SAMPLES, MEASURED = 64, 16, 8, 24, 1
RUN = Path("lightning_logs/notebook-test")
"""


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_cell_runs_with_small_settings(committed):
    notebook = nbformat.from_dict(json.loads(json.dumps(committed)))
    tagged = [i for i, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(SMALL))
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()  # raises on an error
    text = json.dumps([cell.outputs for cell in code_cells(notebook)])
    assert text.count("image/jpeg") >= 12
    assert "clean photos have a false mark" in text and "| IoU of general marks |" in text


def test_the_committed_outputs_have_no_errors_and_no_paths_of_a_machine(committed):
    outputs = [output for cell in code_cells(committed) for output in cell.outputs]
    assert outputs and not [
        o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"
    ]
    text = json.dumps(outputs)
    assert not any(path in text for path in (str(ROOT), str(Path.home()) + "/", "/tmp/"))
