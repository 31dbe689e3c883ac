"""The variants of deploy/kubernetes, played: real images, a real Postgres, pods under podman."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import engine
from support.kustomize import containers, pod_spec
from support.project import recorded
from support.reference import history
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from support.kustomize import Object
    from support.podman import Cluster, Database, Pod, Podman

pytestmark = pytest.mark.container

REVISIONS = history()
HEAD = REVISIONS[-1]
EARLIER = "20250217_101455630"

BROKEN = f'''"""A column that is not there."""

from alembic import op

revision = "20990101_000000000"
down_revision = "{HEAD}"


def upgrade() -> None:
    op.execute("select no_such_column")
'''


def _with(one: Object, name: str, *, args: list[str] | None = None, env: Mapping[str, str] | None = None) -> Object:
    """The same with other words or more settings for one of its containers."""
    (container,) = [each for each in containers(one) if each["name"] == name]
    if args is not None:
        container["args"] = args
    container["env"] += [{"name": key, "value": value} for key, value in (env or {}).items()]
    return one


def _secret(one: Object, name: str) -> None:
    """Have the database's URL from another Secret."""
    (volume,) = [volume for volume in pod_spec(one)["volumes"] if volume["name"] == "database"]
    volume["secret"]["secretName"] = name


def _decided(job: Object, code: int) -> str:
    """What a Job's podFailurePolicy does about an exit code."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", ()):
            return str(rule["action"])
    return "Count"


def _healthy(pod: Pod) -> Any:
    """What the app answers on /health; None as long as it does not."""
    asked = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/health', timeout=5).read().decode())"
    said = pod.inside("app", "python3", "-c", asked)
    return json.loads(said.stdout) if said.code == 0 else None


@pytest.fixture
def broken_image(podman: Podman, tmp_path: Path) -> Iterator[str]:
    """The stock image with one more revision, which fails."""
    (tmp_path / "broken.py").write_text(BROKEN, encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(
        f"FROM localhost/{engine.STOCK}\nCOPY broken.py migrations/versions/\n", encoding="utf-8"
    )
    name = f"headstart-test-broken:{secrets.token_hex(4)}"
    podman("build", "--quiet", "--tag", name, tmp_path)
    yield name
    podman("image", "rm", "--force", name, check=False)


class TestInitContainer:
    """overlays/init-container."""

    def test_the_app_starts_on_a_migrated_database(
        self, cluster: Cluster, rendered: Callable[..., dict[str, Object]], pod_database: Database
    ) -> None:
        """The pod migrates, then the app is healthy; the next replica's pod finds nothing to do."""
        app = rendered("init-container")["Deployment"]
        first = cluster.play(app)
        assert first.settled() == "", first.logs("migrate")
        assert first.ended("migrate") == 0
        assert recorded(pod_database.from_here) == [HEAD]
        assert first.logs("migrate").last["revision_after"] == HEAD
        assert first.message("migrate") == ""
        first.started("app")
        assert eventually(lambda: _healthy(first), "the app is healthy")["status"] == "ok"
        second = cluster.play(app)
        assert second.settled() == ""
        assert second.ended("migrate") == 0
        assert second.logs("migrate").last["applied"] == []
        assert second.logs("migrate").events("lock_obtained") == []

    def test_replicas_may_start_at_once(
        self, cluster: Cluster, rendered: Callable[..., dict[str, Object]], pod_database: Database
    ) -> None:
        """Of three pods one applies each revision, and all three start their app."""
        app = rendered("init-container")["Deployment"]
        pods = [cluster.play(app) for _ in range(3)]
        assert [pod.settled() for pod in pods] == [""] * 3
        applied = [revision for pod in pods for revision in pod.logs("migrate").last["applied"]]
        assert len(applied) == len(set(applied)) == len(REVISIONS)
        assert recorded(pod_database.from_here) == [HEAD]

    def test_a_broken_revision_keeps_the_app_from_starting(
        self,
        cluster: Cluster,
        rendered: Callable[..., dict[str, Object]],
        pod_database: Database,
        broken_image: str,
    ) -> None:
        """Exit 60, the last line in the termination message, the app's container never started."""
        pod = cluster.play(rendered("init-container", stock=broken_image)["Deployment"])
        assert "exited with code 60" in pod.settled()
        assert pod.ended("migrate") == 60
        assert pod.state("app") == "created"
        said = json.loads(pod.message("migrate"))
        assert (said["outcome"], said["exit_code"], said["failed"]) == ("migration_failed", 60, "20990101_000000000")
        assert "no_such_column" in said["error"]
        assert recorded(pod_database.from_here) == [HEAD]

    def test_the_pod_is_as_restricted_as_its_manifest_says(
        self, cluster: Cluster, rendered: Callable[..., dict[str, Object]]
    ) -> None:
        """No capability, no new privileges, a seccomp filter, uid 65532, a read-only root, its memory limited."""
        shown = "cat /proc/self/status /proc/self/mounts; touch /project/x || echo refused"
        app = _with(rendered("init-container")["Deployment"], "migrate", args=["sh", "-c", shown])
        pod = cluster.play(app)
        assert pod.settled() == ""
        said = pod.logs("migrate").stdout
        status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
        assert {status[key] for key in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65532"}
        assert "refused" in said
        found = cluster.podman.inspect(f"{pod.name}-migrate")
        assert found is not None
        assert found["HostConfig"]["Memory"] == 256 * 1024**2


class TestJob:
    """overlays/job, and overlays/wait, which is a part of it."""

    def test_the_app_waits_for_the_database_and_the_job_brings_it(
        self, cluster: Cluster, rendered: Callable[..., dict[str, Object]], pod_database: Database
    ) -> None:
        """The app's pod waits while revisions are pending, and starts when the Job has run; a second Job is a no-op."""
        objects = rendered("job")
        assert objects["Job"]["metadata"]["name"] == "migrate-test"
        app = cluster.play(objects["Deployment"])
        eventually(lambda: app.logs("wait").events("revision_waiting"), "the app's pod waits")
        assert app.state("app") == "created"
        job = cluster.play(objects["Job"])
        assert job.ended("migrate") == 0, job.logs("migrate")
        assert app.settled() == ""
        assert app.ended("wait") == 0
        assert eventually(lambda: _healthy(app), "the app is healthy")["status"] == "ok"
        assert recorded(pod_database.from_here) == [HEAD]
        again = cluster.play(objects["Job"])
        assert again.ended("migrate") == 0
        assert again.logs("migrate").last["applied"] == []

    def test_backups_stay_on_the_claim(
        self, cluster: Cluster, rendered: Callable[..., dict[str, Object]], pod_database: Database
    ) -> None:
        """What one pod has backed up, within the memory limit, the next one that mounts the claim finds whole."""
        first = cluster.play(_with(rendered("job")["Job"], "migrate", args=["upgrade", EARLIER]))
        assert first.ended("migrate") == 0, first.logs("migrate")
        first.remove()
        job = cluster.play(rendered("hook")["Job"])
        assert job.ended("migrate") == 0, job.logs("migrate")
        backup = job.logs("migrate").last["backup"]
        assert backup.startswith("/backups/")
        found = cluster.podman.inspect(f"{job.name}-migrate")
        assert found is not None
        assert found["State"]["OOMKilled"] is False
        job.remove()
        later = cluster.play(_with(rendered("hook")["Job"], "migrate", args=["backups", "verify"]))
        assert later.ended("migrate") == 0
        assert EARLIER in later.logs("migrate").stdout

    @pytest.mark.parametrize("why", ["refused", "not_ready", "migration_failed"])
    def test_the_exit_code_decides_on_another_try(
        self,
        why: str,
        podman: Podman,
        cluster: Cluster,
        rendered: Callable[..., dict[str, Object]],
        pod_database: Database,
        request: pytest.FixtureRequest,
    ) -> None:
        """A wrong password and a broken revision end the Job at once; a server that is not there yet does not."""
        stock = request.getfixturevalue("broken_image") if why == "migration_failed" else engine.STOCK
        job = rendered("job", stock=stock)["Job"]
        if why == "refused":
            cluster.secret("wrong-password", url=pod_database.wrong)
            _secret(job, "wrong-password")
        if why == "not_ready":
            cluster.secret("nobody-there", url=pod_database.url.replace(":5432/", ":5433/"))
            _secret(job, "nobody-there")
            _with(job, "migrate", env={"HEADSTART_WAIT_TIMEOUT": "1s"})
        pod = cluster.play(job)
        expected = {"refused": (21, "FailJob"), "not_ready": (20, "Count"), "migration_failed": (60, "FailJob")}
        code = pod.ended("migrate")
        assert (code, _decided(job, code)) == expected[why]
        assert json.loads(pod.message("migrate"))["outcome"] == why

    def test_a_drained_node_ends_the_wait_at_once(
        self, cluster: Cluster, rendered: Callable[..., dict[str, Object]]
    ) -> None:
        """SIGTERM to the waiting container: exit 143, long before the grace period is over, and no app."""
        app = rendered("wait")["Deployment"]
        pod = cluster.play(app)
        eventually(lambda: pod.logs("wait").events("revision_waiting"), "the app's pod waits")
        pod.stop("wait", seconds=pod_spec(app)["terminationGracePeriodSeconds"])
        assert pod.ended("wait") == 143
        assert "exited with code 143" in pod.settled()
        assert pod.state("app") == "created"
