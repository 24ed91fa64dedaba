"""The network, its losses and metrics, and its files."""

import json
import math

import pytest
import pytorch_lightning as pl
import segmentation_models_pytorch as smp
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from inference import devices
from inference.network import SegmentationNetwork
from model import CLEAN_LIMIT, WatermarkSegmenter, add_means, score_terms, segmentation_loss
from samples import IGNORE
from samples.loading import make_loader


def test_forward_gives_a_logit_for_each_pixel_and_image(tiny_model):
    logits, score_logit = tiny_model(torch.rand(2, 3, 64, 96))
    assert (logits.shape, logits.dtype) == ((2, 1, 64, 96), torch.float32)
    assert (score_logit.shape, score_logit.dtype) == ((2,), torch.float32)
    assert logits.std() > 0


@pytest.mark.parametrize("shape", [(1, 3, 33, 64), (1, 3, 64, 48), (1, 1, 32, 32), (3, 32, 32)])
def test_forward_names_the_shape_it_refuses(tiny_model, shape):
    with pytest.raises(ValueError, match=r"Got a batch of shape .*multiples of 32") as error:
        tiny_model(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_normalisation_is_stored_with_the_weights_and_used(make_model, tmp_path):
    model = make_model().eval()
    model.save(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    assert state["mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert state["std"].flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    state["mean"] = state["mean"] + 0.3
    save_file(state, tmp_path / "model.safetensors")
    image = torch.rand(1, 3, 32, 32)
    shifted = WatermarkSegmenter.load(tmp_path)
    assert not torch.allclose(shifted(image)[0], model(image)[0], atol=1e-3)
    assert torch.allclose(shifted(image + 0.3)[0], model(image)[0], atol=1e-3)


def test_layers_that_no_output_needs_are_not_trained():
    network = SegmentationNetwork("timm-tf_efficientnet_lite0", 8, (8, 8, 8, 8)).train()
    for _ in range(2):  # and in a second training
        network.freeze_unused()
        frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
        assert frozen == {"encoder.conv_head.weight", "encoder.bn2.weight", "encoder.bn2.bias"}
    assert network.training


@pytest.mark.parametrize(
    "instructions, precision, inference",
    [([], "32-true", False), (["avx512_bf16"], "bf16-mixed", False),
     (["avx512_bf16", "amx_bf16"], "bf16-mixed", True)],
)  # fmt: skip
def test_precision_is_the_fastest_of_the_cpu(instructions, precision, inference, monkeypatch):
    cpu, has = torch.device("cpu"), dict.fromkeys(instructions, True)
    monkeypatch.setattr(devices, "best_device", lambda: cpu)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert (devices.best_precision(), devices.bf16_is_fast(cpu)) == (precision, inference)
    monkeypatch.setattr(devices, "best_device", lambda: torch.device("mps"))
    assert devices.best_precision() == "32-true"
    assert devices.best_precision("cpu") == precision  # a GPU is left unused


def logits_and_mask(logits, mask):
    """Logits and mask of one image of 2 x 2 pixels."""
    shape = (1, 1, 2, 2)
    return torch.tensor(logits, dtype=torch.float32).view(shape), torch.tensor(mask).view(shape)


@pytest.mark.parametrize(
    "logits, mask, expected",
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], math.log(2)),  # a clean photo: no Dice
        ([0, 0, 0, 0], [1, 0, IGNORE, 0], math.log(2) + 1 - 2 / 3.5),  # (2 * .5 + 1)/(1.5 + 1 + 1)
        ([30, -30, 30, 30], [1, 0, 1, IGNORE], 0),
        ([-30, -30, -30, -30], [1, 0, 0, 0], 30 / 4 + 1 - 1 / 2),
        ([9, 9, 9, 9], [IGNORE] * 4, 0),
    ],
)
def test_segmentation_loss_by_hand(logits, mask, expected):
    assert segmentation_loss(*logits_and_mask(logits, mask)).item() == pytest.approx(expected)


def test_dice_is_averaged_over_marked_images():
    marked = logits_and_mask([-30, -30, -30, -30], [1, 0, 0, 0])
    clean = logits_and_mask([-30, -30, -30, -30], [0, 0, 0, 0])
    both = [torch.cat(pair) for pair in zip(marked, clean)]
    assert segmentation_loss(*both).item() == pytest.approx(30 / 8 + 1 / 2)


def score_loss(score_logit, label):
    return add_means(score_terms(score_logit, label))


def test_score_loss_by_hand():
    loss = score_loss(torch.tensor([0.0, 2.0, 50.0]), torch.tensor([1, 0, IGNORE]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)
    assert score_loss(torch.tensor([3.0]), torch.tensor([IGNORE])).item() == 0


def test_clean_images_count_in_the_loss_by_clean_weight():
    mask = torch.zeros(4, 1, 10, 10, dtype=torch.uint8)
    mask[1, :, 0, 0], mask[2:, :, 0], mask[3] = 1, IGNORE, IGNORE
    logits = torch.full((4, 1, 10, 10), -20.0)
    logits[0, :, 0, :2], logits[1], logits[2, :, 0] = 0.0, 20.0, 20.0
    share = 2 * 0.5**2 / 100  # of image 0; in image 2 only an undecidable row is marked
    plain, strict = (segmentation_loss(logits, mask, clean_weight=w).item() for w in (0.0, 0.3))
    # Image 1 is marked, and image 3 has no decidable pixel, so two images are clean.
    assert strict - plain == pytest.approx(0.3 * share / (share + CLEAN_LIMIT) / 2, abs=1e-4)


def validate(model, logits, score_logit, mask, label):
    """Metrics of one batch for which the network gives these logits."""
    model.forward = lambda image: (logits, score_logit)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    batch = dict(image=torch.zeros(len(mask), 3, 32, 32), mask=mask, label=label)
    return trainer.validate(model, DataLoader([batch], batch_size=None), verbose=False)[0]


@pytest.fixture
def answers():
    """Logits and truths: half a mark is found, a clean photo has a false mark, one is IGNORE."""
    mask = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    mask[0, :, :8], mask[0, :, 8:16], mask[2] = 1, IGNORE, IGNORE
    logits = torch.full((3, 1, 32, 32), -5.0)
    logits[0, :, :4], logits[0, :, 16:20] = 5.0, 5.0  # 4 rows of 8 right, 4 rows wrong
    logits[1, :, :2] = 5.0
    label = torch.tensor([1, 0, IGNORE], dtype=torch.uint8)
    return logits, torch.tensor([3.0, -3.0, -9.0]), mask, label


@pytest.mark.filterwarnings("ignore")
def test_validation_metrics_by_hand_do_not_depend_on_ignored_places(make_model, answers):
    logits, score_logit, mask, label = answers
    metrics = validate(make_model(), *answers)
    loss = segmentation_loss(logits, mask) + 0.2 * score_loss(score_logit, label)
    assert metrics["val/loss"] == pytest.approx(loss.item())
    assert metrics["val/iou"] == pytest.approx(4 / 12)  # rows: found, of all marked or predicted
    assert metrics["val/pooled_iou"] == pytest.approx(4 / 14)
    assert metrics["val/f1"] == pytest.approx(8 / (8 + 10))
    assert metrics["val/clean_marked"] == 1
    assert metrics["val/score_auroc"] == 1
    changed = torch.where(mask == IGNORE, -logits, logits)
    changed_score = torch.where(label == IGNORE, -score_logit, score_logit)
    assert validate(make_model(), changed, changed_score, mask, label) == metrics


@pytest.mark.filterwarnings("ignore")
def test_validation_metrics_do_not_depend_on_the_batches(make_model, make_dataset):
    data, results = make_dataset(length=7, clean_probability=0.4), []
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    for batch_size in (1, 3, 7):
        loader = make_loader(data, batch_size)
        results += trainer.validate(make_model(), loader, verbose=False)
    assert len(results[0]) == 6
    assert results[1] == pytest.approx(results[0]) and results[2] == pytest.approx(results[0])


def test_a_loaded_model_gives_equal_outputs(tiny_model, weights):
    loaded, image = WatermarkSegmenter.load(weights), torch.rand(2, 3, 64, 32)
    assert not loaded.training
    assert all(torch.equal(*pair) for pair in zip(loaded(image), tiny_model(image)))


def test_half_precision_halves_the_file_and_keeps_the_outputs(tiny_model, weights, tmp_path):
    tiny_model.save(tmp_path / "half", half=True)
    half, whole = (f / "model.safetensors" for f in (tmp_path / "half", weights))
    assert half.stat().st_size == pytest.approx(whole.stat().st_size / 2, rel=0.1)
    loaded, image = WatermarkSegmenter.load(tmp_path / "half"), torch.rand(1, 3, 64, 64)
    assert loaded(image)[0].dtype == torch.float32
    assert torch.allclose(loaded(image)[0].sigmoid(), tiny_model(image)[0].sigmoid(), atol=0.01)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_files_are_named(weights, name):
    (weights / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"No {name} in .*Give a folder of weights"):
        WatermarkSegmenter.load(weights)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b'{"format": "waterm', "JSONDecodeError"),
        (b'{"model_type": "unet"}', "format"),
        (b'{"format": "watermark-segmentation", "version": 2}', "segmentation, version 2"),
    ],
)
def test_damaged_and_foreign_configs_are_refused(weights, content, reason):
    (weights / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"config.json cannot be used .*{reason}"):
        WatermarkSegmenter.load(weights)


@pytest.mark.parametrize("change", [dict(encoder="nonsense"), dict(decoder_channels=[8, 8])])
def test_configs_of_impossible_networks_are_refused(weights, change):
    config = json.loads((weights / "config.json").read_text()) | change
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json"):
        WatermarkSegmenter.load(weights)


def test_truncated_weights_are_refused(weights):
    path = weights / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        WatermarkSegmenter.load(weights)


def test_weights_of_another_network_are_refused(weights, make_model):
    make_model(decoder_channels=(16, 8, 8, 8)).save(weights.parent / "other")
    (weights.parent / "other" / "model.safetensors").replace(weights / "model.safetensors")
    with pytest.raises(
        ValueError, match="does not hold the weights of the network in config"
    ) as no:
        WatermarkSegmenter.load(weights)
    assert "size mismatch for " in str(no.value) and len(str(no.value)) < 400


@pytest.mark.parametrize("setting, value", [("learning_rate", -0.1), ("decay_steps", math.nan)])
def test_negative_settings_are_refused(make_model, setting, value):
    with pytest.raises(ValueError, match=f"{setting} is {value}; give 0 or more"):
        make_model(**{setting: value})


def test_encoder_weights_are_read_from_a_file_exactly(make_model, tmp_path):
    torch.manual_seed(7)
    other_encoder = smp.encoders.get_encoder(TINY["encoder"], weights=None)
    save_file(other_encoder.state_dict(), tmp_path / "encoder.safetensors")
    model = make_model(encoder_weights=str(tmp_path / "encoder.safetensors"))
    loaded = model.network.encoder.state_dict()
    assert loaded.keys() == other_encoder.state_dict().keys()
    for name, value in other_encoder.state_dict().items():
        assert torch.equal(loaded[name], value), name
    with pytest.raises(FileNotFoundError, match=r'nowhere.*"imagenet".*\.safetensors.*None'):
        make_model(encoder_weights=str(tmp_path / "nowhere.safetensors"))
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not hold the weights of the encoder tu-mobilenetv3"):
        make_model(encoder_weights=str(tmp_path / "other.safetensors"))


def test_unreachable_imagenet_weights_name_the_other_choices(make_model, monkeypatch):
    real = smp.encoders.get_encoder

    def get_encoder(name, weights=None, **options):
        if weights:
            raise OSError("no route to host")
        return real(name, **options)

    monkeypatch.setattr(smp.encoders, "get_encoder", get_encoder)
    with pytest.raises(ConnectionError, match=r"path to the encoder's .safetensors file, or None"):
        make_model(encoder_weights="imagenet")
