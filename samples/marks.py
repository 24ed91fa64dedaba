"""Draws watermarks, paints them and gives them effects.

A kind of mark is a function of a `MarkParams` and a length in pixels. It gives a stamp: one copy of
the mark on a transparent background, uint8, h x w x 4, RGB premultiplied with alpha. An effect is a
function from stamp to stamp. Nothing here is random: `drawing.draw_mark` draws the `MarkParams`.
To add a kind or an effect, see `dataset.py`.
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

MAX_LOGO_PX = 512  # greatest longer side of logos in memory
MIN_FONT_PX = 10  # in a smaller font, strokes cover less than half a pixel
LOGO_KINDS = ("logo", "lockup")  # kinds that need a logo file
MIN_SIGNATURE_PX = 40  # least longer side of a signature; in a smaller one, the loops close
MIN_SPARKLE_PX = 10  # least side of a stamp of sparkles
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue: ITU-R BT.601
PLATE_ALPHA = 150  # above half of 255, so the plate belongs to the mask; see `honest_mask`
SPARKLES = (  # (x, y, radius) / side of the stamp; a single sparkle, the most common, is here twice
    ((0.5, 0.5, 0.5),), ((0.5, 0.5, 0.5),), ((0.42, 0.58, 0.42), (0.82, 0.18, 0.18)),
    ((0.4, 0.5, 0.4), (0.82, 0.2, 0.18), (0.8, 0.82, 0.15)),
)  # fmt: skip
SEEDED_KINDS = ("signature", "ai_label", "squares")  # kinds that `MarkParams.seed` shapes
COLORS = ("original", "desaturated", "white", "black", "grey", "tint", "warm")
MIN_SQUARE_PX = 3  # side of each square of a row


@dataclass(frozen=True)
class MarkParams:
    """All random numbers of one mark."""

    kind: str
    logo: Path | None  # only for the kinds in LOGO_KINDS
    font: Path | None  # only for the kinds in text.WORDS
    text: str  # empty for the other kinds
    layout: str
    color: str
    tint: tuple[int, int, int]  # RGB, for the colours "grey", "tint" and "warm"
    effect: str
    blend_mode: str
    opacity: float
    scale: float
    stretch: float
    rotation_deg: float
    center: tuple[float, float]  # (x, y), fractions of the image; how it is used depends on layout
    gap: float
    seed: int = 0  # only for the kinds in SEEDED_KINDS
    stacked: bool = False  # of a lockup: the logo is above the word, not beside it


def check_logo(image: Image.Image) -> None:
    """Raises ValueError if an image cannot be a logo: it is fully opaque or fully transparent."""
    low, high = image.convert("RGBA").getchannel("A").getextrema()
    if low == 255:
        raise ValueError(
            "has no transparency: a mark needs a transparent background, "
            "so remove it in an image editor and save as PNG or WebP with alpha"
        )
    if high == 0:
        raise ValueError("is transparent all over: nothing would be drawn")


def load_logo(path: Path, halvings: int = 0) -> np.ndarray:
    """A logo file as a stamp, cropped to its content, with sides of at most MAX_LOGO_PX.

    The greatest alpha becomes 255, because the settings decide the opacity. `halvings` says how
    often the stamp is then reduced to half its size. Results are cached until the file changes.
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
    """The stamp with its longer side at `long_px` and its width / height multiplied by `stretch`.

    Bilinear interpolation does not overshoot, but it aliases when it shrinks a side to less than
    half. Such a side is first averaged to twice its new length.
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
    """A white stamp of this coverage (uint8, h x w), stretched by `mark.stretch`."""
    return stretch_stamp(cv2.merge([alpha] * 4), max(alpha.shape), mark.stretch)


def logo_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """The logo, `long_px` long."""
    full_px = max(load_logo(mark.logo).shape)
    halvings = max(0, int(math.log2(full_px / long_px)))
    return stretch_stamp(load_logo(mark.logo, halvings), long_px, mark.stretch)


def text_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """The text in white, `long_px` long, or longer if the font would be below MIN_FONT_PX."""
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
    # Pillow's default spacing of lines is 4 px at every font size.
    return draw.textbbox((0, 0), mark.text, font, spacing=size_px / 8, align="center")


@functools.lru_cache(maxsize=512)
def _font(path: Path, size_px: int):
    return ImageFont.truetype(str(path), size_px)


def lockup_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """The logo beside or above a word, both in white, so that `paint` gives both one colour."""
    left, top, right, bottom = _text_box(mark, 32)
    width, height = max(1, right - left), max(1, bottom - top)
    icon_height, icon_width = load_logo(mark.logo).shape[:2]
    icon_px = 1.8 * height * math.sqrt(max(icon_height, icon_width) / min(icon_height, icon_width))
    if mark.stacked:  # larger, but narrower than the word
        icon_px = min(2 * icon_px, 0.8 * width)
    zoom = icon_px / max(icon_height, icon_width)
    total = (width, 1.3 * height + zoom * icon_height) if mark.stacked else (
        width + 0.4 * height + zoom * icon_width, max(height, zoom * icon_height))  # fmt: skip
    word = text_stamp(replace(mark, stretch=1), width * long_px / max(total))
    drawn = word.shape[1] / width  # MIN_FONT_PX can make the word larger than requested
    icon = logo_stamp(replace(mark, stretch=1), max(4, icon_px * drawn))
    joined = _join(icon[..., 3], word[..., 3], round(0.35 * height * drawn), mark.stacked)
    return _in_white(joined, mark)


def _join(first: np.ndarray, second: np.ndarray, gap_px: int, stacked: bool) -> np.ndarray:
    """Two planes side by side, or one above the other, centred on each other."""
    if stacked:
        return _join(first.T, second.T, gap_px, False).T
    height = max(len(first), len(second))
    joined = np.zeros((height, first.shape[1] + gap_px + second.shape[1]), np.uint8)
    for plane, columns in ((first, slice(first.shape[1])), (second, slice(-second.shape[1], None))):
        top = (height - len(plane)) // 2
        joined[top : top + len(plane), columns] = plane
    return joined


def ai_label_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """The label of an image generator in white: the text, or sparkles if the text is empty."""
    if mark.text:
        return text_stamp(mark, long_px)
    stars = SPARKLES[mark.seed % len(SPARKLES)]
    return _in_white(draw_sparkles(max(MIN_SPARKLE_PX, long_px), stars), mark)


def draw_sparkles(long_px: float, stars: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Four-pointed stars with concave sides: coverage, uint8, side x side.

    Args:
        stars: (x, y, radius) of each star, fractions of the side.
    """
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    star = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    star = np.sign(star) * np.abs(star) ** 3.6  # 3 would give the astroid, which is too thick
    side = math.ceil(long_px)
    fine = np.zeros((8 * side, 8 * side), np.uint8)  # antialiasing of OpenCV thickens the tips
    for *middle, radius in stars:
        points = (radius * star + middle) * 8 * side - 0.5
        cv2.fillPoly(fine, [np.rint(points).astype(np.int32)], 255)
    return cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)


def signature_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """A handwritten name in white, at least MIN_SIGNATURE_PX long."""
    return _in_white(draw_signature(mark.seed, max(MIN_SIGNATURE_PX, long_px)), mark)


def squares_stamp(mark: MarkParams, long_px: float) -> np.ndarray:
    """A row of squares in bright colours, as some image generators draw in a corner."""
    rng = Random(mark.seed)
    count = rng.randint(3, 6)
    colors = [[rng.choice((0, 90, 170, 255)) for _ in range(3)] + [255] for _ in range(count)]
    side = max(MIN_SQUARE_PX, round(long_px / count))
    return np.repeat(np.repeat(np.uint8([colors]), side, axis=0), side, axis=1)


MARKS = {
    "logo": logo_stamp, "text": text_stamp, "lockup": lockup_stamp, "signature": signature_stamp,
    "ai_label": ai_label_stamp, "squares": squares_stamp,
    "date_id": text_stamp,  # a date or a file number
}  # fmt: skip


def paint(stamp: np.ndarray, mark: MarkParams) -> np.ndarray:
    """The stamp in `mark.color`. The original colour of a text is white."""
    if mark.color == "original":
        return stamp
    if mark.color == "desaturated":
        return cv2.merge([cv2.cvtColor(stamp, cv2.COLOR_RGBA2GRAY)] * 3 + [stamp[..., 3]])
    rgb = {"white": (255, 255, 255), "black": (0, 0, 0)}.get(mark.color, mark.tint)
    return tinted(stamp[..., 3], rgb)


def tinted(alpha: np.ndarray, rgb: Sequence[float]) -> np.ndarray:
    """A stamp of one colour (0..255) from its coverage (uint8, h x w)."""
    planes = [np.rint(alpha * (level / 255)).astype(np.uint8) for level in rgb]
    return cv2.merge([*planes, alpha])


# --- Effects -----------------------------------------------------------------------------------


def _pad(stamp: np.ndarray, pixels: int, color=(0, 0, 0, 0)) -> np.ndarray:
    return cv2.copyMakeBorder(stamp, *[pixels] * 4, cv2.BORDER_CONSTANT, value=color)


def over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """One stamp over another of the same size: top + bottom * (1 - alpha of top)."""
    rest = cv2.merge([255 - top[..., 3]] * 4)
    return cv2.add(top, cv2.multiply(bottom, rest, scale=1 / 255))


def mean_rgb(stamp: np.ndarray) -> tuple[float, ...]:
    """Mean colour of a stamp, weighted by alpha, 0..255."""
    *color, alpha = cv2.mean(stamp)
    return tuple(255 * level / max(alpha, 1e-6) for level in color)


def in_opposite(stamp: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """A stamp of the coverage `alpha`: white if `stamp` is dark on average, or else black."""
    level = 255 if np.dot(LUMA, mean_rgb(stamp)) < 128 else 0
    return tinted(alpha, [level] * 3)


def _stroke_px(stamp: np.ndarray) -> int:
    """Width of outlines and shadows for a stamp of this size."""
    return max(1, round(0.03 * min(stamp.shape[:2])))


def outline(stamp: np.ndarray) -> np.ndarray:
    """Adds an outline in black or white, whichever contrasts with the mark."""
    width = _stroke_px(stamp)
    stamp = _pad(stamp, width)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    alpha = cv2.dilate(stamp[..., 3], kernel)
    return over(stamp, in_opposite(stamp, alpha))


def shadow(stamp: np.ndarray) -> np.ndarray:
    """Adds a soft black shadow at the lower right, half as strong as the mark."""
    shift = 2 * _stroke_px(stamp)
    stamp = _pad(stamp, 2 * shift)
    move = np.float32([[1, 0, shift], [0, 1, shift]])
    alpha = cv2.warpAffine(stamp[..., 3], move, stamp.shape[1::-1])
    alpha = cv2.GaussianBlur(alpha, (0, 0), max(0.6, shift / 2)) // 2
    black = np.zeros_like(alpha)
    return over(stamp, cv2.merge([black, black, black, alpha]))


def emboss(stamp: np.ndarray) -> np.ndarray:
    """Brightens edges that face the upper left and darkens those that face the lower right."""
    width = _stroke_px(stamp)
    alpha = stamp[..., 3].astype(np.float32)
    move = [np.float32([[1, 0, s], [0, 1, s]]) for s in (width, -width)]
    lit, dark = (cv2.warpAffine(alpha, m, stamp.shape[1::-1]) for m in move)
    relief = cv2.GaussianBlur(dark - lit, (0, 0), width)
    color = cv2.addWeighted(stamp[..., :3].astype(np.float32), 1, cv2.merge([relief] * 3), 0.7, 0)
    color = cv2.min(cv2.max(color, 0), cv2.merge([alpha] * 3))  # premultiplied: at most alpha
    return np.dstack([color, alpha]).astype(np.uint8)


def hollow(stamp: np.ndarray) -> np.ndarray:
    """Keeps only the contours. Thin strokes stay whole."""
    width = _stroke_px(stamp)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    core = cv2.erode(stamp[..., 3], kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return cv2.multiply(stamp, cv2.merge([255 - core] * 4), scale=1 / 255)


def plate(stamp: np.ndarray) -> np.ndarray:
    """Adds a translucent plate in black or white, whichever contrasts with the mark."""
    stamp = _pad(stamp, max(2, round(0.2 * min(stamp.shape[:2]))))
    alpha = np.full(stamp.shape[:2], PLATE_ALPHA, np.uint8)
    return over(stamp, in_opposite(stamp, alpha))


def border(stamp: np.ndarray) -> np.ndarray:
    """Adds a rectangle around the mark, in its mean colour, as on a rubber stamp."""
    width = 2 * _stroke_px(stamp)
    color = [*mean_rgb(stamp), 255]
    return _pad(_pad(stamp, 3 * width), width, color)


EFFECTS = {
    "none": lambda stamp: stamp, "outline": outline, "shadow": shadow, "emboss": emboss,
    "hollow": hollow, "plate": plate, "border": border,
}  # fmt: skip
