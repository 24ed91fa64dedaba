"""Fonts and what text marks say."""

import logging
import random
import shutil
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont
from PIL import ImageFont

from samples.text import (
    LATIN,
    TEXTS,
    Font,
    can_draw,
    draw_ai_label,
    draw_date_id,
    draw_text,
    draws_letters,
    find_fonts,
    glyph_names,
    shipped_folder,
)


@pytest.fixture(scope="module")
def all_fonts():
    return find_fonts()


def test_fonts_come_without_a_folder_and_cover_latin(all_fonts):
    assert len(all_fonts) >= 10
    for font in all_fonts:
        assert font.path.is_file()
        assert set(LATIN) <= set(font.letters["latin"])


def test_scripts_are_those_that_a_font_covers(all_fonts):
    letters = next(font for font in all_fonts if font.path.name == "DejaVuSans.ttf").letters
    assert "Ж" in letters["cyrillic"] and "ω" in letters["greek"]
    assert "han" not in letters
    assert "©" in letters["latin"]


def test_fonts_below_a_folder_are_added_but_hidden_ones(tmp_path, all_fonts):
    for name in ("sub/mine.TTF", "sub/.other.ttf", ".cache/third.ttf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(all_fonts[0].path, tmp_path / name)
    added = [font.path.name for font in find_fonts(tmp_path)[len(all_fonts) :]]
    assert added == ["mine.TTF"]


def test_broken_fonts_are_passed_over(tmp_path, all_fonts):
    (tmp_path / "empty.ttf").touch()
    (tmp_path / "samples.text.otf").write_text("this is no font")
    (tmp_path / "cut.ttf").write_bytes(all_fonts[0].path.read_bytes()[:3000])
    assert find_fonts(tmp_path) == all_fonts


@pytest.mark.parametrize("error", [KeyError("maxp"), AssertionError(), IndexError()])
def test_damage_that_fonttools_does_not_expect_counts_as_broken(error, monkeypatch, all_fonts):
    def fail(font):
        raise error

    monkeypatch.setattr("samples.text.TTFont.getBestCmap", fail)
    assert glyph_names(all_fonts[0].path) == {}


def test_fonts_that_pillow_cannot_draw_are_passed_over(monkeypatch, tmp_path, all_fonts):
    for name in ("good.ttf", "small.ttf", "large.ttf"):
        shutil.copy(all_fonts[0].path, tmp_path / name)

    real = ImageFont.truetype

    def stubborn(path, size_px):
        if size_px == {"small.ttf": 10, "large.ttf": 40}.get(path.rsplit("/", 1)[1]):
            raise OSError("invalid opcode")
        return real(path, size_px)

    monkeypatch.setattr("samples.text.ImageFont.truetype", stubborn)
    found = find_fonts(tmp_path, shipped=False)
    assert [font.path.name for font in found] == ["good.ttf"]


def test_a_font_without_its_glyphs_cannot_be_drawn(tmp_path, all_fonts):
    """Its table of letters is whole: only drawing finds the hole."""
    with TTFont(all_fonts[0].path) as font:
        del font["glyf"], font["loca"]
        font.save(tmp_path / "hollow.ttf")
    assert set(map(ord, LATIN)) <= glyph_names(tmp_path / "hollow.ttf").keys()
    assert can_draw(all_fonts[0].path) and not can_draw(tmp_path / "hollow.ttf")


@pytest.mark.parametrize("space_em, drawn", [(2, True), (65, False)])
def test_a_font_with_an_endless_space_is_passed_over(space_em, drawn, tmp_path, all_fonts):
    with TTFont(all_fonts[0].path) as font:
        name, em = font.getBestCmap()[ord(" ")], font["head"].unitsPerEm
        font["hmtx"][name] = min(65535, round(space_em * em)), 0
        font["head"].unitsPerEm = em if drawn else 1000
        font.save(tmp_path / "wide.ttf")
    assert can_draw(tmp_path / "wide.ttf") == drawn


SYMBOLS = ["cmex10", "cmsy10"]  # brackets, arrows ... in the places of letters


@pytest.mark.parametrize("name", [*SYMBOLS, "DejaVuSans", "cmti10", "STIXGeneralBolIta"])
def test_fonts_of_symbols_are_told_from_fonts_of_letters(name):
    assert draws_letters(shipped_folder() / f"{name}.ttf") == (name not in SYMBOLS)


def test_text_is_never_written_in_symbols(all_fonts):
    names = {font.path.stem for font in all_fonts}
    assert not names & {*SYMBOLS, "cmmi10"}  # the last has a sign in the place of its space
    assert {"DejaVuSans", "cmr10", "STIXGeneral"} <= names
    roman = next(font for font in all_fonts if font.path.stem == "cmr10")
    assert "©" not in roman.letters["latin"] and "_" not in roman.signs  # it has a phi and a dot


def test_flaws_of_fonts_are_not_logged_and_others_are(caplog, all_fonts, monkeypatch):
    class Flawed:
        def __init__(self, *arguments, **options):
            logging.getLogger("fontTools.ttLib").warning("a flaw")
            raise OSError

    monkeypatch.setattr("samples.text.TTFont", Flawed)
    with caplog.at_level("WARNING"):
        glyph_names(all_fonts[0].path)
        logging.getLogger("fontTools.ttLib").warning("still heard")
    assert caplog.messages == ["still heard"]


def test_missing_font_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder of fonts at .*nowhere"):
        find_fonts(tmp_path / "nowhere")


def test_the_same_seed_says_the_same(fonts):
    texts = [[draw_text(fonts[0], random.Random(seed)) for seed in range(30)] for _ in range(2)]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 25


def test_texts_use_only_letters_of_the_font(all_fonts):
    for font in all_fonts:
        covered = set("".join(font.letters.values())) | set(" \n")
        for seed in range(20):
            text = draw_text(font, random.Random(seed))
            assert text.strip()
            assert set(text) <= covered


def test_some_texts_have_several_lines_and_other_scripts(fonts):
    font = next(font for font in fonts if font.path.name == "DejaVuSans.ttf")
    texts = [draw_text(font, random.Random(seed)) for seed in range(200)]
    lines = {text.count("\n") + 1 for text in texts}
    assert lines == {1, 2, 3}
    for script in ("cyrillic", "greek"):
        assert any(set(text) & set(font.letters[script]) for text in texts)


def test_letters_stand_alone_or_far_apart():
    texts = [TEXTS["letters"](random.Random(seed)) for seed in range(60)]
    singles = [text for text in texts if len(text) == 1]
    assert 10 < len(singles) < 40
    for text in texts:
        letters = text.split()
        assert all(len(letter) == 1 for letter in letters)
        assert text in [(" " * gap).join(letters) for gap in range(1, 5)]


def test_styles_can_be_chosen(fonts):
    texts = [draw_text(fonts[0], random.Random(seed), ("handle",)) for seed in range(40)]
    latin = [text for text in texts if set(text) & set(LATIN)]
    assert len(latin) > 10 and all("@" in text for text in latin)


def test_dates_and_numbers_are_one_short_line(fonts):
    texts = [draw_date_id(fonts[0], random.Random(seed)) for seed in range(60)]
    assert len(set(texts)) > 50
    assert all(len(text) <= 20 and sum(letter.isdigit() for letter in text) >= 4 for text in texts)
    assert all("\n" not in text for text in texts)


def test_ai_labels_are_empty_latin_or_han_if_the_font_can(fonts):
    han = Font(Path("han.otf"), {"latin": LATIN, "han": "生成由图片内容"})
    for font, scripts in ((fonts[0], {"", "latin"}), (han, {"", "latin", "han"})):
        labels = [draw_ai_label(font, random.Random(seed)) for seed in range(60)]
        assert {"han" if not label.isascii() else label and "latin" for label in labels} == scripts
        assert all("AI" in label for label in labels if label)
    assert not any("画" in label for label in labels)  # a letter that the font lacks


@pytest.mark.parametrize("kind", TEXTS)
def test_every_kind_of_text_says_something(kind):
    texts = {TEXTS[kind](random.Random(seed)) for seed in range(20)}
    assert all(text.strip() for text in texts)
    assert len(texts) > 10
    sign = {"handle": "@", "domain": ".", "copyright": "©"}.get(kind, "")
    assert all(sign in text for text in texts)
