"""README and docs: their code runs and prints what they state, and their links work."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), ROOT / "weights" / "README.md"]
SEGMENT, SAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)


def test_examples_print_what_the_readme_says(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(SEGMENT, names := {})
    printed = capsys.readouterr().out
    assert names["result"].mask.shape == (400, 600)
    expected = re.search(r"```\n(score .*\n)```", (ROOT / "README.md").read_text()).group(1)
    score, coverage = (float(number) for number in re.findall(r"[\d.]+", printed))
    page = [float(number) for number in re.findall(r"[\d.]+", expected)]
    # The last digit depends on the precision and the processor.
    assert [score, coverage] == [pytest.approx(page[0], abs=0.02), pytest.approx(page[1], abs=0.2)]
    assert re.sub(r"[\d.]+", "", printed) == re.sub(r"[\d.]+", "", expected)
    exec(SAMPLE, names := {})
    assert names["image"].shape == (3, 320, 320) and names["mask"].shape == (1, 320, 320)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_that_a_page_imports_exist_and_links_lead_somewhere(page):
    text = page.read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        for line in re.findall(r"^(?:from|import) .*", block, re.M):
            exec(line, {})
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
