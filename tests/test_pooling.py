"""Segmenting images together improves those that share a mark and does not change the others."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import paint_photo

from dataset import add_watermark
from evaluation.metrics import score_mask
from inference.pooling import segment_together
from model import WatermarkSegmenter
from samples.drawing import SampleParams

SHAPE = (144, 192)


@pytest.fixture(scope="module")
def segmenter():
    """The weights that come with the repository."""
    return WatermarkSegmenter.load()


def paint_scene(seed: int) -> np.ndarray:
    """Blobs, boxes and grain, which make a faint mark hard to find."""
    rng = np.random.default_rng(seed)
    scene = paint_photo(seed, *SHAPE)
    for _ in range(12):
        x, y, width, height = rng.integers(4, 80, 4).tolist()
        x, y = x * 2, y * 2
        color = rng.integers(30, 226, 3).tolist()
        cv2.rectangle(
            scene, (x, y), (x + width, y + height), color, -1 if rng.random() < 0.5 else 2
        )
    grain = rng.normal(0, 6, (*SHAPE, 1))
    return np.clip(scene + grain, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def mark(make_mark, fonts):
    return make_mark(
        kind="text", text="STUDIO", font=fonts[0].path, color="white", scale=0.7, opacity=0.18
    )


def lay(mark, scene):
    plain = dict(downscale=1.0, blur_sigma_px=0.0, noise_std=0.0, noise_seed=0, jpeg_quality=92)
    return add_watermark(scene, SampleParams(0, (1, 0, 0), False, (mark,), **plain))


@pytest.fixture(scope="module")
def samples(mark):
    return [lay(mark, paint_scene(seed)) for seed in range(10)]


def test_segmenting_together_improves_masks_and_spares_a_photo_without_the_mark(segmenter, samples):
    unmarked = [paint_scene(seed) for seed in (50, 51)]
    images = [sample["image"] for sample in samples]
    (group,), found = segment_together(segmenter, images + unmarked)
    single = [segmenter.segment(image) for image in images]
    ious = [
        np.mean([score_mask(f.mask, s["mask"]).iou for f, s in zip(results, samples)])
        for results in (single, found)
    ]
    assert ious[1] > ious[0] + 0.2
    assert group.shared.confidence > 0.9 and group.size == SHAPE[::-1]
    assert score_mask(group.shared.mask, samples[0]["mask"]).iou > 0.4
    assert min(group.confidences[:10]) > max(group.confidences[10:])
    for image, own in zip(unmarked, found[10:]):
        alone = segmenter.segment(image)
        assert np.array_equal(own.mask, alone.mask) and own.score == alone.score
        assert np.array_equal(own.probability, alone.probability)
    assert str(group).startswith("192 x 144: 12 images, 10 of them share a mark (confidence ")


def test_three_images_are_enough_for_a_clear_mark(segmenter, mark):
    clear = replace(mark, opacity=0.6)
    images = [lay(clear, paint_scene(seed))["image"] for seed in range(3)]
    (group,), _ = segment_together(segmenter, images)
    assert group.shared is not None and len(group.confidences) == 3


@pytest.mark.parametrize("count", [1, 2, 6])
def test_images_without_a_shared_mark_are_segmented_alone(segmenter, count):
    images = [paint_scene(seed) for seed in range(20, 20 + count)]
    (group,), found = segment_together(segmenter, images)
    assert group.shared is None and group.confidences == (0.0,) * count
    assert "each taken alone" in str(group)
    for image, own in zip(images, found):
        assert np.array_equal(own.mask, segmenter.segment(image).mask)


def test_copies_of_a_photo_without_the_mark_get_its_own_mask(segmenter, samples):
    """The copies of a clean photo share their scene, which must not count as a mark."""
    clean = paint_scene(50)
    images = [sample["image"] for sample in samples[:6]] + [clean] * 3
    (group,), found = segment_together(segmenter, images)
    alone = segmenter.segment(clean)
    assert max(group.confidences[6:]) < 0.75
    assert all(np.array_equal(own.mask, alone.mask) for own in found[6:])


def test_print_in_a_scene_that_hardly_moves_is_no_shared_mark(segmenter, mark):
    """In the frames of a clip the scene moves by a pixel each, together with its print."""
    scene = np.tile(paint_scene(50), (1, 2, 1))[:, : SHAPE[1] + 8]
    cv2.putText(scene, "OPEN", (40, 90), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (240,) * 3, 4, cv2.LINE_AA)
    frames = [np.ascontiguousarray(scene[:, x : x + SHAPE[1]]) for x in range(8)]
    (group,), _ = segment_together(segmenter, frames)
    assert group.shared is None


def test_a_frame_that_all_images_share_is_no_obstacle(segmenter, samples):
    images = [sample["image"].copy() for sample in samples]
    for image in images:
        image[:6], image[-6:], image[:, :6], image[:, -6:] = 0, 0, 0, 0
    (group,), _ = segment_together(segmenter, images)
    assert group.shared is not None and min(group.confidences) > 0.75


@pytest.mark.parametrize("shape", [(300, 1, 3), (1, 2, 3), (31, 45, 3)])
def test_odd_sizes_are_no_obstacle(tiny_model, shape):
    images = [np.random.default_rng(i).integers(0, 256, shape, np.uint8) for i in range(4)]
    _, found = segment_together(tiny_model, images)
    assert [f.mask.shape for f in found] == [shape[:2]] * 4


def test_images_of_other_sizes_make_groups_of_their_own(tiny_model, samples):
    images = [sample["image"] for sample in samples[:4]]
    images[1] = images[1][:100]
    groups, found = segment_together(tiny_model, images)
    assert [(g.size, g.numbers) for g in groups] == [((192, 144), (0, 2, 3)), ((192, 100), (1,))]
    assert [f.mask.shape for f in found] == [image.shape[:2] for image in images]


def test_wrong_inputs_are_explained(tiny_model, tmp_path):
    with pytest.raises(ValueError, match="Got no images; give three or more"):
        segment_together(tiny_model, [])
    with pytest.raises(FileNotFoundError, match="No image file"):
        segment_together(tiny_model, [tmp_path / "nothing.jpg"] * 3)
    with pytest.raises(ValueError, match="threshold 2"):
        segment_together(tiny_model, [np.zeros((9, 9, 3), np.uint8)], threshold=2)
