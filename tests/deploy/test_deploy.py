"""deploy.sh on a machine with a real engine: what is deployed, what is refused, and the way back."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from deploy.conftest import Pi

    Make = Callable[..., contextlib.AbstractContextManager[Pi]]


def assert_kept(notes: str, acknowledged: list[str]) -> None:
    """Every acknowledged row is there, and at most the one that was under way when the app was stopped."""
    rows = notes.split()
    assert rows[: len(acknowledged)] == acknowledged
    assert len(rows) <= len(acknowledged) + 1


def _versions_of(pi: Pi) -> list[str]:
    return [line.split()[0] for line in (pi.state / "versions").read_text().splitlines()]


def test_a_good_version(pi: Pi) -> None:
    """Revisions are shown, the backup copied out, the database migrated, and no acknowledged row is lost."""
    with pi.writing() as kept:
        said = pi.deploy("v2")
    after = pi.seen()
    assert "the database is at r1; v2 brings r2" in said
    assert (after.version, after.revision, after.env.splitlines()[-1]) == ("v2", "r2", "VERSION=v2")
    assert after.head == pi.git("rev-parse", "v2")
    assert "notes.two" in after.columns
    assert_kept(after.notes, ["one", "two", *kept])
    pi.post("three")
    assert not pi.journal
    assert _versions_of(pi) == ["v1", "v2"]


def test_the_copy_on_the_host_is_whole(settled: Pi) -> None:
    """Each file of the copied backup has the checksum of the manifest."""
    (copy,) = (settled.state / "backups" / "app").iterdir()
    files = json.loads((copy / "manifest.json").read_text())["files"]
    assert files
    for name, expected in files.items():
        assert hashlib.sha256((copy / name).read_bytes()).hexdigest() == expected["sha256"], name
    assert copy.parent.parent.parent.stat().st_mode & 0o77 == 0, "others may read the backups"


def test_a_bad_migration(settled: Pi) -> None:
    """Half a migration is undone by the backup, and the version before runs again with every row it acknowledged."""
    before = settled.seen().notes.split()
    with settled.writing() as kept:
        said = settled.deploy("v3-migration", code=1)
    assert "the database was at r1, now it is at r3" in said
    assert "back at v1: it runs and is healthy" in said
    assert_kept(settled.seen().notes, [*before, *kept])


def test_bad_health(settled: Pi) -> None:
    """A version that migrates but is not healthy is undone, and what it said is kept."""
    said = settled.deploy("v3-health", code=1, DEPLOY_HEALTH_TIMEOUT="2")
    assert "not healthy within 2 s" in said
    assert "restoring app/" in said
    assert (settled.state / "failed.log").read_text() == "the app is up\n"


def test_a_compose_file_with_another_volume(settled: Pi) -> None:
    """A version whose compose file would bring up an empty database beside the real one does not get to migrate it."""
    said = settled.deploy("v3-volume", code=1)
    assert "it is another database: at base, not at r1" in said
    assert "no restore needed" in said


def test_the_same_version_again(settled: Pi) -> None:
    """Deploying what runs already touches nothing."""
    app = settled.container("app")
    assert "nothing to do" in settled.deploy("v1")
    assert settled.container("app") == app


def test_an_unknown_version(settled: Pi) -> None:
    """A tag that does not exist is refused before anything is stopped."""
    app = settled.container("app")
    assert "there is no git tag v9" in settled.deploy("v9", code=1)
    assert settled.container("app") == app


def test_wrong_usage(settled: Pi) -> None:
    """Command lines that make no sense exit with 2."""
    for words in (
        [],
        ["v1", "v2"],
        ["--rollback", "v2"],
        ["--nope"],
        ["v1;id"],
        ["--project"],
        ["v1", "--restore-backup"],
    ):
        settled.deploy(*words, code=2)
    assert "usage: deploy.sh VERSION" in settled.deploy("--help")


def test_changes_that_are_not_committed(settled: Pi) -> None:
    """A checkout with changes is refused, and they are named."""
    settled.write("app.py", "# changed by hand")
    said = settled.deploy("v2", code=1)
    settled.git("checkout", "--quiet", "app.py")
    assert "app.py" in said
    assert "nothing was changed" in said


def test_a_dry_run(settled: Pi) -> None:
    """A dry run says what is pending and would be done, and changes nothing."""
    app, copies = settled.container("app"), list(settled.state.rglob("manifest.json"))
    said = settled.deploy("v3-migration", "--dry-run")
    assert "the database is at r1; v3-migration brings r2, r3, r4" in said
    assert "would now stop the app" in said
    assert settled.container("app") == app
    assert list(settled.state.rglob("manifest.json")) == copies
    assert not (settled.state / "source").exists()


def test_an_older_version_than_the_database(pi: Pi) -> None:
    """A version that does not know the recorded revision is refused, and --rollback is named."""
    pi.deploy("v2")
    before = pi.seen()
    assert "--rollback" in pi.deploy("v1", code=1)
    assert pi.seen() == before


def test_status(settled: Pi) -> None:
    """--status shows the version, the health, the revision and the copies, and exits with 1 when the app is down."""
    said = settled.deploy("--status")
    assert "version   v1 (git" in said
    assert "app       healthy, http://127.0.0.1:" in said
    assert "revision  r1 (at head)" in said
    assert "copy      /" in said
    app = settled.container("app")
    settled.engine.docker("stop", app)
    assert "not healthy" in settled.deploy("--status", code=1)
    settled.engine.docker("start", app)


def test_the_first_deploy_fails(make_pi: Make) -> None:
    """Where nothing ran before, a failure leaves the app stopped and the database empty, and the next deploy works."""
    with make_pi() as pi:
        env = (pi.folder / ".env").read_text()
        assert "nothing ran before" in pi.deploy("v3-migration", code=1)
        assert pi.container("app") == ""
        assert pi.query("select count(*) from pg_class where relname = 'notes'") == "0"
        assert (pi.folder / ".env").read_text() == env
        pi.deploy("v1")
        pi.post("one")
        assert pi.seen().version == "v1"
        assert "no version is known that ran before v1" in pi.deploy("--rollback", "--yes", code=1)


def test_rollback_keeps_the_rows(pi: Pi) -> None:
    """--rollback asks first, then downgrades: rows written since the deploy stay; a second has nowhere to go."""
    before = pi.seen()
    pi.deploy("v2")
    pi.post("three")
    assert "downgraded from r2 to r1" in pi.deploy("--rollback", "--dry-run")
    assert "not confirmed" in pi.deploy("--rollback", code=1)
    assert pi.seen().version == "v2"
    pi.deploy("--rollback", "--yes")
    assert pi.seen() == before._replace(notes="one two three")
    assert _versions_of(pi) == ["v1"]
    pi.deploy("--rollback", "--yes", code=1)
    pi.deploy("v2")
    assert _versions_of(pi) == ["v1", "v2"]


def test_rollback_to_the_backup(pi: Pi) -> None:
    """--restore-backup brings the rows of that time back, even when only the copy on the host is left."""
    before = pi.seen()
    pi.deploy("v2")
    pi.post("three")
    (name,) = [copy.name for copy in (pi.state / "backups" / "app").iterdir() if copy.name.endswith("-r1")]
    label = f"{pi.name}_backups:/backups"
    pi.engine.docker("run", "--rm", "--volume", label, f"{pi.name}:v2", "rm", "-r", f"/backups/app/{name}")
    pi.deploy("--rollback", "--restore-backup", "--yes")
    assert pi.seen() == before
    kept = [name for name in pi.query("select datname from pg_database").split() if name.startswith("app_")]
    assert [pi.query("select string_agg(note, ' ') from notes", name) for name in kept] == ["one two three"]


def test_a_rollback_that_fails(pi: Pi) -> None:
    """A revision that cannot be reverted leaves the version, the database and the rows as they were."""
    pi.deploy("v3")
    pi.deploy("v4-one-way")
    before = pi.seen()
    assert "back at v4-one-way" in pi.deploy("--rollback", "--yes", code=1)
    assert pi.seen() == before


def test_with_images(make_pi: Make) -> None:
    """Without a checkout versions are image tags: a good one, a bad one, an unknown one, a full disk, and back."""
    with make_pi(images=True) as pi:
        pi.deploy("v1")
        pi.post("one")
        before = pi.seen()
        assert "version v9 cannot be had" in pi.deploy("v9", code=1)
        pi.deploy("v3-migration", code=1)
        assert pi.seen() == before
        pi.deploy("v2")
        assert (pi.seen().version, pi.seen().revision, pi.seen().notes) == ("v2", "r2", "one")
        pi.deploy("--rollback", "--yes")
        assert pi.seen() == before


def test_a_disk_that_is_full(make_pi: Make) -> None:
    """When the copy of the backup does not fit on the host, what ran before runs again, nothing half-way."""
    with make_pi(images=True) as pi:
        pi.deploy("v1")
        before, copies = pi.seen(), list(pi.state.rglob("*"))
        said = pi.deploy("v2", code=1, script=pi.limited())
        assert "back at v1" in said
        assert "no restore needed" in said
        assert pi.seen() == before
        assert [each for each in pi.state.rglob("*") if each.is_dir()] == [each for each in copies if each.is_dir()]
