"""Which images a batch takes, and what it calls their outputs."""

import os
from pathlib import Path

import pytest

from inputs import UsageError, list_inputs

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
    tree("x/photo.jpg", "upper.jpg")
    assert listed("x/photo.jpg") == [("x/photo.jpg", "x/photo")]
    assert listed("./x/photo.jpg") == [("./x/photo.jpg", "x/photo")]
    assert listed(Path("x/photo.jpg").resolve())[0][1] == "photo"
    assert listed("x/../upper.jpg") == [("x/../upper.jpg", "upper")]


def test_lists_name_images_from_here_or_from_their_own_folder(tree):
    tree("here.jpg", "lists/there.jpg", "lists/sub/one.jpg", "lists/sub/two.jpg")
    names = "here.jpg\r\n\nthere.jpg\n/gone/away.jpg\n sp ace.jpg\nsub\nhere.jpg"
    Path("lists/all.txt").write_text("\ufeff" + names, encoding="utf-8")
    assert listed("lists/all.txt") == [
        ("here.jpg", "here.jpg"),
        ("lists/there.jpg", "there"),
        ("/gone/away.jpg", "away"),
        (" sp ace.jpg", "sp ace"),
        ("lists/sub/one.jpg", "one"),
        ("lists/sub/two.jpg", "two"),
        ("here.jpg", "here.jpg~2"),
    ]


def test_images_that_would_share_a_mask_are_both_kept(tree):
    tree("in/a.jpg", "in/a.png", "in/A.tif", "in/a.jpg.gif", "other/a.jpg")
    names = dict(listed("in", "other"))
    assert names == {
        "in/A.tif": "A.tif",
        "in/a.jpg": "a.jpg",
        "in/a.jpg.gif": "a.jpg~2",
        "in/a.png": "a.png",
        "other/a.jpg": "a.jpg~3",
    }


def test_further_outputs_take_no_name_of_a_mask(tree):
    tree("in/a.jpg", "in/a.probability.jpg", "in/b.jpg")
    names = [name for _, name in listed("in", endings=EVERY_ENDING)]
    outputs = [name + ending for name in names for ending in EVERY_ENDING]
    assert len(set(outputs)) == len(outputs) == 9


@pytest.mark.parametrize("stem", ["x" * 251, "é" * 125, "日" * 83])
def test_outputs_of_long_names_fit_into_a_file_system(tree, stem):
    tree(f"in/{stem}.jpg", f"in/{stem}.gif")
    names = [name for _, name in listed("in", endings=EVERY_ENDING)]
    outputs = [name + ending for name in names for ending in EVERY_ENDING]
    assert len(set(outputs)) == 6
    assert max(len(os.fsencode(output)) for output in outputs) <= 255


def test_links_to_folders_are_followed_but_never_in_circles(tree):
    tree("in/a.jpg", "elsewhere/b.jpg")
    os.symlink("..", "in/up")
    os.symlink("self.jpg", "in/self.jpg")
    os.symlink("self", "in/self")
    os.symlink("../elsewhere", "in/link")
    os.symlink("../in", "elsewhere/back")
    os.symlink("gone.jpg", "in/broken.jpg")
    names = [name for _, name in listed("in")]
    assert [name for name in names if "up/" not in name] == ["a", "broken", "link/b", "self"]
    assert len(names) < 20


def test_the_output_folder_is_no_input(tree):
    tree("in/a.jpg", "in/out/a.png")
    items = list_inputs(["in"], Path("in/out"))
    assert [item.path for item in items] == ["in/a.jpg"]
    with pytest.raises(UsageError, match="both input and output"):
        list_inputs(["in"], Path("in"))


def test_no_output_replaces_an_input(tree):
    tree("masks/a.png", "in/a.jpg")
    with pytest.raises(UsageError, match=r"masks/a\.png would be replaced"):
        list_inputs(["in", "masks/a.png"], Path("masks"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tree):
    tree("in/a.jpg", "in/shut/b.jpg")
    os.chmod("in/shut", 0)
    items = list_inputs(["in"], Path("out"))
    os.chmod("in/shut", 0o700)
    assert [(item.path, item.error is None) for item in items] == [
        ("in/a.jpg", True),
        ("in/shut", False),
    ]


@pytest.mark.parametrize("source", ["gone.jpg", "gone", "gone.txt", "empty", "empty.txt"])
def test_sources_without_an_image_are_refused(tree, source):
    tree("empty/notes.md", "empty.txt")
    with pytest.raises(UsageError, match=source):
        list_inputs([source], Path("out"))
