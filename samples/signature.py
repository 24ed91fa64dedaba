"""Draws a handwritten name: loops like letters, often with an underline.

The result depends only on the seed and the size. Until `draw_signature` scales them to pixels,
lengths are in heights of a small letter, and y points up.
"""

import itertools
from random import Random

import cv2
import numpy as np

SHAPES = (  # control points of one letter in a box of 1 x 1, from left to right
    ((0.5, 0.4), (0.8, 0.85), (0.5, 1.05), (0.25, 0.5), (0.5, 0), (1, 0.15)),  # e, l
    ((0.1, 0.9), (0.2, 0.05), (0.5, 0.85), (0.75, 0.8), (0.75, 0.05), (1, 0.15)),  # n, h
    ((0.75, 0.9), (0.3, 0.95), (0.1, 0.4), (0.4, 0), (0.75, 0.7), (0.8, 0.05), (1, 0.15)),  # a, d
    ((0.2, 0.9), (0.2, 0.1), (0.5, 0.05), (0.7, 0.9), (0.75, 0.1), (1, 0.15)),  # u, t
    ((0.2, 0.85), (0.4, 0.2), (0.75, 0.9), (0.6, -0.9), (0.3, -0.9), (0.5, -0.1), (1, 0.2)),  # y, g
)
STEPS = 5  # straight segments between two control points
PEN_WIDTHS = (0.06, 0.15)  # range of the width of the pen
MIN_PEN_PX = 1.5
SUBPIXELS = 4  # for antialiasing: draw at this many times the size, then shrink


def _word(rng: Random, x: float) -> list[tuple[float, float]]:
    """Control points of a capital and some letters. They start at (x, 0) and become flatter."""
    points, n_letters = [(x - 0.3, rng.uniform(0.2, 1.2)), (x, 0.1)], rng.randint(3, 7)
    for number in range(n_letters):
        height = rng.uniform(1.9, 2.8) if number == 0 else rng.choice((1, 1, 1, 1.9))
        height *= rng.uniform(0.7, 1.1) * (1 - 0.5 * number / n_letters)
        width = rng.uniform(0.6, 1.0) * (1.7 if number == 0 else 1)
        for across, up in rng.choice(SHAPES):
            jitter = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08)
            points.append((x + width * (across + jitter[0]), height * (up + jitter[1])))
        x += width
    return points


def draw_points(seed: int) -> list[np.ndarray]:
    """Control points of each stroke, float64, n x 2, (x, y) with y upwards."""
    rng = Random(seed)
    strokes = [_word(rng, 0)]
    if rng.random() < 0.5:
        strokes.append(_word(rng, strokes[0][-1][0] + rng.uniform(0.4, 1.2)))
    end = strokes[-1][-1][0]
    if rng.random() < 0.6:  # an underline: back below the name, then to the right
        low = rng.uniform(-1.0, -0.6)
        strokes[-1] += [(end + 0.8, 0.5), (end + 0.9, -0.2), (end / 2, low), (end / 6, low - 0.1),
                        (end / 4, low - 0.3), (end * rng.uniform(0.8, 1.2), low + 0.2)]  # fmt: skip
    slant, rise = rng.uniform(0, 0.5), rng.uniform(0, 0.12)
    shear = np.array([[1, slant], [rise, 1]])
    return [np.array(stroke) @ shear.T for stroke in strokes]


def smooth(points: np.ndarray) -> np.ndarray:
    """A Catmull-Rom curve through points, n x 2, with STEPS segments between two points."""
    before, start, end, after = (
        np.concatenate([points[:1], points, points[-1:]])[i : len(points) - 1 + i, None]
        for i in range(4)
    )
    t = np.linspace(0, 1, STEPS, endpoint=False)[None, :, None]
    curve = (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([curve.reshape(-1, 2) / 2, points[-1:]])


def _pen_widths(curve: np.ndarray) -> np.ndarray:
    """Pen width of each segment, about 0.4..1.4: wide where the pen goes down, thin at the ends."""
    steps = np.diff(curve, axis=0)
    down = np.maximum(0, -steps[:, 1] / np.maximum(np.hypot(*steps.T), 1e-9))
    even = np.convolve(np.pad(down, 3, "edge"), np.full(7, 1 / 7), "valid")
    to_end = np.minimum(np.arange(len(even)), np.arange(len(even))[::-1])
    return (0.7 + 0.7 * even) * np.minimum(1, 0.6 + 0.06 * to_end)


def draw_signature(seed: int, long_px: float) -> np.ndarray:
    """Coverage of the signature of a seed, about `long_px` long: uint8, h x w."""
    curves = [smooth(points) * (1, -1) for points in draw_points(seed)]
    low, high = (way(np.concatenate(curves), axis=0) for way in (np.min, np.max))
    zoom = SUBPIXELS * long_px / max(high - low)
    pen_px = max(MIN_PEN_PX * SUBPIXELS, zoom * Random(~seed).uniform(*PEN_WIDTHS))
    margin = int(pen_px)
    width, height = np.ceil(((high - low) * zoom + 2 * margin) / SUBPIXELS).astype(int)
    canvas = np.zeros((SUBPIXELS * height, SUBPIXELS * width), np.uint8)
    for curve in curves:
        points = np.rint((curve - low) * zoom + margin).astype(np.int32)
        pens = 2 * np.maximum(1, np.rint(pen_px / 2 * _pen_widths(curve))).astype(int)
        starts = [0, *(np.flatnonzero(np.diff(pens)) + 1), len(pens)]
        for start, end in itertools.pairwise(starts):  # runs of segments of the same width
            cv2.polylines(canvas, [points[start : end + 1]], False, 255, int(pens[start]))
    return cv2.resize(canvas, (int(width), int(height)), interpolation=cv2.INTER_AREA)
