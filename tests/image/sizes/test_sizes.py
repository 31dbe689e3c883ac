"""What the image weighs, compressed, over its base."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from support.engine import Engine

MEGABYTE = 1_000_000
BOUND, FURTHER = 19.3 * MEGABYTE, 1 * MEGABYTE
"""Bytes: with one client major, and for each further one. Of the first, psycopg 3 and psycopg2 take 1.2 MB."""
DEPTH = 6


@pytest.fixture(scope="module")
def layers(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Our own layers of the image with one client major, and with two."""
    found = {}
    for majors in ("17", "15 17"):
        image = engine.build_own(f"headstart:test-{majors.replace(' ', '-')}", "runner", majors=majors)
        found[majors] = _own_layers(engine, image, tmp_path_factory.mktemp("saved") / "image.tar")
    return found


def test_compressed_size(layers: dict[str, list[bytes]], capsys: pytest.CaptureFixture[str]) -> None:
    """One client major: at most 19.3 MB over the base, bytecode included; each further one at most 1 MB."""
    one, two = (sum(len(gzip.compress(layer, 6)) for layer in layers[majors]) for majors in ("17", "15 17"))
    lines = [f"  {size / MEGABYTE:6.2f} MB  {part}" for part, size in _largest(layers["17"])]
    weight = f"one client major: {one / MEGABYTE:.2f} MB; a further one: {(two - one) / MEGABYTE:.2f} MB"
    with capsys.disabled():
        sys.stdout.write("\n".join(["", f"{weight}; the largest parts:", *lines, ""]))
    assert one <= BOUND
    assert two - one <= FURTHER


def test_without_what_nothing_uses(layers: dict[str, list[bytes]]) -> None:
    """No perl, no pip, no compiler, no tests of Python's; one libpq."""
    names: list[str] = []
    for layer in layers["15 17"]:
        with tarfile.open(fileobj=io.BytesIO(layer)) as files:
            names += files.getnames()
    for unwanted in ("/perl", "/pip/", "idlelib", "/gcc", "/test/", "/tests/"):
        assert not [name for name in names if unwanted in name]
    assert not [name for name in names if name.endswith((".c", ".pyx", ".pyi"))]
    assert len({name for name in names if "/libpq.so.5." in name}) == 1


def _own_layers(engine: Engine, image: str, path: Path) -> list[bytes]:
    engine.docker("save", "--output", path, image)
    base = engine.inspect("debian:trixie-slim")["RootFS"]["Layers"]
    with tarfile.open(path) as saved:
        manifest = json.load(saved.extractfile("manifest.json") or io.BytesIO())
        names = manifest[0]["Layers"][len(base) :]
        return [(saved.extractfile(name) or io.BytesIO()).read() for name in names]


def _largest(found: list[bytes]) -> list[tuple[str, int]]:
    """The five largest folders or files, each compressed by itself."""
    parts: Counter[str] = Counter()
    for layer in found:
        with tarfile.open(fileobj=io.BytesIO(layer)) as files:
            for file in files:
                content = files.extractfile(file) if file.isfile() else None
                if content is not None:
                    parts["/".join(file.name.split("/")[:DEPTH])] += len(gzip.compress(content.read(), 6))
    return parts.most_common(5)
