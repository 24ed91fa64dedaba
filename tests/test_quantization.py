"""The 8-bit network: `evaluate.py quantize` writes it, and a damaged or wrong one is refused."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import evaluate
from batch.scan import weights_digest
from evaluation import quantization
from inference import runtime
from inference.folder import CONFIG, SHIPPED_WEIGHTS, WEIGHTS
from inference.openvino_backend import openvino_core
from inference.runtime import load_segmenter
from model import WatermarkSegmenter

pytestmark = pytest.mark.skipif(
    not (find_spec("openvino") and find_spec("nncf")), reason="openvino and nncf are optional"
)
EXAMPLE = Path(__file__).parents[1] / "docs" / "example.jpg"
INT8 = "openvino-int8"


@pytest.fixture(autouse=True)
def with_openvino(monkeypatch):
    monkeypatch.setattr(runtime, "find_spec", find_spec)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, photo_folder, logo_folder):
    """A folder with the shipped weights, quantized on a few painted samples by the command."""
    folder = tmp_path_factory.mktemp("weights")
    for name in (CONFIG, WEIGHTS):
        shutil.copy(SHIPPED_WEIGHTS / name, folder)
    inputs = ["--photos", str(photo_folder), "--logos", str(logo_folder), "--count", "12"]
    evaluate.main(["quantize", "--weights", str(folder), *inputs])
    return folder


def test_the_command_writes_integers_for_most_convolutions(quantized):
    operations = openvino_core().read_model(quantized / "int8.xml").get_ordered_ops()
    convolutions = [op for op in operations if "Convolution" in op.get_type_name()]
    integers = [op for op in operations if op.get_type_name() == "Constant"
                and op.get_element_type().get_type_name() == "i8"]  # fmt: skip
    assert len(convolutions) > 50
    assert len(convolutions) - quantization.FIRST - 3 <= len(integers) < len(convolutions)


def test_shipped_integers_give_nearly_the_same_result_as_floats():
    floats = load_segmenter(backend="torch").segment(EXAMPLE)
    integers = load_segmenter(backend=INT8).segment(EXAMPLE)
    both, either = (integers.mask & floats.mask).sum(), (integers.mask | floats.mask).sum()
    assert both > 0.9 * either > 0 and integers.score == pytest.approx(floats.score, abs=0.1)
    assert not np.allclose(integers.probability, floats.probability, atol=1e-3)


def test_weights_without_a_quantized_network_are_refused(tmp_path):
    for name in (CONFIG, WEIGHTS):
        shutil.copy(SHIPPED_WEIGHTS / name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"No int8.xml in .*evaluate.py quantize"):
        load_segmenter(tmp_path, "cpu", INT8)


def test_a_network_of_other_weights_is_refused(quantized, tmp_path):
    shutil.copytree(quantized, tmp_path, dirs_exist_ok=True)
    WatermarkSegmenter.load(tmp_path).save(tmp_path, half=False)
    with pytest.raises(ValueError, match=r"int8.xml was made of other weights.*quantize"):
        load_segmenter(tmp_path, "cpu", INT8)


@pytest.mark.parametrize("damage", ["int8.bin", "int8.xml"])
def test_a_damaged_network_is_refused(quantized, tmp_path, damage):
    shutil.copytree(quantized, tmp_path, dirs_exist_ok=True)
    (tmp_path / damage).write_bytes((quantized / damage).read_bytes()[:99])
    with pytest.raises(ValueError, match=r"int8.xml or its .bin cannot be read.*quantize"):
        load_segmenter(tmp_path, "cpu", INT8)


def test_the_digest_of_a_scan_depends_on_it(quantized, tmp_path):
    shutil.copytree(quantized, tmp_path, dirs_exist_ok=True)
    (tmp_path / "int8.bin").write_bytes(b"another")
    assert weights_digest(str(tmp_path)) != weights_digest(str(quantized))
