"""The commands of the documents, typed on a machine with a real engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from support.documents import blocks
from support.engine import ROOT

if TYPE_CHECKING:
    from deploy.conftest import Pi

HERE = ROOT / "deploy" / "raspberry-pi"


def _typed(pi: Pi, block: str) -> str:
    """Type a block at the root of the checkout, with a version that this machine has."""
    done = subprocess.run(
        ["bash", "-euxc", block.replace("v0.2.1", "v2")],
        cwd=pi.folder,
        env=pi.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readme(pi: Pi) -> None:
    """README.md: a version is looked at, deployed and rolled back, with the scripts in the app's own repository."""
    _bring(pi, "deploy/raspberry-pi")
    before = pi.seen()
    (block,) = blocks(ROOT / "README.md", "On a Raspberry Pi")
    said = _typed(pi, block)
    assert "done: v2" in said
    assert "revision  r2 (at head)" in said
    assert pi.seen() == before


def test_the_readme_here(pi: Pi) -> None:
    """deploy/raspberry-pi/README.md: the same, with the scripts at the root; a rollback there asks first."""
    _bring(pi, ".")
    (block,) = blocks(HERE / "README.md")
    *others, rollback = block.rstrip().splitlines()
    _typed(pi, "\n".join(others))
    assert pi.seen().revision == "r2"
    _typed(pi, rollback.replace("--rollback", "--rollback --yes"))
    assert pi.seen().revision == "r1"


def _bring(pi: Pi, to: str) -> None:
    folder = pi.folder / to
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("deploy.sh", "lib.sh", "steps.sh"):
        shutil.copy(HERE / name, folder)


def test_each_setting_is_in_the_readme() -> None:
    """Whatever setting and exit code the script has, its README names."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    scripts = "".join((HERE / name).read_text(encoding="utf-8") for name in ("deploy.sh", "lib.sh", "steps.sh"))
    settings = set(re.findall(r"\$\(setting (\w+)", scripts))
    assert len(settings) > 5
    assert {name for name in settings if f"`{name}`" not in text} == set()
