"""The notebook, executed with small settings, and the state it is committed in."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "watermark-segmentation.ipynb"
SMALL = """
IMAGE_SIZE, TRAIN_SAMPLES, VAL_SAMPLES, EPOCHS = 64, 24, 24, 1
OPACITY_RANGE = (0.8, 1.0)
OWN_SAMPLES, MEASURED = 16, 1
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
    NotebookClient(notebook, timeout=300, resources=resources).execute()  # raises on an error
    text = json.dumps([cell.outputs for cell in code_cells(notebook)])
    assert text.count("image/png") >= 12
    assert "same mask: True" in text
    assert "of them share a mark" in text and "| general marks |" in text


def test_committed_from_one_clean_run(committed):
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 8


def test_small_enough_and_without_paths_of_a_machine(committed):
    text = json.dumps([cell.outputs for cell in code_cells(committed)])
    assert NOTEBOOK.stat().st_size <= 1_500_000
    assert "widgets" not in committed.metadata
    assert not any(path in text for path in (str(ROOT), str(Path.home()) + "/", "/tmp/"))


def test_tells_its_story_in_few_short_cells(committed):
    lengths = sorted(len(cell.source.splitlines()) for cell in code_cells(committed))
    assert 16 <= len(lengths) <= 25
    assert lengths[len(lengths) // 2] <= 8
