"""The commands of the documents. Where there is no kubectl, what each of them does is done to podman."""

from __future__ import annotations

import re
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from kubernetes.conftest import MANIFESTS, ROOT
from support import engine
from support.documents import blocks
from support.kustomize import render, set_image
from support.project import recorded

if TYPE_CHECKING:
    from pathlib import Path

    from support.podman import Cluster, Database, Pod

URL = "postgresql://app:secret@db:5432/app"
OURS = {
    "app-migrations": engine.STOCK,
    "headstart-stock": engine.STOCK,
    "app": engine.APP,
    "headstart-sample-app": engine.APP,
}
DOCUMENTS = [
    pytest.param(ROOT / "README.md", "In Kubernetes", id="README.md"),
    pytest.param(MANIFESTS / "README.md", "", id="deploy-kubernetes"),
]


class Shell:
    """Does what a line says: kubectl and kustomize with the words that the documents use, and `cd`."""

    def __init__(self, cluster: Cluster, database: Database, root: Path) -> None:
        self.pods: dict[str, Pod] = {}
        self._cluster, self._database, self._folder = cluster, database, root

    def type(self, line: str) -> None:
        """Do it, or fail on what is not known."""
        match shlex.split(line, comments=True):
            case ["kubectl", "create", "secret", "generic", "app-database", literal]:
                assert literal == f"--from-literal=url={URL}"  # the reader's own server and password
                self._cluster.secret("app-database", url=self._database.url)
            case ["kubectl", "apply", "-k", folder]:
                for one in render(self._folder / folder):
                    if one["kind"] != "PersistentVolumeClaim":  # podman makes one when a pod asks for it
                        self.pods[one["kind"]] = self._cluster.play(one)
            case ["cd", folder]:
                self._folder /= folder
            case ["kustomize", "edit", "set", "image", *images]:
                for pair in images:
                    name, image = pair.split("=")
                    set_image(self._folder, name, OURS[image.rsplit("/", 1)[-1].split(":")[0]])
            case words:
                pytest.fail(f"a command that this test does not know: {words}")


@pytest.mark.container
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("path", "section"), DOCUMENTS)
def test_typed(bare_cluster: Cluster, pod_database: Database, tmp_path: Path, path: Path, section: str) -> None:
    """The Job brings the database to head, and the app's pod, which has waited, starts."""
    shutil.copytree(MANIFESTS, tmp_path / "deploy" / "kubernetes")
    if path.parent == ROOT:  # its images are those of the kustomization: a reader's own, by the same names
        for image in ("headstart-stock", "headstart-sample-app"):
            set_image(tmp_path / "deploy" / "kubernetes" / "overlays" / "job", image, OURS[image])
    shell = Shell(bare_cluster, pod_database, tmp_path)
    (block,) = blocks(path, section)
    for line in block.splitlines():
        shell.type(line)
    assert shell.pods["Job"].ended("migrate") == 0, shell.pods["Job"].logs("migrate")
    assert shell.pods["Deployment"].settled() == ""
    assert len(recorded(pod_database.from_here)) == 1


def test_each_overlay_is_in_the_readme() -> None:
    """deploy/kubernetes/README.md says of each overlay when to take it, and of none that is not there."""
    text = (MANIFESTS / "README.md").read_text(encoding="utf-8")
    overlays = {path.name for path in (MANIFESTS / "overlays").iterdir()}
    assert set(re.findall(r"(?m)^\| `([\w-]+)` \|", text)) == overlays
