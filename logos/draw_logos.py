"""Draw the training logos of this folder: invented marks, one RGBA PNG each.

Run `python logos/draw_logos.py` to rewrite every PNG beside this file; the same Pillow version
writes the same bytes. A new logo is one `draw_*` function and one entry in LOGOS. Lengths and
positions are units around the middle of the canvas, x right, y down; see pen.py.

All names are made up. Drawings and code: MIT licence, as the repository.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from pen import CUT, Canvas, arc, curve, polar, shrink, turned
from PIL import Image

WHITE, BLACK, GREY = "#ffffff", "#111111", "#aab0b6"
SANS, BOLD, SLANTED = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-BoldOblique"
SERIF, SERIF_BOLD = "STIXGeneral", "STIXGeneralBol"
ROMAN, LIGHT = "cmr10", "cmss10"


def draw_aperture(c):
    """Six iris blades around a hexagonal hole, in a ring."""
    c.disc(0, 0, 182, BLACK)
    hexagon = polar(np.arange(10, 371, 60), 76)
    for a, b in pairwise(hexagon):
        c.line([a, a + 3 * (b - a)], 9, CUT)
    c.fill(hexagon, CUT)
    c.ring(0, 0, 206, 15, BLACK)


def draw_summit(c):
    """Two peaks with a snow line over a wordmark."""
    c.fill([(-215, 60), (-55, -165), (35, -35), (80, -92), (215, 60)], WHITE)
    c.line([(-130, -70), (-92, -48), (-66, -82), (-44, -42), (-20, -72), (22, -48)], 9, CUT)
    c.line([(35, -35), (-20, 60)], 9, CUT)
    c.text("HALVENRIDGE", 0, 122, SANS, 46, WHITE, tracking=10)
    c.text("ALPINE IMAGERY", 0, 160, SANS, 19, WHITE, tracking=13)


def draw_leaf(c):
    """A veined leaf beside a lower-case wordmark."""
    along = np.linspace(0, 1, 60)
    side = np.stack([150 * along - 75, 44 * np.sin(np.pi * along**0.8)], axis=-1)
    strokes = [([(-75, 0), (52, 0)], 4)]
    strokes += [([(x + 24, -24), (x, 0), (x + 24, 24)], 3.5) for x in (-40, -12, 16)]
    place = np.array([-225, 0])
    c.fill(turned(np.concatenate([side, side[::-1] * (1, -1)]), -52) + place, "#2f8f4e")
    c.line(turned([(-102, 0), (-70, 0)], -52) + place, 6, "#2f8f4e")
    for points, width in strokes:
        c.line(turned(points, -52) + place, width, CUT)
    c.text("verdalune", 58, 28, SANS, 82, "#24573a")


def draw_sun(c):
    """A sun with rays, setting behind stripes of water."""
    c.disc(0, 0, 112, "#f28c1e")
    for deg in range(-90, 91, 18):
        c.line([*polar(deg, 140), *polar(deg, 196 if deg % 36 else 178)], [15, 6], "#f28c1e")
    for y, width in ((20, 9), (46, 12), (74, 15)):
        c.frame(-150, y, 150, y + width, 0, CUT)


def draw_camera(c):
    """A camera in thin lines."""
    c.frame(-200, -110, 200, 140, 26, WHITE, 6)
    c.line([(-92, -110), (-64, -152), (64, -152), (92, -110)], 6, WHITE)
    c.line([(-168, -118), (-168, -130), (-122, -130), (-122, -118)], 6, WHITE)
    c.ring(0, 18, 88, 6, WHITE)
    c.ring(0, 18, 58, 3.5, WHITE)
    c.line(arc(285, 345, 38, 0, 18), 5, WHITE)
    for start, stop in ((-197, -105), (105, 197)):
        c.line([(start, -62), (stop, -62)], 3.5, WHITE)
    c.disc(152, -86, 9, WHITE)


def draw_wave(c):
    """Three blue waves and a sun in a round window."""
    x = np.linspace(-240, 240, 200)
    c.disc(62, -78, 40, "#f6b93b")
    for row, colour in enumerate(("#7fc8e8", "#2f8fc4", "#14507f")):
        crest = -25 + 68 * row - 24 * np.sin(x / 46 + 2.1 * row)
        top = np.stack([x, crest], axis=-1)
        c.fill([(-240, 240), *top, (240, 240)], colour)
        c.line(top, 11, CUT)
    c.ring(0, 0, 185 + 130, 260, CUT)
    c.ring(0, 0, 200, 11, "#14507f")


def draw_compass(c):
    """A wind rose, half of each point hollow, in a graduated ring."""
    navy = "#1c2b4a"
    c.ring(0, 0, 212, 8, navy)
    c.ring(0, 0, 176, 2.5, navy)
    for deg in range(0, 360, 6):
        c.line([*polar(deg, 198 if deg % 30 else 186), *polar(deg, 206)], 3, navy)
    for deg in (45, 135, 225, 315, 0, 90, 180, 270):
        length, root = (96, 40) if deg % 90 else (166, 34)
        left, tip, right = polar([deg - 45, deg, deg + 45], [root, length, root])
        c.fill([(0, 0), left, tip, right], CUT)
        c.fill([(0, 0), left, tip], navy)
        c.line([(0, 0), tip, right, (0, 0)], 3, navy)
    c.disc(0, 0, 9, WHITE)


def draw_feather(c):
    """A quill, its vane engraved with fine barbs."""
    spine = curve([(-215, 120), (-110, 52), (20, -28), (130, -108), (205, -190)], 40)
    ahead = np.gradient(spine, axis=0)
    across = ahead[:, ::-1] * (1, -1) / np.hypot(*ahead.T)[:, None]
    t = np.linspace(0, 1, len(spine))[:, None]
    breadth = 56 * np.sin(np.pi * (t - 0.2).clip(0) ** 0.8 / 0.84) ** 0.6
    c.fill([*(spine + across * breadth), *(spine - across * breadth * 0.8)[::-1]], "#3c3f45")
    for i in range(36, len(spine) - 14, 4):
        for side in (1, -0.8):
            edge = spine[i + 12] + across[i + 12] * breadth[i + 12] * side
            c.line([spine[i], edge + (edge - spine[i]) * 0.1], 1.6, CUT)
    c.line(spine, np.linspace(13, 5, len(spine)), CUT)
    c.line(spine, np.linspace(7, 2, len(spine)), "#3c3f45")


def draw_bird(c):
    """A wren of discs and wedges in four flat colours."""
    c.fill([(-128, -150), (-178, -112), (-60, 40), (0, -10)], "#8c5a3c")
    c.fill([*arc(90, 270, 120, 20, -10), (62, -92), (140, -48)], "#d98e4a")
    c.disc(92, -48, 54, "#d98e4a")
    c.fill([(138, -70), (200, -44), (138, -26)], "#f2c14e")
    c.fill(arc(102, 282, 74, 2, -4), "#5b3a29")
    c.disc(108, -60, 9, CUT)
    for x in (4, 44):
        c.line([(x, 104), (x, 160), (x + 24, 160)], 7, "#5b3a29")


def draw_tree(c, root=(0, 190), deg=0.0, length=104.0, depth=6):
    """A branching tree with a leaf on every twig."""
    (tip,) = polar(deg, length, *root)
    c.line(np.linspace(root, tip, 20), np.linspace(length / 4.2, length / 5.4, 20), "#2c4a36")
    if depth == 0:
        c.disc(*tip, 11, "#6a994e" if deg < 20 else "#8fb369")
        return
    for turn, share in ((-29, 0.80), (23, 0.78)):
        draw_tree(c, tuple(tip), deg + turn, length * share, depth - 1)


def draw_book(c):
    """An open book over a serif wordmark."""
    x = np.linspace(0, 170, 60)
    top = -120 - 34 * np.sin(np.pi * x / 200) + 30 * (x / 170)
    for side in (-1, 1):
        edge = np.stack([side * (x + 7), top], axis=-1)
        c.fill([*(edge + (0, 30)), *(edge + (0, 182))[::-1]], "#8b1e3f")
        c.line(edge + (0, 202), 8, "#8b1e3f")
        for drop in (66, 94, 122):
            c.line((edge + (0, drop))[10:-10], 7, CUT)
    c.text("Pagewick & Daughters", 0, 150, SERIF, 46, "#8b1e3f", tracking=1)


def draw_gear(c):
    """A gear wheel with six round holes."""
    for deg in range(0, 360, 30):
        c.fill(turned([(-34, -150), (-21, -208), (21, -208), (34, -150)], deg), GREY)
    c.disc(0, 0, 168, GREY)
    for deg in range(15, 375, 60):
        c.disc(*polar(deg, 108)[0], 31, CUT)
    c.ring(0, 0, 56, 8, CUT)
    c.fill(polar(np.arange(0, 360, 60), 32), CUT)


def draw_monogram_circle(c):
    """Two thin serif letters and a slash in a double circle."""
    c.ring(0, 0, 205, 5, BLACK)
    c.ring(0, 0, 190, 2, BLACK)
    c.line([(38, -128), (-38, 128)], 2.5, BLACK)
    c.text("H", -72, 22, ROMAN, 150, BLACK)
    c.text("Q", 76, 78, ROMAN, 150, BLACK)


def draw_monogram_shield(c):
    """A heavy shield with a letter and a chevron cut out."""
    right = curve([(165, -190), (165, -20), (128, 95), (62, 170), (0, 215)])
    outline = np.array([*right, *(right[::-1] * (-1, 1))])
    c.fill(outline, "#9c1c28")
    c.line([*(outline * 0.89), outline[0] * 0.89], 6, CUT)
    c.text("K", 0, 42, SERIF_BOLD, 230, CUT)
    c.line([(-92, 62), (0, 112), (92, 62)], 17, CUT)


def draw_monogram_overlap(c):
    """Two interlaced letters, the front one standing clear of the one behind."""
    c.text("V", -62, 85, ROMAN, 300, "#0f7173", stroke=4)
    c.text("R", 80, 150, ROMAN, 300, CUT, stroke=12)
    c.text("R", 80, 150, ROMAN, 300, "#f05d5e", stroke=4)


def draw_stamp_ring(c):
    """A round stamp: lettering around an anchor."""
    for radius, width in ((214, 7), (202, 2.5), (134, 2.5)):
        c.ring(0, 0, radius, width, WHITE)
    c.ring_text("OLD HARBOUR PRESS", 156, SERIF_BOLD, 36, WHITE, tracking=3)
    c.ring_text("PRINTS & LETTERS", 179, SERIF_BOLD, 32, WHITE, tracking=3, below=True)
    for deg in (-97, 97):
        c.disc(*polar(deg, 168)[0], 6, WHITE)
    c.ring(0, -74, 15, 8, WHITE)
    c.line([(0, -58), (0, 84)], 11, WHITE)
    c.line([(-38, -34), (38, -34)], 10, WHITE)
    c.line(arc(108, 252, 78, 0, 8), 11, WHITE)
    for side in (-1, 1):
        c.fill(np.array([(90, 2), (52, 32), (92, 52)]) * (side, 1), WHITE)


def draw_seal(c):
    """A scalloped golden seal, its lettering cut out."""
    deg = np.linspace(0, 360, 1440)
    c.fill(polar(deg, 204 + 9 * np.cos(np.radians(28 * deg))), BLACK)
    c.ring(0, 0, 184, 4, CUT)
    c.ring(0, 0, 118, 4, CUT)
    c.ring_text("CERTIFIED EDITION", 137, BOLD, 33, CUT, tracking=3)
    c.ring_text("HAND SIGNED", 162, BOLD, 33, CUT, tracking=3, below=True)
    c.fill(polar(np.arange(0, 360, 36), np.where(np.arange(10) % 2, 36, 88)), CUT)
    c.shade((236, 196, 92), (160, 108, 24), 150)


def draw_signature(c):
    """A slanted signature: pen strokes thicker where they run down, and a flourish."""
    letters = {
        "M": [(-70, 6), (-44, -12), (-6, -150), (8, -166), (4, -60), (0, 0), (24, -80), (66, -168)]
        + [(78, -160), (64, -60), (66, -4), (84, -10)],
        "e": [(22, -22), (18, -44), (4, -34), (4, -8), (20, 0), (36, -12)],
        "l": [(22, -70), (22, -124), (8, -116), (0, -40), (8, -2), (26, -10)],
        "n": [(10, -40), (8, 0), (22, -34), (34, -38), (36, -16), (38, 0), (52, -10)],
        "~": [(14, -30), (20, -4), (36, -24), (42, -6), (70, -16), (130, -26), (190, -44)],
    }
    pen, x = [], -170
    for letter in "Mellen~":
        pen += [(px + x, py) for px, py in letters[letter]]
        x = pen[-1][0]
    flourish = [(250, 14), (60, 30), (-150, 62), (-190, 84), (-120, 84), (60, 56), (170, 52)]
    for stroke in (curve(pen), curve(flourish)):
        down = np.gradient(stroke[:, 1]) / np.hypot(*np.gradient(stroke, axis=0).T).clip(1e-6)
        width = 3.2 + 4.5 * np.convolve(down.clip(0), np.ones(9) / 9, "same")
        c.line(stroke + stroke[:, 1:] * (-0.32, 0), width, BLACK)


def draw_tiles(c):
    """Nine tiles of discs, quarters and squares in flat colours."""
    red, blue, yellow, ink = "#d1495b", "#00798c", "#edae49", "#22333b"
    for i, colour in enumerate((red, ink, yellow, blue, yellow, red, ink, red, blue)):
        x, y = 128 * (i % 3 - 1), 128 * (i // 3 - 1)
        if i % 2:
            deg = (0, 0, 0, 90, 0, 270, 0, 180)[i]
            corner = polar(deg + 225, 60 * 2**0.5, x, y)[0]
            c.fill([corner, *arc(deg, deg + 90, 120, *corner)], colour)
        elif i == 4:
            c.ring(x, y, 42, 36, colour)
        else:
            c.fill([(x - 60, y - 60), (x + 60, y - 60), (x + 60, y + 60), (x - 60, y + 60)], colour)


def draw_bloom(c):
    """A five-lobed ribbon in a gradient beside a wordmark."""
    deg = np.linspace(0, 360, 721)
    c.line(polar(deg, 58 + 15 * np.cos(np.radians(5 * deg)), -225), 20, BLACK)
    c.disc(-225, 0, 15, BLACK)
    c.text("oravelle", 66, 27, BOLD, 80, BLACK)
    c.shade((233, 64, 150), (255, 150, 40), 100)


def draw_vantorq(c):
    """A heavy slanted wordmark split by a thin line."""
    c.text("VANTORQ", 0, 40, SLANTED, 112, "#e8501f", tracking=-4)
    c.fill([(-320, 13), (320, -11), (320, -5), (-320, 19)], CUT)


def draw_lumaven(c):
    """A wide wordmark of single thin strokes."""
    letters = {
        "L": [[(0, 0), (0, 1), (0.65, 1)]],
        "U": [[(0.8, 0), *arc(90, 270, 0.4, 0.4, 0.6), (0, 0)]],
        "M": [[(0, 1), (0.1, 0), (0.5, 0.75), (0.9, 0), (1, 1)]],
        "A": [[(0, 1), (0.45, 0), (0.9, 1)]],
        "V": [[(0, 0), (0.45, 1), (0.9, 0)]],
        "E": [[(0, y), (0.65, y)] for y in (0, 0.5, 1)],
        "N": [[(0, 1), (0, 0), (0.8, 1), (0.8, 0)]],
    }
    x = -280
    for letter in "LUMAVEN":
        for stroke in letters[letter]:
            c.line(np.array(stroke) * 62 + (x, -31), 4, WHITE)
        x += 62 * max(px for stroke in letters[letter] for px, _ in stroke) + 30


def draw_alina(c):
    """A photographer's name in script, her trade between thin rules."""
    script = "\U0001d49c" + "".join(chr(0x1D4B6 + ord(letter) - ord("a")) for letter in "lina")
    c.text(script, 0, 20, SERIF, 165, BLACK, tracking=-17)
    c.text("PHOTOGRAPHY", 0, 84, LIGHT, 27, BLACK, tracking=9)
    for side in (-1, 1):
        c.line([(side * 170, 75), (side * 230, 75)], 2, BLACK)


def draw_lighthouse(c):
    """A tall striped lighthouse."""
    c.fill([(-50, 190), (50, 190), (30, -110), (-30, -110)], "#b3202c")
    for y in (-60, 20, 100):
        c.fill([(-60, y + 34), (60, y), (60, y + 34), (-60, y + 68)], CUT)
    c.frame(-46, -126, 46, -113, 4, "#22333b")
    c.frame(-27, -178, 27, -132, 0, "#22333b")
    c.frame(-18, -172, 18, -136, 0, CUT)
    c.disc(0, -154, 11, "#f6b93b")
    c.fill([(-36, -184), (0, -222), (36, -184)], "#22333b")
    c.line([(0, -222), (0, -240)], 5, "#22333b")
    c.frame(-72, 196, 72, 212, 6, "#22333b")


def draw_pictovale(c):
    """A hollow wordmark whose inside is half transparent, as on stock photos."""
    c.text("pictovale", 0, 30, BOLD, 104, WHITE, tracking=5, stroke=4)
    c.text("pictovale", 0, 30, BOLD, 104, (255, 255, 255, 110), tracking=5)


def draw_proof(c):
    """A worn rectangular rubber stamp, tilted."""
    c.frame(-235, -92, 235, 92, 18, "#c1272d", 12)
    c.frame(-216, -73, 216, 73, 8, "#c1272d", 4)
    c.text("PROOF", 0, 24, BOLD, 104, "#c1272d", tracking=4)
    c.text("NOT FOR PRINT", 0, 57, BOLD, 22, "#c1272d", tracking=10)
    for x, y, r in np.random.RandomState(3).uniform((-240, -95, 0.6), (240, 95, 2.6), (260, 3)):
        c.disc(x, y, r, CUT)
    c.image = c.image.rotate(11, Image.Resampling.BICUBIC)


def draw_film(c):
    """A strip of film, the name and the perforation cut out."""
    c.frame(-255, -80, 255, 80, 10, "#f2b705")
    for x in range(-234, 235, 36):
        for y in (-64, 64):
            c.frame(x - 9, y - 7, x + 9, y + 7, 3, CUT)
    c.text("FRAMEWELL", 0, 22, BOLD, 60, CUT, tracking=6)


def draw_rosette(c):
    """A guilloche of one thin closed line."""
    t = np.linspace(0, 360 * 7, 3200)
    c.line(polar(t, 130) + polar(-t * 19 / 7, 72), 2, "#1f7a8c")


# fmt: off
LOGOS = {
    "aperture": draw_aperture, "summit": draw_summit, "leaf": draw_leaf, "sun": draw_sun,
    "camera": draw_camera, "wave": draw_wave, "compass": draw_compass, "feather": draw_feather,
    "bird": draw_bird, "tree": draw_tree, "book": draw_book, "gear": draw_gear,
    "monogram_circle": draw_monogram_circle, "monogram_shield": draw_monogram_shield,
    "monogram_overlap": draw_monogram_overlap, "stamp_ring": draw_stamp_ring, "seal": draw_seal,
    "signature": draw_signature, "tiles": draw_tiles, "bloom": draw_bloom,
    "vantorq": draw_vantorq, "lumaven": draw_lumaven, "alina": draw_alina,
    "lighthouse": draw_lighthouse, "pictovale": draw_pictovale, "proof": draw_proof,
    "film": draw_film, "rosette": draw_rosette,
}
# fmt: on


def main():
    """Rewrite every logo beside this file."""
    for name, draw in LOGOS.items():
        canvas = Canvas()
        draw(canvas)
        shrink(canvas.image).save(Path(__file__).with_name(f"{name}.png"), optimize=True)


if __name__ == "__main__":
    main()
