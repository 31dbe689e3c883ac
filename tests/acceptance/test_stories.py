"""The stories of tests/stories: what they say was shown is what is shown. `--write-stories` writes it anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.stories import STORIES, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Postgres


@pytest.mark.parametrize("name", sorted(path.stem for path in STORIES.glob("*.md")))
def test_story(name: str, any_server: Postgres, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Typed again, each command of a story has the output, the exit code and the last log line that the story shows."""
    path = STORIES / f"{name}.md"
    told = path.read_text(encoding="utf-8")
    with Stage(any_server, tmp_path) as stage:
        played = stage.play(told)
    if request.config.getoption("--write-stories"):
        path.write_text(played, encoding="utf-8")
    else:
        assert told.splitlines() == played.splitlines(), "what came out differs: see --write-stories"


def test_a_terminal_shows_what_a_story_shows(any_server: Postgres, tmp_path: Path) -> None:
    """HEADSTART_LOG=console gives the lines that the stories' runner makes of the same run's JSON."""
    told = (STORIES / "60-migration-failed.md").read_text(encoding="utf-8")
    told = re.sub(r"(?ms)^```json$.*?^```$", "", told)
    with Stage(any_server, tmp_path, log="console") as stage:
        assert told.splitlines() == stage.play(told).splitlines()
