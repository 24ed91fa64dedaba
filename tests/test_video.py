"""Clips: one mask for all frames, or one for each if the mark jumps; damaged files."""

import wave

import cv2
import numpy as np
import pytest
from conftest import paint_photo
from PIL import Image

from batch import Options, segment_files
from evaluation.metrics import score_mask
from inference.clips import open_clip
from inference.video import segment_frames, segment_video
from model import WatermarkSegmenter

SIZE = (192, 144)  # width, height
FPS = 10


@pytest.fixture(scope="module")
def segmenter():
    """The weights that come with the repository."""
    return WatermarkSegmenter.load()


def paint_frames(count: int, places=((20, 60),), text: str = "STUDIO", seed: int = 0):
    """RGB frames, each of another scene, with text that moves through `places`.

    Returns:
        frames and masks, lists of uint8, H x W x 3, and bool, H x W.
    """
    frames, masks = [], []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        frame = paint_photo(1000 * seed + number, SIZE[1], SIZE[0])
        frame = np.clip(frame + rng.normal(0, 6, (*frame.shape[:2], 1)), 0, 255).astype(np.uint8)
        alpha = np.zeros(frame.shape, np.uint8)
        place = places[number * len(places) // count]
        cv2.putText(alpha, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1, (255,) * 3, 3, cv2.LINE_AA)
        frames.append(np.maximum(frame, alpha))
        masks.append(alpha[..., 0] > 127)
    return frames, masks


def write_clip(path, frames, codec="MJPG"):
    """Writes a clip and returns its path; fails if OpenCV lacks the codec."""
    size = frames[0].shape[1::-1] if frames else SIZE
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), FPS, size)
    assert writer.isOpened(), f"OpenCV does not write {codec}"
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def write_animation(path, frames):
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=1000 // FPS, loop=0)
    return path


def test_a_mark_that_stands_still_gets_one_mask(segmenter, tmp_path):
    frames, masks = paint_frames(24)
    found = segment_video(segmenter, write_clip(tmp_path / "clip.avi", frames), frames=5)
    assert found.mask.shape == SIZE[::-1] and found.mask.dtype == bool
    assert score_mask(found.mask, masks[0].astype(np.uint8)).iou > 0.6
    assert found.score > 0.9 and found.shared > 0.75 and found.coverage == found.mask.mean()
    assert found.frames == 5 and found.each == [] and found.damage is None
    assert found.seen_s[0] < 0.5 and 1.8 < found.seen_s[1] < 2.4


def test_a_mark_that_comes_later_is_seen_later(segmenter, tmp_path):
    clean, _ = paint_frames(2, text="", seed=1)
    marked, _ = paint_frames(4)
    found = segment_video(segmenter, write_clip(tmp_path / "clip.avi", clean + marked))
    assert found.mask.any() and found.seen_s == (0.2, 0.5)


def test_a_clip_without_a_mark_gets_an_empty_mask(segmenter, tmp_path):
    frames, _ = paint_frames(4, text="")
    found = segment_video(segmenter, write_clip(tmp_path / "clip.avi", frames))
    assert not found.mask.any() and found.seen_s is None and found.each == []
    assert found.score < 0.3 and found.frames == 4


def test_a_still_scene_gets_one_mask_although_frames_share_no_mark(segmenter, tmp_path):
    frames, masks = paint_frames(1)
    found = segment_video(segmenter, write_clip(tmp_path / "clip.avi", frames * 3))
    assert found.each == [] and found.shared == 0
    assert score_mask(found.mask, masks[0].astype(np.uint8)).iou > 0.6


def test_a_mark_that_jumps_gets_a_mask_for_each_frame(segmenter, tmp_path):
    frames, masks = paint_frames(4, places=((5, 30), (60, 130), (40, 80), (65, 40)))
    clip = write_clip(tmp_path / "clip.avi", frames)
    found = segment_video(segmenter, clip)
    assert [frame.number for frame in found.each] == list(range(4))
    ious = [score_mask(f.mask, m.astype(np.uint8)).iou for f, m in zip(found.each, masks)]
    assert np.mean(ious) > 0.5
    assert np.array_equal(found.mask, np.any([frame.mask for frame in found.each], 0))


def test_print_in_one_long_scene_is_no_mark_that_jumps(segmenter, tmp_path):
    frames, masks = paint_frames(8)
    printed, _ = paint_frames(1, places=((40, 110),), text="MENU", seed=1)
    found = segment_video(segmenter, write_clip(tmp_path / "clip.avi", frames + 4 * printed))
    assert found.each == [] and score_mask(found.mask, masks[0].astype(np.uint8)).iou > 0.6


def test_frames_at_equal_intervals_get_a_mask_each(segmenter, tmp_path):
    frames, masks = paint_frames(6)
    clip = write_clip(tmp_path / "clip.avi", frames)
    found = list(segment_frames(segmenter, clip, every_s=0.3))
    assert [(frame.number, frame.seconds) for frame in found] == [(0, 0), (3, pytest.approx(0.3))]
    for frame in found:
        assert score_mask(frame.mask, masks[0].astype(np.uint8)).iou > 0.5
        assert frame.shared > 0.75


def test_a_clip_of_one_frame_gets_its_mask(tiny_model, tmp_path):
    clip = write_clip(tmp_path / "one.mp4", paint_frames(1)[0], "mp4v")
    assert [frame.number for frame in segment_frames(tiny_model, clip, every_s=0.5)] == [0]


CODECS = {"a.mp4": "mp4v", "a.mov": "mp4v", "a.avi": "MJPG", "a.mkv": "FFV1", "a.webm": "VP80"}


@pytest.mark.parametrize("name", [*CODECS, "a.gif", "a.webp"])
def test_every_container_is_read_in_order(tiny_model, tmp_path, name):
    levels = range(40, 220, 12)
    frames = [np.full((32, 48, 3), level, np.uint8) for level in levels]
    if name in CODECS:
        path = write_clip(tmp_path / name, frames, CODECS[name])
    else:
        path = write_animation(tmp_path / name, frames)
    found = list(segment_frames(tiny_model, path, every_s=0.5))
    assert [(frame.number, frame.seconds) for frame in found] == [(0, 0), (5, 0.5), (10, 1)]
    assert segment_video(tiny_model, path, frames=2).mask.shape == (32, 48)


def test_frames_far_apart_are_found_by_seeking(tmp_path):
    frames = [np.full((32, 48, 3), level, np.uint8) for level in range(250)]
    clip = open_clip(write_clip(tmp_path / "clip.mp4", frames, "mp4v"))
    for number in (3, 240, 100, 101, 7):
        seconds, rgb = clip.read(number)
        assert seconds == pytest.approx(number / FPS) and abs(rgb.mean() - number) < 6


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.gif"])
def test_the_readable_part_of_a_damaged_clip_is_segmented(tiny_model, tmp_path, name):
    frames = [frame[:64, :64] for frame in paint_frames(20)[0]]
    path = tmp_path / name
    write_animation(path, frames) if name == "a.gif" else write_clip(path, frames, CODECS[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = segment_video(tiny_model, path, frames=10)
    assert "cannot be read" in found.damage and found.mask.shape == (64, 64)
    if name != "a.gif":  # a GIF counts only the frames that can be read
        assert 3 <= found.frames <= 6


def test_a_live_recording_does_not_know_its_length(tiny_model, tmp_path):
    frames = [frame[:64, :64] for frame in paint_frames(12)[0]]
    path = write_clip(tmp_path / "clip.webm", frames, "VP80")
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88")  # the 8-byte element Duration becomes Void
    path.write_bytes(data[:at] + b"\xec\x89\x00" + data[at + 3 :])
    found = list(segment_frames(tiny_model, path, every_s=0.4))
    assert [frame.number for frame in found] == [0, 4, 8]


def write_sound(path):
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000)
        sound.writeframes(bytes(16000))


def write_unknown_codec(path):
    frames, _ = paint_frames(3)
    avi = write_clip(path.with_suffix(".avi"), frames)
    path.write_bytes(avi.read_bytes().replace(b"MJPG", b"ZZZZ"))


def write_no_frames(path):
    write_clip(path.with_suffix(".avi"), []).rename(path)


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "is empty: it has 0 bytes"),
    "text": (lambda path: path.write_bytes(b"hello" * 99), "damaged, holds only sound, or"),
    "sound": (write_sound, "holds only sound"),
    "codec": (write_unknown_codec, "its codec is unknown"),
    "no frames": (write_no_frames, "has no frames"),
    "gif": (lambda path: path.write_bytes(b"GIF89a\x10\x00\x10\x00\x00\x00\x00"), "has no frames"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_clip_is_explained_in_a_sentence(tiny_model, tmp_path, capfd, name):
    path = tmp_path / "clip.mp4"
    make, reason = BROKEN[name]
    make(path)
    with pytest.raises(ValueError, match=reason):
        segment_video(tiny_model, path)
    assert capfd.readouterr().err == ""


def test_wrong_arguments_are_explained(tiny_model, tmp_path):
    with pytest.raises(FileNotFoundError, match="No video at"):
        segment_video(tiny_model, tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="Got 0 frames; give 1 to"):
        segment_video(tiny_model, tmp_path / "none.mp4", frames=0)


def test_clips_are_sources_beside_images(tiny_model, tmp_path):
    frames = [frame[:32, :48] for frame in paint_frames(6)[0]]
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/a.mp4", frames, "mp4v")
    write_animation(tmp_path / "in/b.gif", frames)
    for name in ("c.gif", "d.png"):
        Image.fromarray(frames[0]).save(tmp_path / "in" / name)
    (tmp_path / "in/e.mov").write_bytes(b"")
    options = Options(every=0.3, frames=2, overlay=True)
    found = segment_files([tmp_path / "in"], tmp_path / "out", options, tiny_model)
    assert [record.get("frames") for record in found.records] == [2, 2, None, None, None]
    assert found.records[-1]["error"] == "is empty: it has 0 bytes."
    for record in found.records[:2]:
        assert (record["width"], record["height"], record["damage"]) == (48, 32, None)
        masks = sorted((tmp_path / "out" / record["masks"]).iterdir())
        assert [mask.name for mask in masks] == ["000000.png", "000003.png"]
        for mask in (tmp_path / "out" / record["mask"], *masks):
            assert Image.open(mask).size == (48, 32)
    assert (tmp_path / "out/a.overlay.jpg").exists()
    again = segment_files([tmp_path / "in"], tmp_path / "out", options, tiny_model)
    assert again.done_before == 4 and again.records[0] == found.records[0]


def test_masks_of_frames_are_deleted_when_the_clip_changes(tiny_model, tmp_path):
    frames = [frame[:32, :48] for frame in paint_frames(6)[0]]
    clip, options = write_clip(tmp_path / "a.avi", frames), Options(every=0.3, frames=2)
    segment_files([clip], tmp_path / "out", options, tiny_model)
    write_clip(clip, frames[:3])
    segment_files([clip], tmp_path / "out", options, tiny_model)
    assert [path.name for path in (tmp_path / "out/a.frames").iterdir()] == ["000000.png"]
    clip.write_bytes(b"broken")
    segment_files([clip], tmp_path / "out", options, tiny_model)
    assert not list((tmp_path / "out/a.frames").iterdir())
    assert not (tmp_path / "out/a.png").exists()
