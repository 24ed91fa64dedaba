"""Networks that are converted for inference give the results of the trained network."""

import copy

import numpy as np
import pytest
import torch
from conftest import paint_photo

from inference import deploy
from inference.deploy import AnySize, fold_batch_norm, load_torch_segmenter
from inference.network import ScoreHead, SegmentationNetwork
from model import WatermarkSegmenter


def randomise(network):
    """Sets random statistics and weights of batch norm, as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif isinstance(module, ScoreHead):
            weight = module.context.weight.data
            weight.copy_(torch.randn(weight.shape, generator=generator) * 5)
    return network.eval()


def folded(network):
    network = copy.deepcopy(network)
    fold_batch_norm(network)
    return network


@pytest.mark.parametrize(
    "encoder",
    [
        "timm-tf_efficientnet_lite0",  # the activation inside batch norm
        "tu-ghostnet_100",  # the decoder uses a convolution's output before its norm
        "tu-mobilevit_xxs",  # cannot be traced as a whole
    ],
)
def test_without_batch_norm_the_network_computes_the_same(encoder):
    torch.manual_seed(0)
    network = randomise(SegmentationNetwork(encoder, 24, (16, 16, 16, 8)))
    image = torch.rand(2, 3, 64, 96) * torch.tensor([0.1, 1.0]).view(2, 1, 1, 1)
    fast = folded(network)
    with torch.inference_mode():
        for one, other in zip(network(image), fast(image)):
            assert one.std() > 1e-4
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in n.modules()) for n in (network, fast)]
    assert norms[1] < norms[0] / 2


def test_in_bf16_the_answer_is_nearly_the_same(weights, monkeypatch):
    expected = load_torch_segmenter(weights, "cpu").segment(paint_photo(0, 64, 64))
    monkeypatch.setattr(deploy, "bf16_is_fast", lambda device: True)
    found = load_torch_segmenter(weights, "cpu").segment(paint_photo(0, 64, 64))
    assert found.probability.dtype == np.float32
    assert 0 < np.abs(found.probability - expected.probability).mean() < 0.02


@pytest.fixture(scope="module")
def shipped_onnx(tmp_path_factory):
    """The shipped weights as an .onnx file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    WatermarkSegmenter.load().export_onnx(path)
    return path


def test_onnx_runtime_agrees_with_torch_on_batches_of_many_sizes(shipped_onnx):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shipped_onnx, options)
    assert [(i.name, i.type) for i in session.get_inputs()] == [("image", "tensor(uint8)")]
    network, marked = AnySize(WatermarkSegmenter.load().network), []
    for index in range(12):
        size = 20 + 7 * index, 150 - 9 * index
        photos = np.stack([paint_photo(index + seed, *size) for seed in range(1 + index % 3)])
        photos[:, size[0] // 3 : size[0] // 2, 10:-10] += 40  # a pale bar
        image = photos.transpose(0, 3, 1, 2)
        found = session.run(["probability", "score"], {"image": image})
        with torch.inference_mode():
            expected = [value.numpy() for value in network(torch.from_numpy(image))]
        assert found[0].shape == (len(image), 1, *size) and found[1].shape == (len(image),)
        for one, other in zip(found, expected):
            assert np.abs(one - other).max() < 1e-3
        marked.append((expected[0] >= 0.5).mean())
    assert 0 < np.mean(marked) < 1
