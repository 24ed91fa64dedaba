"""Who may import whom: from the commands through the packages to the ground, never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {  # of other packages and files; commands may import all of these
    "inference": "",
    "samples": "inference",
    "batch": "inference",
    "dataset": "inference samples",
    "model": "inference samples",
    "evaluation": "inference samples batch dataset model",
}
COMMANDS = "train segment evaluate visibility benchmark app scan".split()


def modules() -> dict[str, Path]:
    """Dotted name to file of all code but the tests and the scripts beside it."""
    paths = [*ROOT.glob("*.py"), *(p for name in MAY_IMPORT for p in ROOT.glob(f"{name}/**/*.py"))]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imports_of(path: Path, known) -> set[str]:
    """Modules of this project that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name for name in inner if name in known} or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(known)


MODULES = modules()
IMPORTS = {name: imports_of(path, MODULES) for name, path in MODULES.items()}


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_to_the_ground(module):
    own = module.split(".")[0]
    others = {name.split(".")[0] for name in IMPORTS[module]} - {own}
    allowed = MAY_IMPORT if own in COMMANDS else MAY_IMPORT[own].split()
    assert others <= set(allowed), f"{module} imports {others - set(allowed)}"


def test_no_modules_import_each_other_in_a_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            path.append(module)
            for other in sorted(IMPORTS[module]):
                visit(other)
            done.add(path.pop())

    for module in MODULES:
        visit(module)
