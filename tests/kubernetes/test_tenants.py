"""overlays/tenants: an indexed Job, each of whose pods takes its share of the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headstart.settings.durations import parse_duration
from kubernetes.conftest import MANIFESTS
from support.kustomize import Object, containers, pod_spec, render
from support.project import recorded

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.podman import Cluster, Database

PODS = 4


@pytest.fixture
def job() -> Object:
    """The overlay's Job, as it is in the repository."""
    (one,) = render(MANIFESTS / "overlays" / "tenants")
    return one


def _environment(job: Object) -> dict[str, str]:
    (container,) = containers(job)
    return {one["name"]: one["value"] for one in container["env"]}


def test_as_many_shares_as_pods(job: Object) -> None:
    """Each share has a pod: completions and HEADSTART_TENANTS_SHARE are the same number."""
    assert job["spec"]["completionMode"] == "Indexed"
    assert _environment(job)["HEADSTART_TENANTS_SHARE"] == str(job["spec"]["completions"]) == str(PODS)


def test_a_share_that_fails_ends_no_other(job: Object) -> None:
    """What ends the plain Job at once ends only this share, and no limit is common to all of them."""
    (plain,) = render(MANIFESTS / "base" / "job")
    theirs = [{**rule, "action": rule["action"].replace("FailJob", "FailIndex")} for rule in _rules(plain)]
    assert _rules(job) == theirs
    assert "backoffLimit" not in job["spec"]


def test_it_ends_by_itself_before_kubernetes_ends_it(job: Object) -> None:
    """All tries of all shares, so many at a time, fit into activeDeadlineSeconds."""
    spec = job["spec"]
    each = parse_duration(_environment(job)["HEADSTART_DEADLINE"]) + pod_spec(job)["terminationGracePeriodSeconds"]
    waves = -(-spec["completions"] // spec["parallelism"])
    pauses = sum(min(10 * 2**n, 360) for n in range(spec["backoffLimitPerIndex"]))
    assert waves * ((spec["backoffLimitPerIndex"] + 1) * each + pauses) < spec["activeDeadlineSeconds"]


@pytest.mark.container
def test_the_pods_do_all_of_them(
    cluster: Cluster, rendered: Callable[..., dict[str, Object]], pod_database: Database
) -> None:
    """A pod for each index: together they bring every database of the list to head, each of them once."""
    cluster.secret("app-tenants", list=f"# ours\nonly {pod_database.url}\n")
    applied = []
    for index in range(PODS):
        one = rendered("tenants")["Job"]
        (container,) = containers(one)
        container["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})  # as the Job controller does
        pod = cluster.play(one)
        assert pod.ended("migrate") == 0, pod.logs("migrate")
        applied.append(len(pod.logs("migrate").events("revision_applied")))
    assert sorted(applied)[:-1] == [0] * (PODS - 1)
    assert applied != [0] * PODS
    assert len(recorded(pod_database.from_here)) == 1


def _rules(job: Object) -> list[Object]:
    rules: list[Object] = job["spec"]["podFailurePolicy"]["rules"]
    return rules
