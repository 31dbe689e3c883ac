"""What the other tests start, a fork of a process that has imported headstart, is what users start."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import ended
from support.process import Headstart, environment

if TYPE_CHECKING:
    from pathlib import Path

    from support.postgres import Postgres
    from support.project import Project

# What a process has from whoever started it.
SHOW = """
import json, locale, os, resource, signal, sys, time
def shown(home):
    status = dict(line.rstrip().partition(":")[::2] for line in open("/proc/self/status"))
    stat = open("/proc/self/stat").read().rpartition(")")[2].split()
    fields = {
        "environ": dict(os.environ),
        "cwd": os.getcwd(),
        "path": sys.path,
        "signals": [status[name] for name in ("SigBlk", "SigIgn", "SigCgt")],
        "umask": status["Umask"],
        "priority": os.nice(0),
        "limits": [resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in ("NOFILE", "STACK", "CORE")],
        "descriptors": sorted(os.listdir("/proc/self/fd"), key=int)[:3],
        "kinds": [os.readlink(f"/proc/self/fd/{n}").partition(":")[0] for n in range(3)],
        "streams": [(each.encoding, each.errors, each.line_buffering) for each in (sys.stdin, sys.stdout, sys.stderr)],
        "encoding": [sys.getfilesystemencoding(), locale.getlocale(), time.tzname],
        "leads its group": int(stat[2]) == os.getpid(),
        "its parent's group is another": os.getpgid(os.getppid()) != os.getpgrp(),
        "its session is its parent's": os.getsid(0) == os.getsid(os.getppid()),
    }
    return json.dumps(fields, sort_keys=True).replace(home, "HOME")
"""


@pytest.mark.parametrize("where", ["env.py", "CMD"])
def test_it_is_what_users_start(where: str, project: Project, any_server: Postgres, tmp_path: Path) -> None:
    """In both the worker and the supervisor, which becomes CMD, nothing shows how they were started."""
    (tmp_path / "show.py").write_text(SHOW)
    show = "import os, sys; sys.path.append('.'); import show; print('shown', show.shown(os.environ['HOME']))"
    project.revision("a1", body=show if where == "env.py" else "pass")
    seen = []
    for fresh in (True, False):
        home = tmp_path / f"home-{fresh}"
        home.mkdir()
        env = {"DATABASE_URL": any_server.create_database("shown"), "HEADSTART_BACKUP": "off"}
        command = ("--", "python3", "-c", show) if where == "CMD" else ()
        with Headstart("up", *command, env=environment(home, env), cwd=tmp_path, fresh=fresh) as process:
            run = process.finish()
        any_server.drop_database("shown")
        if where == "CMD":
            assert run.code == 0, run
            lines = run.stdout.splitlines()
        else:
            ended(run, 0)
            lines = [line["message"] for line in run.events("script_output")]
        [line] = [line for line in lines if line.startswith("shown ")]
        seen.append(json.loads(line.removeprefix("shown ")))
    assert seen[0] == seen[1]
