"""Manifests as a user has them after putting in their own images, and a cluster that is podman."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest

from support import engine as engines
from support import kustomize
from support.podman import Cluster, Database, Podman
from support.postgres import psql
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"


class Server(NamedTuple):
    """A Postgres in podman."""

    network: str
    address: str

    def url(self, host: str, database: str, password: str = engines.PASSWORD) -> str:
        """The URL of a database by which `host` reaches it."""
        return f"postgresql://app:{quote(password, safe='')}@{host}:5432/{database}"


@pytest.fixture(scope="session")
def podman(engine: Engine, stock_image: str, app_image: str, tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Podman, with the images that the manifests name."""
    if why := Podman.missing():
        pytest.skip(why)
    engine.stand_in("debian:trixie-slim", engines.POSTGRES)
    here = Podman(tmp_path_factory.mktemp("podman"))
    for image in (stock_image, app_image, engines.POSTGRES):
        here.load(engine.docker, image)
    return here


@pytest.fixture(scope="session")
def pod_server(podman: Podman, engine: Engine) -> Iterator[Server]:
    """A Postgres that pods reach as `db`."""
    name = engine.name("db")
    podman("network", "create", "--disable-dns", name)
    options = ("--detach", "--name", name, "--network", name, "--tmpfs", "/var/lib/postgresql/data:mode=1777")
    try:
        env = {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": engines.PASSWORD, "POSTGRES_DB": "app"}
        given = [word for key in env for word in ("--env", key)]
        podman("run", *options, *given, engines.POSTGRES, "postgres", "-c", "fsync=off", env=env)
        ready = ("exec", name, "pg_isready", "--quiet", "--host", "127.0.0.1")
        eventually(lambda: podman(*ready, check=False).code == 0, "the server answers over TCP", seconds=90)
        found = podman.inspect(name)
        assert found is not None
        yield Server(name, found["NetworkSettings"]["Networks"][name]["IPAddress"])
    finally:
        podman("rm", "--force", "--time", "0", "--volumes", name, check=False)
        podman("network", "rm", "--force", name, check=False)


@pytest.fixture
def pod_database(pod_server: Server) -> Iterator[Database]:
    """A new, empty database."""
    name = f"test_{secrets.token_hex(4)}"
    admin = pod_server.url(pod_server.address, "app")
    psql(admin, f"create database {name}")
    yield Database(
        pod_server.url("db", name), pod_server.url(pod_server.address, name), pod_server.url("db", name, "wrong")
    )
    psql(admin, f"drop database {name} with (force)")


@pytest.fixture
def bare_cluster(podman: Podman, pod_server: Server, tmp_path: Path) -> Iterator[Cluster]:
    """An empty namespace."""
    folder = tmp_path / "pods"
    folder.mkdir()
    with Cluster(podman, pod_server.network, {"db": pod_server.address}, folder) as one:
        yield one


@pytest.fixture
def cluster(bare_cluster: Cluster, pod_database: Database) -> Cluster:
    """A namespace whose Secret leads to `pod_database`."""
    bare_cluster.secret("app-database", url=pod_database.url)
    return bare_cluster


@pytest.fixture
def rendered(tmp_path: Path) -> Callable[..., dict[str, kustomize.Object]]:
    """Render an overlay after putting images in, as a user does with `kustomize edit set image`; objects by kind."""

    def render(overlay: str, *, stock: str = engines.STOCK, app: str = engines.APP) -> dict[str, kustomize.Object]:
        copy = tmp_path / secrets.token_hex(4)
        shutil.copytree(MANIFESTS, copy)
        folder = copy / "overlays" / overlay
        kustomize.set_image(folder, "headstart-stock", stock)
        kustomize.set_image(folder, "headstart-sample-app", app)
        return {one["kind"]: one for one in kustomize.render(folder)}

    return render
