"""Image in, mask out: `WatermarkSegmenter.segment` on images of every kind."""

import numpy as np
import pytest
import torch
from conftest import paint_photo
from PIL import Image

from inference import segmenter
from inference.deploy import TorchSegmenter


def answer(model, monkeypatch, *spots, score_logit=0.0):
    """Makes the network find only these (row, column, logit); returns the shapes of its inputs."""
    seen = []

    def forward(image):
        seen.append(tuple(image.shape[2:]))
        logits = torch.full((len(image), 1, *image.shape[2:]), -20.0)
        for row, column, logit in spots:
            logits[:, :, row, column] = logit
        return logits, torch.full((len(image),), score_logit)

    monkeypatch.setattr(model.network, "forward", forward)
    return seen


SIZES = [(1, 1), (1, 5000), (5000, 1), (33, 47), (32, 64), (31, 65), (2, 300), (40, 30)]


@pytest.mark.parametrize("size", SIZES)
def test_the_result_has_the_size_of_the_image(tiny_model, size):
    result = tiny_model.segment(np.full((*size, 3), 90, np.uint8))
    assert (result.probability.shape, result.probability.dtype) == (size, np.float32)
    assert (result.mask.shape, result.mask.dtype) == (size, np.bool_)
    assert 0 <= result.probability.min() <= result.probability.max() <= 1
    assert type(result.score) is float and 0 <= result.score <= 1
    assert type(result.coverage) is float
    assert result.coverage == pytest.approx(result.mask.mean())


def test_paths_images_and_arrays_give_the_same(tiny_model, tmp_path):
    photo = paint_photo(0, 40, 50)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    sources = tmp_path / "photo.png", str(tmp_path / "photo.png"), Image.fromarray(photo), photo
    results = [tiny_model.segment(source) for source in (*sources, photo / 255.0)]
    assert all(np.array_equal(results[0].probability, one.probability) for one in results[1:])


def test_padding_is_cut_off_where_it_was_added(tiny_model, monkeypatch):
    seen = answer(tiny_model, monkeypatch, (0, 0, 20.0), (32, 46, 20.0), (40, 10, 20.0))
    mask = tiny_model.segment(np.zeros((33, 47), np.uint8), min_score=0, fast=True).mask
    assert seen == [(64, 64)]
    assert np.argwhere(mask).tolist() == [[0, 0], [32, 46]]


def test_threshold_is_included(tiny_model, monkeypatch):
    logit = float(np.log(0.7 / 0.3))
    answer(tiny_model, monkeypatch, (0, 0, 0.0), (0, 1, logit), score_logit=logit)
    image = np.zeros((32, 32), np.uint8)
    result = tiny_model.segment(image, fast=True)
    assert result.probability[0, :3] == pytest.approx([0.5, 0.7, 0], abs=1e-6)
    assert np.argwhere(result.mask).tolist() == [[0, 0], [0, 1]]
    assert result.coverage == pytest.approx(2 / 1024)
    assert tiny_model.segment(image, threshold=0.6, fast=True).mask.sum() == 1
    assert tiny_model.segment(image, threshold=0.8, fast=True).mask.sum() == 0
    assert tiny_model.segment(image, threshold=0, fast=True).mask.all()


def test_dilation_widens_the_mask_by_a_disk(tiny_model, monkeypatch):
    answer(tiny_model, monkeypatch, (10, 20, 20.0), (31, 31, 20.0))
    image = np.zeros((32, 32), np.uint8)
    plain, wide, wider = (
        tiny_model.segment(image, dilation_px=px, min_score=0, fast=True) for px in (0, 1, 2)
    )
    rows, columns = np.indices((32, 32))
    squares = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in ((10, 20), (31, 31))]
    for found, squared in ((plain, 0), (wide, 1), (wider, 4)):
        assert np.array_equal(found.mask, np.minimum(*squares) <= squared)
    assert np.array_equal(plain.probability, wider.probability)
    assert wide.coverage == pytest.approx((5 + 3) / 1024)


def test_the_mean_of_all_views_counts(tiny_model, monkeypatch):
    """The views of 32 x 32 px: the photo, and three at twice the size, with 4 pixels for one."""
    seen = answer(tiny_model, monkeypatch, (6, 9, 20.0), score_logit=1.0)
    result = tiny_model.segment(np.zeros((32, 32), np.uint8), min_score=0)
    assert seen == [(32, 32), *[(64, 64)] * 3]
    places = [(6, 9), (3, 4), (3, 27)]  # the last one is (3, 4) mirrored
    found = {place: result.probability[place] for place in places}
    assert found == pytest.approx({(6, 9): 1 / 4, (3, 4): 1 / 8, (3, 27): 1 / 16}, abs=1e-6)
    _, score = segmenter.refine(result.probability, 1 / (1 + np.exp(-1.0)))
    assert result.score == pytest.approx(score)


def test_a_run_of_other_views_is_not_continued():
    """If you change the views or how they are joined, raise METHOD and update this test."""
    seen = []

    def predict(views):
        seen.extend(view.shape[:2] for view in views)
        return [
            (np.full(view.shape[:2], max(view.shape) % 9 / 8, np.float32), 0.5) for view in views
        ]

    joined = []
    for shape in [(90, 200), (300, 511), (512, 40), (20, 1023), (1024, 30), (16, 1600), (20, 1700)]:
        probability, _ = segmenter.predict_any_size(predict, np.zeros((*shape, 3), np.uint8))
        joined.append(float(probability.mean()))
    assert seen == [
        (90, 200), *[(180, 400)] * 3, (300, 511), *[(301, 512)] * 3, *[(512, 40)] * 4,
        (20, 1023), (20, 1023), (15, 767),
        *[(1024, 30)] * 2, (512, 15), (614, 18),
        *[(16, 1600)] * 2, (8, 800), (10, 960),
        (12, 1024), (12, 1024), *[(20, 640)] * 3, *[(10, 480)] * 2,
    ]  # fmt: skip
    assert joined == pytest.approx([7 / 16, 31 / 32, 1, 7 / 12, 0.75, 0.875, 7 / 11], abs=1e-6)
    assert segmenter.VIEW_QUALITY == 95
    assert segmenter.METHOD == 16


def test_views_of_equal_shape_go_through_the_network_together(make_model, monkeypatch):
    net, seen = make_model().eval(), []

    def forward(batch):
        seen.append(tuple(batch.shape))
        return batch[:, :1].float(), batch[:, 0, 0, 0].float()

    monkeypatch.setattr(net.network, "forward", forward)
    monkeypatch.setattr(TorchSegmenter, "views_at_once", 2)
    segmenter = TorchSegmenter(net.network, "cpu")
    views = [np.full((h, 40, 3), v, np.uint8) for v, h in enumerate([32, 32, 32, 20, 20])]
    answers = segmenter.predict_views(views)
    assert [probability.shape for probability, _ in answers] == [v.shape[:2] for v in views]
    assert [np.log(score / (1 - score)) for _, score in answers] == pytest.approx([*range(5)])
    assert seen == [(n, 3, 32, 64) for n in (2, 1, 2)]


@pytest.mark.parametrize("arguments", [dict(threshold=1.5), dict(dilation_px=-1)])
def test_arguments_out_of_range_are_refused(tiny_model, arguments):
    message = r"Got (threshold .* lie in 0\.\.1|a dilation of .* whole number from 0)"
    with pytest.raises(ValueError, match=message):
        tiny_model.segment(np.zeros((32, 32), np.uint8), **arguments)


@pytest.mark.parametrize("training", [True, False])
def test_segment_restores_the_mode_and_changes_no_weight(make_model, training):
    model = make_model().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (model.segment(paint_photo(2, 32, 32)).probability for _ in range(2))
    assert model.training == training
    assert np.array_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_photo_with_a_low_score_gets_an_empty_mask(tiny_model, monkeypatch):
    answer(tiny_model, monkeypatch, (3, 4, 20.0), score_logit=-0.9)  # one pixel is no region
    photo = np.zeros((32, 32), np.uint8)
    result = tiny_model.segment(photo, fast=True)
    assert 0.22 < result.score < 0.24
    assert not result.mask.any() and result.coverage == 0 and result.probability.max() > 0.9
    assert tiny_model.segment(photo, min_score=0, fast=True).mask.sum() == 1
    assert tiny_model.segment(photo, min_score=0.22, fast=True).mask.sum() == 1
