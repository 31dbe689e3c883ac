"""Child processes: what they say, how they end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from headstart.log import process
from support.waiting import soon

ENV = {"PATH": os.environ["PATH"]}


def stars(text: str) -> str:
    """A redactor that knows one secret."""
    return text.replace("s3cret", "***")


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_the_exit_status_and_the_last_words_are_told() -> None:
    """A child's exit status and stderr are in the result."""
    finished = await process.run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], env=ENV, redact=str)
    assert (finished.returncode, finished.ok, finished.how) == (3, False, "exit status 3")
    assert finished.stderr == "one\ntwo"


async def test_a_signal_is_told_by_name() -> None:
    """A child that was killed says by what."""
    finished = await process.run(["sh", "-c", "kill -9 $$"], env=ENV, redact=str)
    assert finished.how == "ended by SIGKILL"


async def test_lines_arrive_while_the_child_runs(tmp_path: Path) -> None:
    """Each line of stderr is handed on when it is written, not at the end."""
    go = tmp_path / "go"
    lines: list[str] = []
    command = ["sh", "-c", f"echo first >&2; while [ ! -e {go} ]; do sleep 0.01; done; printf last >&2"]
    task = asyncio.create_task(process.run(command, env=ENV, redact=str, on_line=lines.append))
    await soon(lambda: lines == ["first"], "the first line")
    go.touch()
    await task
    assert lines == ["first", "last"]


async def test_a_secret_in_two_pieces_is_redacted(tmp_path: Path) -> None:
    """A secret that arrives in two pieces of a line is taken out all the same."""
    lines: list[str] = []
    code = "import os,time; os.write(2, b'a s3c'); time.sleep(0.05); os.write(2, b'ret b\\n')"
    finished = await process.run([sys.executable, "-c", code], env=ENV, redact=stars, on_line=lines.append)
    assert lines == ["a *** b"]
    assert finished.stderr == "a *** b"


async def test_an_exit_status_that_somebody_else_has_collected_is_no_success() -> None:
    """A program that calls us may ignore SIGCHLD: then nobody knows how a child has ended."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        finished = await process.run([sys.executable, "-c", "import sys; sys.exit(3)"], env=ENV, redact=str)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert not finished.ok


async def test_only_the_end_of_much_talk_is_kept() -> None:
    """Megabytes on stderr leave their last few KiB in the result, and all lines are heard."""
    heard = 0

    def hear(_: str) -> None:
        nonlocal heard
        heard += 1

    code = "import sys\nfor n in range(200000): print('line', n, file=sys.stderr)"
    finished = await process.run([sys.executable, "-c", code], env=ENV, redact=str, on_line=hear)
    assert heard == 200000
    assert len(finished.stderr) <= process.TAIL
    assert finished.stderr.endswith("line 199999")


async def test_the_environment_is_what_was_given() -> None:
    """Nothing of our own environment reaches a child."""
    finished = await process.run(["/usr/bin/env"], env={"ONLY": "this"}, redact=str, capture=True)
    assert finished.stdout == b"ONLY=this\n"


async def test_a_missing_program_is_an_os_error() -> None:
    """A program that is not there raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        await process.run(["/nowhere/pg_dump"], env=ENV, redact=str)


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    """Cancellation ends the child and its own children before it goes on."""
    pids = tmp_path / "pids"
    command = ["sh", "-c", f"sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"]
    task = asyncio.create_task(process.run(command, env=ENV, redact=str))
    await soon(pids.exists, "the children")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


async def test_what_ignores_term_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM, or leaves one behind that does, is gone after the grace."""
    pids = tmp_path / "pids"
    command = [
        "sh",
        "-c",
        f"trap '' TERM; sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait; sleep 1000",
    ]
    task = asyncio.create_task(process.run(command, env=ENV, redact=str, grace=0.2))
    await soon(pids.exists, "the children")
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert 0.1 < time.monotonic() - started < 5
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


@pytest.mark.parametrize("turns", [0, 2, 4, None])
async def test_a_second_cancellation_kills_at_once(tmp_path: Path, turns: int | None) -> None:
    """Who cancels twice does not wait for the grace, whether the child runs or is still being started."""
    pids = tmp_path / "pids"
    command = ["sh", "-c", f"trap '' TERM; echo $$ > {pids}.new; mv {pids}.new {pids}; while :; do sleep 1000; done"]
    task = asyncio.create_task(process.run(command, env=ENV, redact=str, grace=600))
    if turns is None:
        await soon(pids.exists, "the children")
    for _ in range(turns or 0):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not pids.exists() or not alive(int(pids.read_text()))


async def test_cancelling_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    """A cancellation that comes while the child is being started ends it as well."""
    for turns in range(12):
        pid = tmp_path / f"pid{turns}"
        command = ["sh", "-c", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000"]
        task = asyncio.create_task(process.run(command, env=ENV, redact=str))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not pid.exists() or not alive(int(pid.read_text()))


async def test_a_grandchild_that_holds_stderr_is_not_waited_for() -> None:
    """A daemon that a child leaves behind with its stderr does not hold the result up beyond the grace."""
    finished = await process.run(["sh", "-c", "sleep 1000 & echo $! >&2"], env=ENV, redact=str, grace=0.2)
    assert finished.ok
    os.kill(int(finished.stderr), 9)
