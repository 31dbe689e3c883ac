"""What the documents tell people to type, so that tests can type it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def blocks(path: Path, section: str = "", *, language: str = "sh") -> list[str]:
    """The code blocks in a language of a document, or of one of its sections."""
    text = path.read_text(encoding="utf-8")
    text = re.split(r"(?m)^## ", text.split(f"\n## {section}\n")[1])[0] if section else text
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)
