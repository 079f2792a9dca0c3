"""The README's snippets, by what they are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Snippet:
    """What stands between two fences.

    Attributes:
        language: Its language, as the fence has it.
        code: Its text.
        why_not_run: The reason in the comment above it, if it has one.
    """

    language: str
    code: str
    why_not_run: str | None


FENCED = re.compile(r"^(?:<!-- not run: (.*?) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SNIPPETS = [Snippet(language, code, reason or None) for reason, language, code in FENCED.findall(README)]


def blocks(language: str) -> list[str]:
    return [each.code for each in SNIPPETS if each.language == language and each.why_not_run is None]


PYTHON = blocks("python")
PROGRAMS = [code for code in PYTHON if "asyncio.run(" in code]
TEST_FILES = [code for code in PYTHON if "def test_" in code]
CONFTESTS = [code for code in PYTHON if "@pytest.fixture" in code and code not in TEST_FILES]
FRAGMENTS = [code for code in PYTHON if code not in PROGRAMS + TEST_FILES + CONFTESTS]
