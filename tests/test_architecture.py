"""What holds the house in shape: sizes, names, tasks, and the pins of the design's rules."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

import aioredis_kit

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "aioredis_kit"
MODULES = sorted(PACKAGE.rglob("*.py"))

LONGEST_FILE = 600
LONGEST_FUNCTION = 50
REDIS_PYS_NAMES = {"do_acquire", "do_release"}  # overridden
BANNED_NAMES = re.compile(r"^(utils?|helpers?|common|manager|handler)$|^process_|^do_")

# The rules of DESIGN sections 1, 4 and 5 that concern what is built, the cases of node-redis that it keeps, and bugs of
# node-redis's that it does not have.
RULES = (
    [f"P{n}" for n in range(1, 8)]
    + [f"4.{n}" for n in range(1, 22)]
    + [f"5.{n}" for n in range(1, 6)]
    + [f"case-{n}" for n in (*range(1, 52), *range(53, 74), *range(75, 84), *range(92, 106), *range(131, 137))]
    + [f"B{n}" for n in (12, 14, 15, 16, 18, 19)]
)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_says_what_it_is_for(path):
    assert ast.get_docstring(_tree(path))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_file_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_no_function_is_too_long(path):
    """Counted from the end of the docstring."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno - body[0].lineno + 1) if body else 0
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_names_are_the_fields_own(path):
    names = {path.stem} | {
        node.name
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert not {name for name in names - REDIS_PYS_NAMES if BANNED_NAMES.search(name.lstrip("_"))}


@pytest.mark.pins("P6")
@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "tasks.py"], ids=_name)
def test_only_one_place_makes_tasks(path):
    calls = {
        node.func.attr
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {"create_task", "ensure_future"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_broad_except_gives_its_reason(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if re.search(r"except (Exception|BaseException)\b|except:", line):
            reasons = [part for part in line.split("#")[1:] if not part.strip().startswith("noqa")]
            assert reasons, f"line {number}: {line.strip()}"


def test_every_public_name_can_be_had():
    for name in aioredis_kit.__all__:
        assert getattr(aioredis_kit, name) is not None
    assert dir(aioredis_kit) == aioredis_kit.__all__
    with pytest.raises(AttributeError):
        _ = aioredis_kit.no_such_name


@functools.cache
def _pins() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "pins":
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return found


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_pinned(rule):
    assert rule in _pins()


def test_every_pin_is_a_rule():
    assert not {pin for pin in _pins() if not re.fullmatch(r"P[1-7]|[45]\.\d+|case-\d+|B\d+", pin)}
