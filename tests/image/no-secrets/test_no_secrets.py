"""No secret is in the image, and none that a container is given can be read off it afterwards."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING

from support.engine import PASSWORD
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engine import Engine, Server

SUSPICIOUS = re.compile(r"password|passwd|secret|token|credential|postgres(ql)?://", re.IGNORECASE)
SLEEPING = (
    "select pid from pg_stat_activity where state = 'active' and query ~ 'pg_sleep.50' and pid <> pg_backend_pid()"
)
PRIVATE = re.compile(rb"-----BEGIN (RSA |EC |OPENSSH |)PRIVATE KEY-----")


def test_metadata(engine: Engine, stock_image: str) -> None:
    """`docker inspect` and `docker history` of the image show no password, token or address."""
    inspected = engine.inspect(stock_image)
    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", stock_image).stdout
    for text in (str(inspected["Config"]), history):
        assert not SUSPICIOUS.search(text), text
    assert inspected["Config"].get("Healthcheck") is None
    assert inspected["Config"]["StopSignal"] == "SIGTERM"
    assert {"title", "description", "licenses", "version"} <= {
        label.removeprefix("org.opencontainers.image.") for label in inspected["Config"]["Labels"]
    }


def test_no_hard_coded_passwords(engine: Engine, stock_image: str) -> None:
    """No user of the image has a password, and no file of ours holds a key or what the build was given."""
    shadow = engine.run(stock_image, "cat", "/etc/shadow", options=["--user", "0:0"]).stdout
    assert shadow
    assert all(line.split(":")[1] in {"*", "!", "!*", ""} for line in shadow.splitlines())
    assert not re.search(r"^[^:]+::", shadow, re.MULTILINE)
    found = engine.run(stock_image, "find", "/", "-xdev", "-path", "/run/secrets*", "-o", "-name", "*.pgpass").stdout
    assert found == ""


def test_layers(engine: Engine, stock_image: str, tmp_path: Path) -> None:
    """No layer, not even one that a later layer hides, holds a private key or the build's secrets."""
    saved = tmp_path / "image.tar"
    engine.docker("save", "--output", saved, stock_image)
    with tarfile.open(saved) as image:
        layers = [member for member in image.getmembers() if member.name.endswith(("layer.tar", "/layer.tar"))]
        assert layers
        for layer in layers[1:]:  # the first is the public base
            opened = image.extractfile(layer)
            assert opened is not None
            with tarfile.open(fileobj=opened) as files:
                for file in files:
                    assert "run/secrets" not in file.name
                    content = files.extractfile(file) if file.isfile() else None
                    assert content is None or not PRIVATE.search(content.read()), file.name


def test_while_running(
    engine: Engine, stock_image: str, network: str, database: Callable[[str], Server], backups: Path
) -> None:
    """The password is in no log line, no process's arguments, no manifest, and in no file that is left."""
    held = database("secretive")
    env = {"DATABASE_URL": held.url()}
    options = ["--network", network, "--volume", f"{backups}:/backups"]
    assert engine.run(stock_image, "upgrade", "+4", options=options, env=env).code == 0
    lock = "begin; lock table companies in access exclusive mode; select pg_sleep(50)"  # pg_dump waits for it
    engine.docker("exec", "--detach", held.name, "psql", "-U", "app", "-d", held.database, "-c", lock)
    eventually(lambda: held.query(SLEEPING), "the lock")
    with engine.running(stock_image, options=options, env=env) as name:
        seen = eventually(
            lambda: _with_dump(engine.docker("top", name, "-eo", "pid,args", check=False).stdout), "pg_dump"
        )
        held.query(f"select pg_terminate_backend(pid) from ({SLEEPING}) as holder")
        ended = engine.wait(name)
    assert ended.code == 0, ended
    spellings = (PASSWORD, held.url().split(":", 2)[2].split("@")[0])
    written = "".join(path.read_text() for path in backups.rglob("manifest.json"))
    assert written
    for text in (seen, str(ended), written):
        for spelling in spellings:
            assert spelling not in text


def _with_dump(processes: str) -> str | None:
    return processes if "pg_dump" in processes else None
