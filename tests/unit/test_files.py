"""A file that is none does not hold up a run."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from headstart.settings import files
from headstart.settings.files import read_bytes, read_text


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "socket", "folder"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    """A named pipe would be waited for, a device may have no end: both are refused, at once and in words."""
    path = tmp_path / "x"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "link to a pipe":
            os.mkfifo(tmp_path / "pipe")
            path.symlink_to("pipe")
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "folder":
            path.mkdir()
    with pytest.raises(OSError) as caught:  # noqa: PT011  (which one differs)
        read_bytes(path)
    assert caught.value.strerror
    assert caught.value.filename == str(path)


def test_a_file(tmp_path: Path) -> None:
    """Files are read, links to them followed, as secrets are mounted; /dev/null is empty."""
    (tmp_path / "a").write_bytes(b"\xc3\xa4\r\nb\r")
    (tmp_path / "link").symlink_to("a")
    assert read_bytes(tmp_path / "link") == b"\xc3\xa4\r\nb\r"
    assert read_text(tmp_path / "link") == Path(tmp_path, "a").read_text(encoding="utf-8")
    assert read_text(os.devnull) == ""


def test_what_a_shell_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """`<(command)` is /dev/fd/N: it is read to its end, however long that takes, up to a limit."""
    ours, theirs = os.pipe()

    def finish() -> None:
        os.write(theirs, b"x" * 100)
        os.close(theirs)

    try:
        os.write(theirs, b"first, ")
        writing = threading.Timer(0.2, finish)
        writing.start()
        assert read_bytes(f"/dev/fd/{ours}") == b"first, " + b"x" * 100
        writing.join()
    finally:
        os.close(ours)
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    ours, theirs = os.pipe()
    try:
        with pytest.raises(TimeoutError, match="has not ended"):
            read_bytes(f"/dev/fd/{ours}")
    finally:
        os.close(ours)
        os.close(theirs)
