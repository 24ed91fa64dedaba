"""The images that a batch finds, and the names of their outputs."""

import errno
import os
from pathlib import Path

import pytest

from batch.files import UsageError
from batch.inputs import list_inputs

EVERY_ENDING = (".png", ".overlay.jpg", ".probability.png")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Makes files (any content) below a new current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"")

    return make


def listed(*sources, **arguments):
    return [(item.path, item.name) for item in list_inputs(sources, Path("out"), **arguments)]


def test_folders_are_mirrored_and_sorted(tree):
    tree("in/b.jpg", "in/a/z.PNG", "in/a.gif", "in/.hidden.jpg", "in/.git/x.jpg", "in/notes.txt")
    assert listed("in") == [("in/a/z.PNG", "a/z"), ("in/a.gif", "a"), ("in/b.jpg", "b")]


def test_single_images_keep_their_relative_path_and_lose_any_other(tree):
    tree("x/1/photo.jpg", "x/2/photo.jpg", "upper.jpg")
    assert listed("./x/1/photo.jpg") == [("./x/1/photo.jpg", "x/1/photo")]
    assert listed("x/../upper.jpg") == [("x/../upper.jpg", "upper")]
    absolute = [str(Path(name).resolve()) for name in ("x/1/photo.jpg", "x/2/photo.jpg")]
    assert [name for _, name in listed(*absolute, "upper.jpg")] == ["1/photo", "2/photo", "upper"]


def test_lists_name_images_and_folders_from_here(tree):
    tree("here.jpg", "ü.jpg", "lists/sub/one.jpg", "lists/sub/two.jpg")
    names = "here.jpg \r\n\n\tü.jpg\n/gone/away.jpg\nlists/sub\nhere.jpg"
    Path("lists/all.txt").write_text("\ufeff" + names, encoding="utf-8")
    assert listed("lists/all.txt") == [
        ("here.jpg", "here.jpg"), ("ü.jpg", "ü"), ("/gone/away.jpg", "away"),
        ("lists/sub/one.jpg", "one"), ("lists/sub/two.jpg", "two"), ("here.jpg", "here.jpg~2"),
    ]  # fmt: skip
    Path("lists/all.txt").write_text(names, encoding="utf-16")
    with pytest.raises(UsageError, match=r"list lists/all\.txt is not UTF-8"):
        listed("lists/all.txt")


def test_images_that_would_share_a_mask_are_both_kept(tree):
    tree(
        "in/a.jpg", "in/a.png", "in/A.tif", "in/a.jpg.gif", "other/a.jpg", "in/b.jpg", "in/b.png/c"
    )
    tree("in/b.png/c.jpg")
    assert dict(listed("in", "other")) == {
        "in/A.tif": "A.tif", "in/a.jpg": "a.jpg", "in/a.jpg.gif": "a.jpg~2", "in/a.png": "a.png",
        "in/b.jpg": "b~2", "in/b.png/c.jpg": "b.png/c", "other/a.jpg": "a.jpg~3",
    }  # fmt: skip


def test_further_outputs_take_no_name_of_a_mask(tree):
    tree("in/a.jpg", "in/a.probability.jpg", "in/b.jpg")
    names = [name for _, name in listed("in", endings=EVERY_ENDING)]
    assert len({name + ending for name in names for ending in EVERY_ENDING}) == 9


def test_many_equal_names_are_told_apart_quickly(tree):
    Path("list.txt").write_text("in/a.jpg\n" * 20_000)
    names = [name for _, name in listed("list.txt")]
    assert len(set(names)) == 20_000 and names[-1] == "in/a.jpg~20000"


def test_links_to_folders_are_followed_but_never_up_or_twice(tree):
    tree("in/a.jpg", "in/c/d.jpg", "elsewhere/b.jpg", "private.jpg")
    links = {
        "in/up": "..", "in/self": "self", "in/link": "../elsewhere", "elsewhere/back": "../in",
        "elsewhere/circle": "../elsewhere", "in/same": "c", "in/broken.jpg": "gone.jpg",
    }  # fmt: skip
    for name, target in links.items():
        os.symlink(target, name)
    assert [name for _, name in listed("in")] == ["a", "broken", "c/d", "link/b"]


def test_masks_of_an_earlier_run_are_no_inputs(tree):
    tree("in/a.jpg", "in/masks/a.png", "in/masks/.progress.jsonl", "in/out/b.png")
    assert listed("in") == [("in/a.jpg", "a"), ("in/out/b.png", "out/b")]
    assert [item.path for item in list_inputs(["in"], Path("in/out"))] == ["in/a.jpg"]
    with pytest.raises(UsageError, match=r"No image in in/masks\. .* masks of an earlier run"):
        listed("in/masks")
    with pytest.raises(UsageError, match="both input and output"):
        list_inputs(["in"], Path("in"))


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    tree("in/a.jpg", "in/shut/b.jpg")
    scan = os.scandir

    def refuse(folder):  # root reads every folder, so that no mode would do
        if Path(folder).name in ("shut", "closed"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    items = [(item.path, item.error) for item in list_inputs(["in"], Path("out"))]
    assert items == [("in/a.jpg", None), ("in/shut", "folder cannot be read: Permission denied")]
    Path("closed").mkdir()
    assert listed("closed") == [("closed", "folder")]


def test_one_path_is_a_source_and_none_is_refused(tree):
    tree("in/a.jpg")
    assert [item.path for item in list_inputs("in", Path("out"))] == ["in/a.jpg"]
    with pytest.raises(UsageError, match="Got no image, folder or list"):
        list_inputs([], Path("out"))


@pytest.mark.parametrize("source", ["gone.jpg", "gone", "gone.txt", "empty", "empty.txt"])
def test_sources_without_an_image_are_refused(tree, source):
    tree("empty/notes.md", "empty.txt")
    with pytest.raises(UsageError, match=source):
        list_inputs([source], Path("out"))
