"""deploy.sh cut short: Ctrl-C, SIGTERM, kill -9 and a power cut at every step, and what the next call makes of it."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from deploy.conftest import STAGES
from support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.conftest import Pi


@pytest.mark.parametrize("stage", STAGES)
def test_sigterm(settled: Pi, stage: str) -> None:
    """SIGTERM at any step brings back what ran before, within the same call, and exits with 143."""
    # A version that is slow at that step, so that the signal comes in time.
    done = settled.interrupt(signal.SIGTERM, stage, "v3-slow" if stage in STAGES[:5] else "v3-health")
    assert done.code == 143, done
    assert "back at v1: it runs and is healthy" in done.stdout


def test_a_client_that_goes_on(settled: Pi, tmp_path: Path) -> None:
    """The way back begins when the engine's client has ended: what it still starts would be in the way of a restore."""
    slow = tmp_path / "docker"
    slow.write_text(
        f"""#!/bin/bash
if [[ "$*" = *" up "* && ! -e '{tmp_path}/reached' ]]; then trap '' TERM; touch '{tmp_path}/reached'; sleep 1.5; fi
exec '{shutil.which("docker")}' "$@"
""",
        encoding="utf-8",
    )
    slow.chmod(0o755)
    with settled.start("v3", PATH=f"{tmp_path}:{os.environ['PATH']}") as process:
        eventually((tmp_path / "reached").exists, "the start", seconds=120)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 143, out + err
    assert "back at v1: it runs and is healthy" in out


def test_a_terminal_that_is_gone(settled: Pi) -> None:
    """SIGHUP does the same, and tells a file about it."""
    done = settled.interrupt(signal.SIGHUP, "migrate", "v3-slow")
    assert done.code == 129, done
    assert "back at v1" in (settled.state / "deploy.log").read_text()


def test_sigint_reaches_the_whole_terminal(settled: Pi) -> None:
    """Ctrl-C, which a terminal sends to everything in it, leads back too, and a second one changes nothing."""
    with settled.start("v3-slow") as process:
        eventually(lambda: "\nstage=migrate\n" in settled.journal, "the migration", seconds=120)
        os.killpg(process.pid, signal.SIGINT)
        eventually(lambda: "\ngoing_back=yes\n" in f"\n{settled.journal}", "the way back", seconds=120)
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=240)
    assert process.returncode == 130


@pytest.mark.parametrize("stage", STAGES[:5])
def test_kill_before_the_migration_is_done(settled: Pi, stage: str) -> None:
    """After a kill -9 the next call says that it goes back, and does."""
    settled.interrupt(signal.SIGKILL, stage, "v3-slow")
    assert "interrupted at" in settled.deploy("--dry-run", "v2", code=1)
    assert "going back" in settled.deploy("--resume")


@pytest.mark.parametrize("stage", STAGES[5:])
def test_kill_after_the_migration(pi: Pi, stage: str) -> None:
    """After a kill -9 behind the migration the next call finishes, and deploying the same version again is a no-op."""
    pi.interrupt(signal.SIGKILL, stage, "v2-late")
    said = pi.deploy("v2-late")
    assert "finishing it" in said
    assert "nothing to do" in said
    after = pi.seen()
    assert (after.version, after.revision, after.notes) == ("v2-late", "r2", "one two")
    assert not pi.journal


def test_kill_on_the_way_back(settled: Pi) -> None:
    """A kill -9 while a backup is restored is followed by another restore, and by the version before."""
    settled.interrupt(signal.SIGKILL, "restore", "v3-migration")
    assert "back at v1: it runs and is healthy" in settled.deploy("--resume")


def test_a_power_cut(settled: Pi) -> None:
    """When the database and everything else goes down amid a migration, the next call brings back what ran before."""
    settled.interrupt(signal.SIGKILL, "migrate", "v3-slow")
    label = f"label=com.docker.compose.project={settled.name}"
    running = settled.engine.docker("ps", "--quiet", "--filter", label).stdout.split()
    settled.engine.docker("kill", *running)
    assert "going back" in settled.deploy("--resume")


def test_two_at_once(settled: Pi) -> None:
    """A second deploy is refused while one is at work, and does not disturb it."""
    with settled.start("v3-slow") as process:
        eventually(lambda: "\nstage=migrate\n" in f"\n{settled.journal}", "the migration", seconds=120)
        assert "another deploy is at work" in settled.deploy("v2", code=1)
        assert "at 'migrate'" in settled.deploy("--status", code=1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=240)
    assert process.returncode == 143
