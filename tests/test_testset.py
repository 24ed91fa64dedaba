"""The frozen test set: the same for everybody, and each slice what its name says."""

import shutil

import numpy as np
import pytest
from PIL import Image

from dataset import image_label
from images import IGNORE, find_images
from testset import MEGAPIXEL, SLICES, pair_files, read_pair, render_cases

SQUARE = ["LOGO-L", "LOGO-H", "LOGO-gray", "CLWD"]


@pytest.mark.parametrize("name", SLICES)
def test_cases_carry_a_visible_mark_unless_clean(photos, logos, fonts, name):
    cases = list(render_cases(name, 3, 0, photos, logos, fonts))
    assert len({case.name for case in cases}) == 3
    for case in cases:
        assert case.image.dtype == np.uint8 and case.image.shape == (*case.mask.shape, 3)
        assert image_label(case.mask) == (name != "clean")
        assert np.array_equal(case.alpha_mask == 1, case.mask != 0)
        if name in SQUARE:
            assert case.mask.shape == (256, 256)


@pytest.mark.parametrize("name", SLICES)
def test_cases_do_not_depend_on_file_names_or_order(photos, logos, fonts, tmp_path, name):
    for index, file in enumerate(photos):
        shutil.copy(file.path, tmp_path / f"{9 - index}{file.path.suffix}")
    renamed = find_images(tmp_path)
    first = list(render_cases(name, 2, 5, photos, logos, fonts))
    second = list(render_cases(name, 2, 5, renamed, logos[::-1], fonts[::-1]))
    other = list(render_cases(name, 2, 6, photos, logos, fonts))
    for one, same in zip(first, second):
        assert np.array_equal(one.image, same.image) and np.array_equal(one.mask, same.mask)
    if name != "clean":
        assert not all(np.array_equal(a.mask, b.mask) for a, b in zip(first, other))


def test_small_photos_are_enlarged_for_corner_marks(photos, logos, fonts):
    for case in render_cases("corner", 2, 0, photos, logos, fonts):
        height, width = case.mask.shape
        assert height * width >= MEGAPIXEL
        columns = np.flatnonzero(case.alpha_mask.any(0))
        assert columns[-1] - columns[0] < 0.13 * width  # 4-10 %, and an outline or shadow


@pytest.mark.parametrize("name", SQUARE)
def test_marks_of_the_papers_lie_whole_inside(photos, logos, fonts, name):
    for case in render_cases(name, 12, 1, photos, logos, fonts):
        edge = np.concatenate([case.mask[[0, -1]].ravel(), case.mask[:, [0, -1]].ravel()])
        assert (edge == 1).mean() < 0.05  # touches it at most


# --- Real pairs ---------------------------------------------------------------------------------


@pytest.fixture
def pair_folders(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        Image.new("RGB", (9, 7), "blue").save(tmp_path / "images" / f"{name}.jpg")
        Image.new("L", (9, 7), 255).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path / "images", tmp_path / "masks"


def test_pairs_are_found_by_name(pair_folders):
    pairs = pair_files(*pair_folders)
    assert [name for name, _, _ in pairs] == ["a", "sub/b"]
    case = read_pair(*pairs[0])
    assert (case.mask == 1).all() and case.image.shape == (7, 9, 3)


def test_grey_of_a_real_mask_is_undecidable(pair_folders):
    grey = np.uint8([[0, 63, 64, 191, 192, 255, 0, 0, 0]] * 7)
    Image.fromarray(grey).save(pair_folders[1] / "a.png")
    case = read_pair(*pair_files(*pair_folders)[0])
    assert case.mask[0].tolist() == [0, 0, IGNORE, IGNORE, 1, 1, 0, 0, 0]
    assert case.alpha_mask[0].tolist() == [0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_names_that_do_not_pair_up_are_listed(pair_folders):
    (pair_folders[0] / "sub/b.jpg").rename(pair_folders[0] / "sub/c.jpg")
    with pytest.raises(ValueError, match=r"2 files have no partner.*sub/b .*sub/c "):
        pair_files(*pair_folders)


def test_two_files_of_one_name_are_refused(pair_folders):
    shutil.copy(pair_folders[0] / "a.jpg", pair_folders[0] / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png have the same name"):
        pair_files(*pair_folders)


def test_mask_of_another_size_is_refused(pair_folders):
    Image.new("L", (8, 7)).save(pair_folders[1] / "a.png")
    with pytest.raises(
        ValueError, match=r"8 x 7 pixels, its image .* has 9 x 7; they must be equal"
    ):
        read_pair(*pair_files(*pair_folders)[0])
