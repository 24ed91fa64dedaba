"""Which images a batch takes, and what it calls their outputs."""

import errno
import os
from collections import Counter
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
    tree("x/photo.jpg", "upper.jpg")
    assert listed("x/photo.jpg") == [("x/photo.jpg", "x/photo")]
    assert listed("./x/photo.jpg") == [("./x/photo.jpg", "x/photo")]
    assert listed(Path("x/photo.jpg").resolve())[0][1] == "photo"
    assert listed("x/../upper.jpg") == [("x/../upper.jpg", "upper")]


def test_lists_name_images_from_here_or_from_their_own_folder(tree):
    tree("here.jpg", " sp ace.jpg", "lists/there.jpg", "lists/sub/one.jpg", "lists/sub/two.jpg")
    names = "here.jpg \r\n\n\tthere.jpg\n/gone/away.jpg\n sp ace.jpg\nsub\nhere.jpg"
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


def test_links_to_folders_are_followed_but_never_up_or_twice(tree):
    tree("in/a.jpg", "in/c/d.jpg", "elsewhere/b.jpg", "private.jpg")
    os.symlink("..", "in/up")
    os.symlink("self.jpg", "in/self.jpg")
    os.symlink("self", "in/self")
    os.symlink("../elsewhere", "in/link")
    os.symlink("../in", "elsewhere/back")
    os.symlink("../elsewhere", "elsewhere/circle")
    os.symlink("c", "in/same")
    os.symlink("gone.jpg", "in/broken.jpg")
    assert [name for _, name in listed("in")] == ["a", "broken", "c/d", "link/b", "self"]


def test_folders_that_link_to_each_other_do_not_multiply(tree):
    for one in range(8):
        tree(f"in/{one}/{one}.jpg")
        for other in range(8):
            os.symlink(f"../{other}", f"in/{one}/to{other}")
    assert len(listed("in")) == 8


def test_earlier_outputs_below_a_folder_are_no_inputs(tree):
    tree("in/a.jpg", "in/masks/a.png", "in/masks/.progress.jsonl")
    assert listed("in") == [("in/a.jpg", "a")]


def test_a_refused_run_leaves_its_folder_usable(tree):
    tree("in/a.jpg", "in/.progress.lock")
    assert listed("in") == [("in/a.jpg", "a")]


def test_a_folder_of_masks_is_no_source(tree):
    tree("in/a.jpg", "masks/a.png", "masks/.progress.jsonl")
    with pytest.raises(UsageError, match="masks holds the masks of an earlier run"):
        listed("in", "masks")


def test_a_mask_and_a_folder_of_one_name_are_both_kept(tree):
    tree("in/a.jpg", "in/a.png/b.jpg")
    assert listed("in") == [("in/a.jpg", "a~2"), ("in/a.png/b.jpg", "a.png/b")]


def test_absolute_paths_keep_what_tells_them_apart(tree):
    tree("x/1/photo.jpg", "x/2/photo.jpg", "x/2/deep/photo.jpg", "here.jpg")
    paths = [str(Path(name).resolve()) for name in ("x/1/photo.jpg", "x/2/photo.jpg")]
    assert [name for _, name in listed(*paths)] == ["1/photo", "2/photo"]
    mixed = [*paths, "x/../x/2/deep/photo.jpg", "here.jpg"]
    names = [name for _, name in listed(*mixed)]
    assert names == ["1/photo", "2/photo", "2/deep/photo", "here"]


def test_many_equal_names_are_told_apart_quickly(tree):
    Path("list.txt").write_text("in/a.jpg\n" * 20_000)
    names = [name for _, name in listed("list.txt")]
    assert len(set(names)) == 20_000 and names[-1] == "in/a.jpg~20000"


def test_odd_lists(tree):
    tree("a.jpg", "ü.jpg")
    Path("utf16.txt").write_text("a.jpg\nü.jpg\n", encoding="utf-16")
    assert [path for path, _ in listed("utf16.txt")] == ["a.jpg", "ü.jpg"]
    Path("nul.txt").write_bytes(b"a.jpg\nb\0.jpg\n" + b"x" * 3000 + b"\n")
    items = list_inputs(["nul.txt"], Path("out"))
    assert [item.error is None for item in items] == [True, False, True]
    with pytest.raises(UsageError, match="does not exist"):
        listed("x" * 3000)


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
    tree("sub/b.png")
    Path("out").mkdir()
    os.symlink("../sub", "out/sub")
    with pytest.raises(UsageError, match=r"sub/b\.png would be replaced"):
        list_inputs(["sub/b.png"], Path("out"))


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    tree("in/a.jpg", "in/shut/b.jpg")
    scan = os.scandir

    def refuse(folder):  # root reads every folder, so that no mode would do
        if Path(folder).name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    items = list_inputs(["in"], Path("out"))
    assert [(item.path, item.error is None) for item in items] == [
        ("in/a.jpg", True),
        ("in/shut", False),
    ]


@pytest.mark.parametrize("source", ["gone.jpg", "gone", "gone.txt", "empty", "empty.txt"])
def test_sources_without_an_image_are_refused(tree, source):
    tree("empty/notes.md", "empty.txt")
    with pytest.raises(UsageError, match=source):
        list_inputs([source], Path("out"))


def test_files_of_other_endings_are_counted(tree):
    tree("in/a.jpg", "in/b.PSD", "in/sub/c.psd", "in/d.heic", "in/README", "in/.hidden", "e.txt")
    others = Counter()
    assert len(listed("in", passed_over=others)) == 2
    assert others == {".psd": 2, "no ending": 1}
