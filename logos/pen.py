"""Pen for the training logos: points, lines, lettering, and the final reduction.

A drawing is made hard-edged at SCALE times its size, then area-averaged with premultiplied alpha,
so that edges are smooth and carry no dark or bright fringe. Letters come from the free fonts
inside matplotlib, which is located but not imported. MIT licence, as the repository.
"""

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 4  # drawn pixels per unit of length
HALF = 320  # the canvas spans -HALF..HALF units in x and in y
CUT = (0, 0, 0, 0)  # the colour that erases: holes and gaps


def load_font(name, size):
    """Return a font of matplotlib's, `size` units high, at drawing scale."""
    package = Path(importlib.util.find_spec("matplotlib").origin).parent
    path = package / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), round(size * SCALE), layout_engine=ImageFont.Layout.BASIC)


def glyph_offsets(text, font, tracking):
    """Return the middle of each glyph along the baseline, 0 at the middle of the text, units."""
    width = np.array([font.getlength(letter) for letter in text])
    pair = np.array([font.getlength(a + b) for a, b in pairwise(text)])
    kerning = pair - width[:-1] - width[1:]
    left = np.concatenate([[0], np.cumsum(width[:-1] + kerning + tracking * SCALE)])
    return (left + width / 2 - (left[-1] + width[-1]) / 2) / SCALE


def polar(deg, radius, x=0, y=0):
    """Return the points, N x 2, at clock angles `deg` (0 up, 90 right) around (x, y)."""
    angle = np.radians(np.atleast_1d(deg))
    return np.stack([x + radius * np.sin(angle), y - radius * np.cos(angle)], axis=-1)


def arc(start, stop, radius, x=0, y=0):
    """Return points, N x 2, from clock angle `start` to `stop`, degrees, around (x, y)."""
    return polar(np.linspace(start, stop, 121), radius, x, y)


def turned(points, deg):
    """Return `points` (x, y) turned clockwise by `deg` around the origin."""
    cos, sin = np.cos(np.radians(deg)), np.sin(np.radians(deg))
    return np.asarray(points, float) @ np.array([[cos, sin], [-sin, cos]])


def curve(points, steps=24):
    """Return a smooth line, N x 2, through `points` (Catmull-Rom spline)."""
    p = np.pad(np.asarray(points, float), ((1, 1), (0, 0)), mode="edge")
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:]):
        bend, twist = a - 2.5 * b + 2 * c - d / 2, 1.5 * (b - c) + (d - a) / 2
        pieces.append(b + t * (c - a) / 2 + t**2 * bend + t**3 * twist)
    return np.concatenate([*pieces, p[-1:]])


class Canvas:
    """A transparent drawing: origin in the middle, x right, y down, lengths in units."""

    def __init__(self):
        self.image = Image.new("RGBA", (2 * HALF * SCALE, 2 * HALF * SCALE))
        self.draw = ImageDraw.Draw(self.image)

    def fill(self, points, colour):
        """Fill the polygon with corners `points`."""
        self.draw.polygon([tuple(p) for p in (np.asarray(points) + HALF) * SCALE], fill=colour)

    def line(self, points, width, colour):
        """Draw a round-ended line; `width` is one number or one per point."""
        points = np.asarray(points, float)
        for (x, y), w in zip(points, np.broadcast_to(width, len(points))):
            self.disc(x, y, w / 2, colour)
        for a, b, w in zip(points, points[1:], np.broadcast_to(width, len(points))):
            across = (b - a)[::-1] * (1, -1) / max(np.hypot(*(b - a)), 1e-9) * w / 2
            self.fill([a + across, b + across, b - across, a - across], colour)

    def disc(self, x, y, radius, colour):
        """Fill a circle."""
        box = (np.array([x - radius, y - radius, x + radius, y + radius]) + HALF) * SCALE
        self.draw.ellipse(tuple(box), fill=colour)

    def ring(self, x, y, radius, width, colour):
        """Draw a circle line, `width` wide, centred on `radius`."""
        outer = radius + width / 2
        box = (np.array([x - outer, y - outer, x + outer, y + outer]) + HALF) * SCALE
        self.draw.ellipse(tuple(box), outline=colour, width=round(width * SCALE))

    def frame(self, left, top, right, bottom, radius, colour, width=0):
        """Draw a rounded rectangle: its outline, `width` wide, or filled where width is 0."""
        box = tuple((np.array([left, top, right, bottom]) + HALF) * SCALE)
        paint = {"outline": colour, "width": round(width * SCALE)} if width else {"fill": colour}
        self.draw.rounded_rectangle(box, radius * SCALE, **paint)

    def glyph(self, letter, x, y, font, colour, deg=0, stroke=0):
        """Draw one letter, the middle of its baseline at (x, y), turned clockwise by `deg`."""
        half = round(font.size * 1.5)
        tile = Image.new("L", (2 * half, 2 * half))
        pen = ImageDraw.Draw(tile)
        pen.text((half, half), letter, 255, font, "ms", stroke_width=round(stroke * SCALE))
        tile = tile.rotate(-deg, Image.Resampling.BICUBIC).point(lambda value: 255 * (value > 127))
        corner = [round((v + HALF) * SCALE) - half for v in (x, y)]
        self.image.paste(colour, (*corner, corner[0] + 2 * half, corner[1] + 2 * half), tile)

    def text(self, text, x, y, name, size, colour, tracking=0, stroke=0):
        """Write a line of text, the middle of its baseline at (x, y)."""
        font = load_font(name, size)
        for letter, offset in zip(text, glyph_offsets(text, font, tracking)):
            self.glyph(letter, x + offset, y, font, colour, stroke=stroke)

    def ring_text(self, text, radius, name, size, colour, tracking=0, below=False):
        """Write around the origin: over the top, or along the bottom (`below`) and upright."""
        font = load_font(name, size)
        for letter, offset in zip(text, glyph_offsets(text, font, tracking)):
            deg = np.degrees(offset / radius)
            (point,) = polar(180 - deg if below else deg, radius)
            self.glyph(letter, *point, font, colour, -deg if below else deg)

    def shade(self, start, stop, deg):
        """Recolour the drawing with a gradient of two RGB colours towards clock angle `deg`."""
        (left, top, right, bottom) = self.image.getbbox()
        pixels = np.array(self.image)
        y, x = np.mgrid[0 : bottom - top, 0 : right - left]
        along = x * np.sin(np.radians(deg)) - y * np.cos(np.radians(deg))
        share = ((along - along.min()) / np.ptp(along))[..., None]
        colours = np.array(start) * (1 - share) + np.array(stop) * share
        pixels[top:bottom, left:right, :3] = colours.round()
        self.image = Image.fromarray(pixels)
        self.draw = ImageDraw.Draw(self.image)


def shrink(image):
    """Return the drawing cropped to its content and area-averaged to its final size.

    The long side becomes 512 px for a mark twice as long as broad, else 400 px.
    """
    image = image.crop(image.getbbox())
    long, short = max(image.size), min(image.size)
    scale = (512 if long > 2 * short else 400) / long
    size = [round(side * scale) for side in image.size]
    rgba = np.asarray(image, np.float32)  # H x W x 4, 0..255, straight alpha
    weight = rgba[..., 3:] / 255
    layers = [*np.moveaxis(rgba[..., :3] * weight, 2, 0), weight[..., 0]]
    small = [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX)) for one in layers]
    colour = np.stack(small[:3], axis=-1) / np.maximum(small[3], 1e-6)[..., None]
    return Image.fromarray(
        np.dstack([colour, 255 * small[3]]).round().clip(0, 255).astype(np.uint8)
    )
