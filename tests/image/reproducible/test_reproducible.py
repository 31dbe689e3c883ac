"""The same sources give the same content."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.engine import Engine


@pytest.mark.slow
def test_built_twice(engine: Engine, runner_image: str, tmp_path: Path) -> None:
    """An image built anew, without any cache, has the same files, bytes, modes, owners and times."""
    again = engine.build_own(engine.name("again"), "runner", words=["--no-cache"])
    try:
        first, second = (_content(engine, image, tmp_path / "image.tar") for image in (runner_image, again))
    finally:
        engine.docker("image", "rm", again)
    assert first.keys() == second.keys()
    assert {name: (first[name], second[name]) for name in first if first[name] != second[name]} == {}


def _content(engine: Engine, image: str, path: Path) -> dict[str, tuple[object, ...]]:
    """Each file of our own layers: what it is, whose, of when, and its bytes' SHA-256."""
    engine.docker("save", "--output", path, image)
    skipped = len(engine.inspect("debian:trixie-slim")["RootFS"]["Layers"])
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(path) as saved:
        for name in json.load(saved.extractfile("manifest.json") or io.BytesIO())[0]["Layers"][skipped:]:
            with tarfile.open(fileobj=saved.extractfile(name)) as layer:
                for file in layer:
                    content = layer.extractfile(file) if file.isfile() else None
                    digest = hashlib.sha256(content.read()).hexdigest() if content else file.linkname
                    # The engine makes the folders that lead to ours, at the time of the build.
                    when = None if file.isdir() else file.mtime
                    found[file.name] = (file.type, oct(file.mode), file.uid, file.gid, when, digest)
    return found
