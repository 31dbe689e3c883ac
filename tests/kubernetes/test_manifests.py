"""The manifests are what Kubernetes takes: by its own schema, and rendered as its own kustomize renders them."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from support.kustomize import containers, identity, load, pod_spec, render, set_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.kustomize import Object

MANIFESTS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
FOLDERS = sorted(str(path.parent.relative_to(MANIFESTS)) for path in MANIFESTS.rglob("kustomization.yaml"))

# `replacements` with a delimiter and a pod template's fields as they are used here came with kustomize 4.2.
KUSTOMIZE_SINCE = (4, 2)


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_object_is_valid(folder: str) -> None:
    """The current schema takes every object, and none has a field that the schema does not know."""
    objects = render(MANIFESTS / folder)
    assert objects
    for one in objects:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_a_field_in_the_wrong_place_is_found() -> None:
    """The check above would have seen a misspelt or misplaced field."""
    (one,) = render(MANIFESTS / "base" / "job")
    one["spec"]["template"]["spec"]["podFailurePolicy"] = one["spec"].pop("podFailurePolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_renderer_of_these_tests_renders_as_kustomize_does(folder: str) -> None:
    """`kubectl kustomize` prints the same objects, item for item."""
    if _kustomize() < KUSTOMIZE_SINCE:
        pytest.skip("no kubectl with a kustomize of today on this machine")
    printed = subprocess.run(
        ["kubectl", "kustomize", str(MANIFESTS / folder)], check=True, capture_output=True, text=True
    ).stdout
    assert sorted(render(MANIFESTS / folder), key=identity) == sorted(yaml.safe_load_all(printed), key=identity)


def test_every_manifest_is_part_of_a_kustomization() -> None:
    """No file lies about that nothing renders."""
    named = {
        (path.parent / name).resolve()
        for path in MANIFESTS.rglob("kustomization.yaml")
        for one in load(path)
        for name in (*one.get("resources", ()), *(patch["path"] for patch in one.get("patches", ())))
    }
    assert {path for path in MANIFESTS.rglob("*.yaml") if path.name != "kustomization.yaml"} <= named


def test_a_version_gives_the_job_its_name(rendered: Callable[..., dict[str, Object]]) -> None:
    """Setting the image's tag is enough for a Job of its own, and every container of ours has that tag."""
    objects = rendered("job", stock="acme/app-migrations:v2.3.4", app="acme/app:v2.3.4")
    assert objects["Job"]["metadata"]["name"] == "migrate-v2.3.4"
    assert [container["image"] for one in objects.values() for container in containers(one)] == [
        "acme/app-migrations:v2.3.4",
        "acme/app-migrations:v2.3.4",
        "acme/app:v2.3.4",
    ]


def test_a_restore_is_a_job_beside_the_others(rendered: Callable[..., dict[str, Object]]) -> None:
    """It restores once, from the claim that the Job which migrates writes to, and as the same user."""
    restoring = rendered("restore", stock="acme/app-migrations:v2.3.4")["Job"]
    migrating = rendered("job", stock="acme/app-migrations:v2.3.4")["Job"]
    assert restoring["metadata"]["name"] == "migrate-restore"
    assert (restoring["spec"]["backoffLimit"], "podFailurePolicy" in restoring["spec"]) == (0, False)
    (one,), (other,) = containers(restoring), containers(migrating)
    assert one == {**other, "args": ["restore", "latest", "--swap"]}
    assert pod_spec(restoring)["volumes"] == pod_spec(migrating)["volumes"]


def test_the_name_follows_in_kustomize_too(tmp_path: Path) -> None:
    """The same with the real kustomize."""
    if _kustomize() < KUSTOMIZE_SINCE:
        pytest.skip("no kubectl with a kustomize of today on this machine")
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    folder = tmp_path / "kubernetes" / "overlays" / "job"
    set_image(folder, "headstart-stock", "acme/app-migrations:v2.3.4")
    printed = subprocess.run(["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True).stdout
    (job,) = [one for one in yaml.safe_load_all(printed) if one["kind"] == "Job"]
    assert job["metadata"]["name"] == "migrate-v2.3.4"


def test_an_unknown_part_of_kustomize_is_refused(tmp_path: Path) -> None:
    """The renderer does not pass over what it does not know."""
    (tmp_path / "kustomization.yaml").write_text("namePrefix: a-\nresources: []\n", encoding="utf-8")
    with pytest.raises(ValueError, match="namePrefix"):
        render(tmp_path)


@functools.cache
def _kustomize() -> tuple[int, ...]:
    """The version of the kustomize in kubectl; (0,) where there is none."""
    if shutil.which("kubectl") is None:
        return (0,)
    asked = subprocess.run(
        ["kubectl", "version", "--client", "--output=json"], check=False, capture_output=True, text=True
    )
    said = json.loads(asked.stdout or "{}").get("kustomizeVersion", "v0")
    return tuple(int(part) for part in said.removeprefix("v").split(".") if part.isdigit())
