"""Networks for inference only: they answer like the network that was trained."""

import copy

import numpy as np
import pytest
import torch
from conftest import paint_photo

from inference.deploy import AnySize, fast_copy, mirrored
from inference.network import ScoreHead, SegmentationNetwork
from inference.segmenter import STRIDE
from model import WatermarkSegmenter


def shake(network):
    """Statistics and weights of batch norm as after a training, instead of 0 and 1."""
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


@pytest.mark.parametrize(
    "encoder",
    [
        "timm-tf_efficientnet_lite0",  # the activation inside batch norm
        "mobilenet_v2",
        "resnet18",
        "mit_b0",  # no features at half size
        "densenet121",  # batch norm before convolutions, too
        "tu-mobilenetv3_small_050",
        "tu-ghostnet_100",  # the decoder takes a convolution's output before its norm
        "tu-mobilevit_xxs",  # cannot be traced as a whole
    ],
)
def test_the_fast_copy_computes_the_same(encoder):
    torch.manual_seed(0)
    network = shake(SegmentationNetwork(encoder, 24, (16, 16, 16, 8)))
    before = copy.deepcopy(network.state_dict())
    image = torch.rand(2, 3, 64, 96) * torch.tensor([0.1, 1.0]).view(2, 1, 1, 1)
    fast = fast_copy(network)
    with torch.inference_mode():
        for one, other in zip(network(image), fast(image)):
            assert one.std() > 1e-4
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_fast_copy_has_fewer_steps():
    network = fast_copy(SegmentationNetwork("mobilenet_v2", 24, (32, 24, 16, 16)))
    kinds = [type(module) for module in network.modules()]
    assert torch.nn.BatchNorm2d not in kinds
    assert kinds.count(torch.nn.ConvTranspose2d) == 4


def test_a_batch_norm_after_an_activation_is_not_folded():
    network = shake(SegmentationNetwork("resnet18", 8, (8, 8, 8, 8)))
    network.bridge.insert(1, torch.nn.ReLU(inplace=True))  # between convolution and batch norm
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        for one, other in zip(network(image), fast_copy(network)(image)):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_bf16_weights_answer_nearly_the_same():
    torch.manual_seed(0)
    network = shake(SegmentationNetwork("mobilenet_v2", 24, (32, 24, 16, 16)))
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits, score = fast_copy(network, torch.bfloat16)(image)
    assert logits.dtype == score.dtype == torch.float32
    assert (logits.sigmoid() - network(image)[0].sigmoid()).abs().mean() < 0.02


@pytest.mark.parametrize(
    "length, last", [(32, 31), (33, 1), (47, 29), (63, 61), (1, 0), (2, 0), (64, 63)]
)
def test_padding_goes_back_from_the_edge(length, last):
    index = mirrored(length, "cpu").tolist()
    assert len(index) % STRIDE == 0 and 0 <= len(index) - length < STRIDE
    assert index[:length] == list(range(length))
    assert index[-1] == last and min(index) == 0
    assert np.abs(np.diff(index)).max(initial=0) <= 1


# --- ONNX ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped_onnx(tmp_path_factory):
    """The shipped weights as an .onnx file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    WatermarkSegmenter.load().export_onnx(path)
    return path


def fifty_images():
    """Batches and single images of many sizes, 50 in all, half of them with a pale bar."""
    for index in range(50):
        height, width = 20 + 7 * (index % 13), 150 - 9 * (index % 11)
        photo = paint_photo(index, height, width)
        if index % 2:
            photo[height // 3 : height // 2, 10:-10] += 40
        yield photo.transpose(2, 0, 1)[None]


def test_onnx_runtime_agrees_with_torch_on_50_images(shipped_onnx):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shipped_onnx, options)
    network = AnySize(WatermarkSegmenter.load().network)
    equal, marked, total = 0, 0, 0
    for image in fifty_images():
        found, found_score = session.run(["probability", "score"], {"image": image})
        with torch.inference_mode():
            probability, score = (value.numpy() for value in network(torch.from_numpy(image)))
        assert found.shape == probability.shape == (1, 1, *image.shape[2:])
        assert np.abs(found - probability).max() < 1e-3
        assert np.abs(found_score - score).max() < 1e-3
        equal += ((found >= 0.5) == (probability >= 0.5)).sum()
        marked += (probability >= 0.5).sum()
        total += found.size
    assert equal >= 0.999 * total and 0 < marked < total


def test_the_onnx_file_takes_batches_and_says_what_it_takes(shipped_onnx):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(shipped_onnx)
    assert [(i.name, i.type) for i in session.get_inputs()] == [("image", "tensor(uint8)")]
    images = np.stack([paint_photo(seed, 40, 50).transpose(2, 0, 1) for seed in range(3)])
    together = session.run(None, {"image": images})
    assert together[0].shape == (3, 1, 40, 50) and together[1].shape == (3,)
    for index in range(3):
        alone = session.run(None, {"image": images[index : index + 1]})
        assert np.allclose(alone[0][0], together[0][index], atol=1e-4)
        assert np.allclose(alone[1][0], together[1][index], atol=1e-4)


def test_exporting_without_its_packages_says_what_to_install(make_model, tmp_path, monkeypatch):
    from inference import deploy

    monkeypatch.setattr(deploy, "find_spec", lambda name: None if name == "onnx" else True)
    with pytest.raises(ImportError, match="pip install onnx onnxscript"):
        make_model().export_onnx(tmp_path / "model.onnx")


def test_exporting_leaves_the_model_as_it_is(make_model, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(torch.onnx, "export", lambda network, *a, **k: seen.update(network=network))
    model = make_model().train()
    before = copy.deepcopy(model.state_dict())
    model.export_onnx(tmp_path / "model.onnx")
    assert model.training and not seen["network"].network.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
