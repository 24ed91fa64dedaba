"""Watermarks as cut-out pictures, and their effects.

The tables MARKS and EFFECTS name every alternative: a new one is a function, an entry, and a weight
in `dataset.WatermarkSettings`; of marks, also a name in LOGO_KINDS, SEEDED_KINDS or `text.WORDS`,
if it needs a logo, a seed or words. Nothing here is random; `drawing.draw_mark` decides, these
functions apply. Where the marks lie on a photo, `layouts.py` says.

A stamp is one copy of a mark: uint8, h x w x 4, RGB premultiplied with alpha.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inference.reading import open_photo, upright
from samples.signature import draw_signature

MAX_LOGO_PX = 512  # long side at which logos are kept in memory
MIN_FONT_PX = 10  # below, strokes cover less than half a pixel: nobody reads or marks them
LOGO_KINDS = ("logo", "lockup")  # of MARKS: they need a logo file
MIN_SIGNATURE_PX = 40  # long side; below, its loops close
MIN_SPARKLE_PX = 10
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
PLATE_ALPHA = 150  # of 255: the plate belongs to the mark, `dataset.honest_mask`
SPARKLES = (  # x, y, radius over the side of the stamp; one sparkle is the most common
    ((0.5, 0.5, 0.5),), ((0.5, 0.5, 0.5),), ((0.42, 0.58, 0.42), (0.82, 0.18, 0.18)),
    ((0.4, 0.5, 0.4), (0.82, 0.2, 0.18), (0.8, 0.82, 0.15)),
)  # fmt: skip
SEEDED_KINDS = ("signature", "ai_label", "squares")  # of MARKS: `MarkParams.seed` decides the look
COLORS = ("original", "desaturated", "white", "black", "grey", "tint", "warm")
MIN_SQUARE_PX = 3  # side of each square of a row


@dataclass(frozen=True)
class MarkParams:
    """Everything about one mark: the random numbers behind it, already drawn."""

    kind: str
    logo: Path | None  # its file, for the kinds in LOGO_KINDS
    font: Path | None  # its file, for the kinds that write
    text: str  # empty for a logo
    layout: str
    color: str
    tint: tuple[int, int, int]  # RGB, for the colours "grey", "tint" and "warm"
    effect: str
    blend_mode: str
    opacity: float
    scale: float
    stretch: float
    rotation_deg: float
    center: tuple[float, float]  # (x, y), fraction of the image
    gap: float
    seed: int = 0  # of a signature's strokes, of an AI label's sparkles
    stacked: bool = False  # a lockup's icon lies above its word, not beside it


def check_logo(image: Image.Image) -> None:
    """Raises ValueError for an image that cannot serve as a mark: opaque all over, or empty."""
    low, high = image.convert("RGBA").getchannel("A").getextrema()
    if low == 255:
        raise ValueError(
            "has no transparency: a mark needs a transparent background, "
            "so remove it in an image editor and save as PNG or WebP with alpha"
        )
    if high == 0:
        raise ValueError("is transparent all over: nothing would be drawn")


def load_logo(path: Path, halvings: int = 0) -> np.ndarray:
    """A logo file as a stamp, cropped to its content, at most MAX_LOGO_PX long, then halved.

    An opacity that is baked into the file is taken out (the strongest alpha becomes 255):
    how opaque a mark is, the settings decide. The last ones are kept, until their files change.
    """
    status = path.stat()
    return _load_logo(path, halvings, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=128)  # of at most MAX_LOGO_PX x MAX_LOGO_PX x 4 = 1 MB each
def _load_logo(path: Path, halvings: int, *state) -> np.ndarray:
    if halvings:
        return _halve(_load_logo(path, halvings - 1, *state))
    with open_photo(path) as image:
        check_logo(image)
        rgba = np.array(upright(image).convert("RGBA"))
    alpha = rgba[..., 3]
    rows, columns = np.flatnonzero(alpha.max(1)), np.flatnonzero(alpha.max(0))
    rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    rgba[..., 3:] *= 255 / alpha.max()
    rgba[..., :3] *= rgba[..., 3:] / 255
    stamp = np.rint(rgba).astype(np.uint8)
    while max(stamp.shape) > MAX_LOGO_PX:
        stamp = _halve(stamp)
    return stamp


def _halve(stamp: np.ndarray) -> np.ndarray:
    height, width = stamp.shape[:2]
    even = cv2.copyMakeBorder(stamp, 0, height % 2, 0, width % 2, cv2.BORDER_CONSTANT)
    half = ((width + 1) // 2, (height + 1) // 2)
    return cv2.resize(even, half, interpolation=cv2.INTER_AREA)


def stretch_stamp(stamp: np.ndarray, long_px: float, stretch: float) -> np.ndarray:
    """The stamp with its long side at `long_px`, its width stretched against its height.

    Bilinear on premultiplied RGBA: nothing can ring or pull in hidden colour. That shrinks cleanly
    to half, so a side that shrinks further is first averaged down to twice its new length.
    """
    sides = stamp.shape[1::-1]
    width, height = sides[0] * stretch**0.5, sides[1] / stretch**0.5
    zoom = long_px / max(width, height)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    twice = tuple(min(side, 2 * wanted) for side, wanted in zip(sides, size))
    if twice != sides:
        stamp = cv2.resize(stamp, twice, interpolation=cv2.INTER_AREA)
    return cv2.resize(stamp, size, interpolation=cv2.INTER_LINEAR)


def _in_white(alpha: np.ndarray, mark: MarkParams) -> np.ndarray:
    """A stamp of white strokes from their coverage (uint8, h x w), stretched as the mark says."""
    return stretch_stamp(cv2.merge([alpha] * 4), max(alpha.shape), mark.stretch)


def logo_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """The logo at a size."""
    full_px = max(load_logo(mark.logo).shape)
    halvings = max(0, int(math.log2(full_px / long_px)))
    return stretch_stamp(load_logo(mark.logo, halvings), long_px, mark.stretch)


def text_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """The text in its font, in white, at a size; `mark.color` paints it later.

    Never smaller than MIN_FONT_PX, however long the text, before it is stretched.
    """
    probe_px = 32
    left, top, right, bottom = _text_box(mark, probe_px)
    longest = max(right - left, bottom - top, 1)
    size_px = max(MIN_FONT_PX, round(probe_px * long_px / longest))
    left, top, right, bottom = _text_box(mark, size_px)
    canvas = Image.new("L", (max(1, math.ceil(right - left)), max(1, math.ceil(bottom - top))))
    draw, font = ImageDraw.Draw(canvas), _font(mark.font, size_px)
    draw.text((-left, -top), mark.text, 255, font, spacing=size_px / 8, align="center")
    return _in_white(np.asarray(canvas), mark)


def _text_box(mark: MarkParams, size_px: int):
    draw, font = ImageDraw.Draw(Image.new("L", (1, 1))), _font(mark.font, size_px)
    # The spacing of lines: Pillow's own is 4 px whatever the size.
    return draw.textbbox((0, 0), mark.text, font, spacing=size_px / 8, align="center")


@functools.lru_cache(maxsize=512)
def _font(path: Path, size_px: int):
    return ImageFont.truetype(str(path), size_px)


def lockup_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """An icon beside or above a word, both in white: a lockup has one colour."""
    left, top, right, bottom = _text_box(mark, 32)
    width, height = max(1, right - left), max(1, bottom - top)
    icon_height, icon_width = load_logo(mark.logo).shape[:2]
    icon_px = 1.8 * height * math.sqrt(max(icon_height, icon_width) / min(icon_height, icon_width))
    if mark.stacked:  # as tall as the width of the word allows
        icon_px = min(2 * icon_px, 0.8 * width)
    zoom = icon_px / max(icon_height, icon_width)  # `icon_px` is the long side
    total = (width, 1.3 * height + zoom * icon_height) if mark.stacked else (
        width + 0.4 * height + zoom * icon_width, max(height, zoom * icon_height))  # fmt: skip
    word = text_stamp(replace(mark, stretch=1), width * long_px / max(total))
    drawn = word.shape[1] / width  # more than asked for where MIN_FONT_PX holds
    icon = logo_stamp(replace(mark, stretch=1), max(4, icon_px * drawn))
    joined = _join(icon[..., 3], word[..., 3], round(0.35 * height * drawn), mark.stacked)
    return _in_white(joined, mark)


def _join(first: np.ndarray, second: np.ndarray, gap_px: int, stacked: bool) -> np.ndarray:
    """Two planes side by side, or one above the other, on a common middle line."""
    if stacked:
        return _join(first.T, second.T, gap_px, False).T
    height = max(len(first), len(second))
    joined = np.zeros((height, first.shape[1] + gap_px + second.shape[1]), np.uint8)
    for plane, columns in ((first, slice(first.shape[1])), (second, slice(-second.shape[1], None))):
        top = (height - len(plane)) // 2
        joined[top : top + len(plane), columns] = plane
    return joined


def ai_label_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """What generators of images leave: a line of text or, without text, sparkles; in white."""
    if mark.text:
        return text_stamp(mark, long_px)
    stars = SPARKLES[mark.seed % len(SPARKLES)]
    return _in_white(draw_sparkles(max(MIN_SPARKLE_PX, long_px), stars), mark)


def draw_sparkles(long_px: float, stars: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Four-pointed stars with hollow sides, uint8, side x side, coverage 0..255.

    Args:
        stars: x, y of the middle and radius of each, fractions of the side.
    """
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    star = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    star = np.sign(star) * np.abs(star) ** 3.6  # 3 is the astroid, which looks too fat
    side = math.ceil(long_px)
    fine = np.zeros((8 * side, 8 * side), np.uint8)  # OpenCV's own antialiasing fattens the points
    for *middle, radius in stars:
        points = (radius * star + middle) * 8 * side - 0.5
        cv2.fillPoly(fine, [np.rint(points).astype(np.int32)], 255)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)


def signature_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """A handwritten name in white, never smaller than MIN_SIGNATURE_PX."""
    return _in_white(draw_signature(mark.seed, max(MIN_SIGNATURE_PX, long_px)), mark)


def squares_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """A row of squares in bright colours, as some generators of images leave in a corner."""
    rng = Random(mark.seed)
    count = rng.randint(3, 6)
    colors = [[rng.choice((0, 90, 170, 255)) for _ in range(3)] + [255] for _ in range(count)]
    side = max(MIN_SQUARE_PX, round(long_px / count))
    return np.repeat(np.repeat(np.uint8([colors]), side, axis=0), side, axis=1)


MARKS = {
    "logo": logo_stamp, "text": text_stamp, "lockup": lockup_stamp, "signature": signature_stamp,
    "ai_label": ai_label_stamp, "squares": squares_stamp,
    "date_id": text_stamp,  # the date of a camera, the number of a file
}  # fmt: skip


def paint(stamp: np.ndarray, mark: MarkParams) -> np.ndarray:
    """The stamp in the mark's colour; text has no original colour and stays white."""
    if mark.color == "original":
        return stamp
    if mark.color == "desaturated":
        return cv2.merge([cv2.cvtColor(stamp, cv2.COLOR_RGBA2GRAY)] * 3 + [stamp[..., 3]])
    rgb = {"white": (255, 255, 255), "black": (0, 0, 0)}.get(mark.color, mark.tint)
    return tinted(stamp[..., 3], rgb)


def tinted(alpha: np.ndarray, rgb: Sequence[float]) -> np.ndarray:
    """A stamp of one colour, levels 0..255, from its coverage (uint8, h x w)."""
    planes = [np.rint(alpha * (level / 255)).astype(np.uint8) for level in rgb]
    return cv2.merge([*planes, alpha])


# --- Effects: pure functions, stamp to stamp ---------------------------------------------------


def _pad(stamp: np.ndarray, pixels: int, color=(0, 0, 0, 0)) -> np.ndarray:
    return cv2.copyMakeBorder(stamp, *[pixels] * 4, cv2.BORDER_CONSTANT, value=color)


def over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Premultiplied "over": top + bottom * (1 - top alpha)."""
    rest = cv2.merge([255 - top[..., 3]] * 4)
    return cv2.add(top, cv2.multiply(bottom, rest, scale=1 / 255))


def mean_rgb(stamp: np.ndarray) -> tuple[float, ...]:
    """Mean colour of the stamp's strokes, 0..255."""
    *color, alpha = cv2.mean(stamp)
    return tuple(255 * level / max(alpha, 1e-6) for level in color)


def in_opposite(stamp: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The coverage `alpha` in white for a stamp whose strokes are dark on average, else black."""
    level = 255 if np.dot(LUMA, mean_rgb(stamp)) < 128 else 0
    return tinted(alpha, [level] * 3)


def _stroke_px(stamp: np.ndarray) -> int:
    """A width for outlines and shadows that suits the stamp's size."""
    return max(1, round(0.03 * min(stamp.shape[:2])))


def outline(stamp: np.ndarray) -> np.ndarray:
    """A rim of the opposite brightness round the mark."""
    width = _stroke_px(stamp)
    stamp = _pad(stamp, width)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    alpha = cv2.dilate(stamp[..., 3], kernel)
    return over(stamp, in_opposite(stamp, alpha))


def shadow(stamp: np.ndarray) -> np.ndarray:
    """A soft black shadow to the lower right, half as strong as the mark."""
    shift = 2 * _stroke_px(stamp)
    stamp = _pad(stamp, 2 * shift)
    move = np.float32([[1, 0, shift], [0, 1, shift]])
    alpha = cv2.warpAffine(stamp[..., 3], move, stamp.shape[1::-1])
    alpha = cv2.GaussianBlur(alpha, (0, 0), max(0.6, shift / 2)) // 2
    black = np.zeros_like(alpha)
    return over(stamp, cv2.merge([black, black, black, alpha]))


def emboss(stamp: np.ndarray) -> np.ndarray:
    """Light from the upper left: edges that face it brighten, the others darken."""
    width = _stroke_px(stamp)
    alpha = stamp[..., 3].astype(np.float32)
    move = [np.float32([[1, 0, s], [0, 1, s]]) for s in (width, -width)]
    lit, dark = (cv2.warpAffine(alpha, m, stamp.shape[1::-1]) for m in move)
    relief = cv2.GaussianBlur(dark - lit, (0, 0), width)
    color = cv2.addWeighted(stamp[..., :3].astype(np.float32), 1, cv2.merge([relief] * 3), 0.7, 0)
    color = cv2.min(cv2.max(color, 0), cv2.merge([alpha] * 3))  # premultiplied: never above alpha
    return np.dstack([color, alpha]).astype(np.uint8)


def hollow(stamp: np.ndarray) -> np.ndarray:
    """Only the contours, in the mark's own colours; strokes too thin for that stay whole."""
    width = _stroke_px(stamp)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    core = cv2.erode(stamp[..., 3], kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return cv2.multiply(stamp, cv2.merge([255 - core] * 4), scale=1 / 255)


def plate(stamp: np.ndarray) -> np.ndarray:
    """On a plate of the opposite brightness that lets more of the photo through than the mark."""
    stamp = _pad(stamp, max(2, round(0.2 * min(stamp.shape[:2]))))
    alpha = np.full(stamp.shape[:2], PLATE_ALPHA, np.uint8)
    return over(stamp, in_opposite(stamp, alpha))


def border(stamp: np.ndarray) -> np.ndarray:
    """In a box of lines in its mean colour, as a rubber stamp prints it."""
    width = 2 * _stroke_px(stamp)
    color = [*mean_rgb(stamp), 255]
    return _pad(_pad(stamp, 3 * width), width, color)


EFFECTS = {
    "none": lambda stamp: stamp, "outline": outline, "shadow": shadow, "emboss": emboss,
    "hollow": hollow, "plate": plate, "border": border,
}  # fmt: skip
