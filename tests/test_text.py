"""Fonts and texts of marks."""

import random
import shutil

import pytest
from fontTools.ttLib import TTFont

from samples.text import (
    LATIN,
    TEXTS,
    draw_ai_label,
    draw_date_id,
    draw_text,
    find_fonts,
)


@pytest.fixture(scope="module")
def all_fonts():
    return find_fonts()


def names_of(fonts):
    return {font.path.stem for font in fonts}


def test_matplotlib_fonts_are_found_without_a_folder(all_fonts):
    assert len(all_fonts) >= 10
    assert all(set(LATIN) <= set(font.letters["latin"]) for font in all_fonts)
    letters = next(font for font in all_fonts if font.path.name == "DejaVuSans.ttf").letters
    assert "Ж" in letters["cyrillic"] and "ω" in letters["greek"] and "©" in letters["latin"]
    assert "han" not in letters


def test_text_is_never_written_in_symbols(all_fonts):
    """cmex10 and cmsy10 have brackets and arrows in the places of letters."""
    assert not names_of(all_fonts) & {"cmex10", "cmsy10", "cmmi10"}  # cmmi10: its space is a symbol
    assert {"DejaVuSans", "cmti10", "STIXGeneralBolIta"} <= names_of(all_fonts)
    roman = next(font for font in all_fonts if font.path.stem == "cmr10")
    assert "©" not in roman.letters["latin"] and "_" not in roman.signs  # it has other glyphs there


def test_fonts_of_a_folder_are_added_unless_hidden_or_damaged(tmp_path, all_fonts):
    path = all_fonts[0].path
    for name in ("sub/mine.TTF", "sub/.other.ttf", ".cache/third.ttf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / name)
    (tmp_path / "empty.ttf").touch()
    (tmp_path / "text.otf").write_text("this is no font")
    (tmp_path / "cut.ttf").write_bytes(path.read_bytes()[:3000])
    with TTFont(path) as font:  # only drawing shows that the glyphs are missing
        del font["glyf"], font["loca"]
        font.save(tmp_path / "hollow.ttf")
    found = find_fonts(tmp_path)
    assert found[: len(all_fonts)] == all_fonts
    assert [font.path.name for font in found[len(all_fonts) :]] == ["mine.TTF"]
    with pytest.raises(FileNotFoundError, match=r"No folder at .*nowhere"):
        find_fonts(tmp_path / "nowhere")
    (tmp_path / "sub/mine.TTF").unlink()
    with pytest.raises(FileNotFoundError, match=r"No usable font below .* among 4 files"):
        find_fonts(tmp_path)


def test_a_font_with_a_very_wide_space_is_left_out(tmp_path, all_fonts):
    for name, space_em in (("fine", 2), ("wide", 65)):
        with TTFont(all_fonts[0].path) as font:
            glyph, font["head"].unitsPerEm = font.getBestCmap()[ord(" ")], 1000
            font["hmtx"][glyph] = 1000 * space_em, 0
            font.save(tmp_path / f"{name}.ttf")
    assert names_of(find_fonts(tmp_path, shipped=False)) == {"fine"}


def test_texts_use_only_letters_of_the_font_and_follow_the_seed(all_fonts):
    for font in all_fonts:
        covered = set("".join(font.letters.values()) + font.signs) | set(" \n")
        for draw, least in ((draw_text, 15), (draw_date_id, 15), (draw_ai_label, 1)):
            texts, again = ([draw(font, random.Random(s)) for s in range(20)] for _ in range(2))
            assert texts == again and len(set(texts)) > least
            assert all(set(text) <= covered for text in texts)


@pytest.mark.parametrize("style", TEXTS)
def test_every_style_of_text_says_something_and_can_be_chosen(fonts, style):
    texts = {TEXTS[style](random.Random(seed)) for seed in range(20)}
    assert all(text.strip() for text in texts) and len(texts) > 10
    sign = {"handle": "@", "domain": ".", "copyright": "©"}.get(style, "")
    assert all(sign in text for text in texts)
    chosen = [draw_text(fonts[0], random.Random(seed), (style,)) for seed in range(40)]
    assert sum(sign in text for text in chosen) > 10
