"""What every manifest has to hold, whatever variant it belongs to."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from headstart.errors.exits import Exit
from headstart.settings.durations import parse_duration
from headstart.settings.table import SETTINGS
from support.kustomize import Object, containers, pod_spec, render

MANIFESTS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""Of the Pod Security Standards' `restricted`."""


RENDERED = {overlay: render(MANIFESTS / "overlays" / overlay) for overlay in OVERLAYS}
WORKLOADS = [pytest.param(one, id=f"{overlay}-{one['kind']}") for overlay in OVERLAYS for one in RENDERED[overlay]]
CONTAINERS = [
    pytest.param(container, id=f"{overlay}-{one['kind']}-{container['name']}")
    for overlay in OVERLAYS
    for one in RENDERED[overlay]
    for container in containers(one)
]
OURS = [one for one in CONTAINERS if str(one.values[0]["image"]).startswith("headstart-stock:")]  # type: ignore[index]


def _environment(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def _object(overlay: str, kind: str) -> Object:
    (one,) = [one for one in RENDERED[overlay] if one["kind"] == kind]
    return copy.deepcopy(one)


def _container(one: Object, name: str) -> Object:
    (container,) = [each for each in containers(one) if each["name"] == name]
    return container


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_pod_is_restricted(workload: Object) -> None:
    """The image's user, its group on the volumes, the default seccomp profile, nothing of the host's."""
    spec = pod_spec(workload)
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= ALLOWED_VOLUMES


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_pod_gets_nothing_from_the_cluster_unasked(workload: Object) -> None:
    """No token for the API, and no variables of Services: one called `headstart` would be an unknown setting."""
    spec = pod_spec(workload)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_is_restricted(container: Object) -> None:
    """No way to more privileges, no capability, a root that cannot be written, a /tmp that can."""
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108  (a path in a pod)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_says_what_it_needs(container: Object) -> None:
    """Requests for both, a limit for memory, and none for CPU, which would only make a migration longer."""
    resources = container["resources"]
    assert set(resources["requests"]) == {"cpu", "memory"}
    assert set(resources["limits"]) == {"memory"}
    assert _mebibytes(resources["requests"]["memory"]) <= _mebibytes(resources["limits"]["memory"])


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_image_has_a_version(container: Object) -> None:
    """Never `latest`: a Deployment would not see that it has changed, and the Job would get no name of its own."""
    assert container["image"].rpartition(":")[2] not in {"", "latest", container["image"]}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_url_comes_from_a_file(container: Object) -> None:
    """The Secret is mounted, read-only; no variable of the environment holds it."""
    environment = _environment(container)
    assert environment["DATABASE_URL_FILE"] == "/run/secrets/database/url"
    assert "DATABASE_URL" not in environment
    assert {"name": "database", "mountPath": "/run/secrets/database", "readOnly": True} in container["volumeMounts"]


@pytest.mark.parametrize("container", OURS)
def test_headstart_is_not_killed_and_says_why_it_ended(container: Object) -> None:
    """No probe, the termination message where Headstart writes it, and no setting that does not exist."""
    assert not {"livenessProbe", "startupProbe", "readinessProbe", "lifecycle"} & set(container)
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert set(_environment(container)) <= {setting.name for setting in SETTINGS} | {"DATABASE_URL_FILE"}


def test_there_is_room_for_what_was_measured() -> None:
    """An upgrade takes up to 80 MiB, and each pg_dump beside it some 20; a wait 31."""
    migrate = _container(_object("job", "Job"), "migrate")
    jobs = int(_environment(migrate)["HEADSTART_BACKUP_JOBS"])
    assert _mebibytes(migrate["resources"]["requests"]["memory"]) >= 80 + jobs * 20
    assert _mebibytes(migrate["resources"]["limits"]["memory"]) >= 1.5 * (80 + jobs * 20)
    wait = _container(_object("wait", "Deployment"), "wait")
    assert _mebibytes(wait["resources"]["limits"]["memory"]) >= 2 * 31


def test_both_ways_to_migrate_are_the_same_container() -> None:
    """The Job's container and the initContainer differ in nothing, nor does the hook but for its annotations."""
    job, hook = _object("job", "Job"), _object("hook", "Job")
    assert _container(job, "migrate") == _container(_object("init-container", "Deployment"), "migrate")
    job["spec"].pop("ttlSecondsAfterFinished")
    assert job["spec"] == hook["spec"]
    hooks = {"helm.sh/hook": "pre-install,pre-upgrade", "argocd.argoproj.io/hook": "PreSync"}
    assert hooks.items() <= hook["metadata"]["annotations"].items()


def test_a_job_ends_by_itself_before_kubernetes_ends_it() -> None:
    """All tries with their deadlines, grace periods and pauses fit into activeDeadlineSeconds."""
    job = _object("job", "Job")
    spec = job["spec"]
    each = _deadline(_container(job, "migrate")) + pod_spec(job)["terminationGracePeriodSeconds"]
    pauses = [min(10 * 2**n, 360) for n in range(spec["backoffLimit"])]  # of the Job controller
    assert (spec["backoffLimit"] + 1) * each + sum(pauses) < spec["activeDeadlineSeconds"]


def test_an_app_waits_longer_than_its_job_may_take() -> None:
    """Exit 20 of the waiting container means that the Job has ended, and no rollout is called failed before that."""
    app = _object("job", "Deployment")
    waits = parse_duration(_environment(_container(app, "wait"))["HEADSTART_WAIT_TIMEOUT"])
    assert _object("job", "Job")["spec"]["activeDeadlineSeconds"] < waits < app["spec"]["progressDeadlineSeconds"]


def test_a_rollout_that_still_migrates_has_not_failed() -> None:
    """The Deployment's progress deadline is above that of the migration in its pods."""
    app = _object("init-container", "Deployment")
    grace = pod_spec(app)["terminationGracePeriodSeconds"]
    assert _deadline(_container(app, "migrate")) + grace < app["spec"]["progressDeadlineSeconds"]


def test_headstart_has_time_to_roll_back() -> None:
    """The grace period is well above the two seconds in which Headstart ends after SIGTERM."""
    for overlay in OVERLAYS:
        for one in RENDERED[overlay]:
            assert pod_spec(one)["terminationGracePeriodSeconds"] >= 10


def test_a_failure_that_stays_ends_the_job_at_once() -> None:
    """The exit codes in podFailurePolicy exist, are sorted as the API wants them, and none is in two rules."""
    job = _object("job", "Job")
    assert pod_spec(job)["restartPolicy"] == "Never"
    rules = {rule["action"]: rule for rule in job["spec"]["podFailurePolicy"]["rules"]}
    assert rules["Ignore"]["onPodConditions"] == [{"type": "DisruptionTarget"}]
    at_once, again = (rules[action]["onExitCodes"]["values"] for action in ("FailJob", "Count"))
    assert at_once == sorted({Exit.USAGE, 10, 21, 22, 60, 61, 70, 71, 72, 73, Exit.VERIFICATION_FAILED})
    assert again == [Exit.NOT_READY, Exit.LOCK_NOT_OBTAINED, Exit.TABLE_LOCKS_NOT_OBTAINED]
    assert {*at_once, *again} <= {int(one) for one in Exit}
    for action in ("FailJob", "Count"):
        assert rules[action]["onExitCodes"]["containerName"] == "migrate"
        assert rules[action]["onExitCodes"]["operator"] == "In"


def test_the_backups_outlive_the_app() -> None:
    """The claim is in no overlay, and every claim that one mounts is that one."""
    (claim,) = render(MANIFESTS / "backups")
    for overlay in OVERLAYS:
        for one in RENDERED[overlay]:
            assert one["kind"] != "PersistentVolumeClaim"
            claims = [
                each["persistentVolumeClaim"] for each in pod_spec(one)["volumes"] if "persistentVolumeClaim" in each
            ]
            assert {each["claimName"] for each in claims} <= {claim["metadata"]["name"]}


def _deadline(container: Object) -> float:
    return parse_duration(_environment(container)["HEADSTART_DEADLINE"])


def _mebibytes(quantity: str) -> int:
    assert quantity.endswith("Mi")
    return int(quantity.removesuffix("Mi"))
