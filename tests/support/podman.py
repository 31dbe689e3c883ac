"""Pods from Kubernetes manifests, under podman: what a kubelet does, as far as Debian 12's podman 4.3 does it.

It plays Pods. So what the controllers add (a Job's tries, a Deployment's replicas) is not run here, but checked as
numbers in tests/kubernetes/test_policy.py; and of the pod itself `Cluster.adapted` changes this, and nothing else:

- podman removes an init container that has ended, and its log with it, unless an annotation asks for it to be kept.
- It applies the pod's restartPolicy to init containers too, and starts one that has succeeded once more: it is set to
  Never.
- It makes of an emptyDir a volume with the bare name that the manifest gives, shared with every other pod: the pod's
  name is put before it.
- Secrets and claims get the test's prefix, as a namespace would keep them apart. A secret volume without `optional` is
  a nil pointer to podman, and it hands on the values of a Secret without decoding them from base64.
- It publishes each containerPort on the host, where two replicas cannot both have it: ports are left out.
- /dev/termination-log, which a kubelet mounts, is mounted, and `db` is a line in /etc/hosts instead of a Service.

It ignores fsGroup (a volume is given to the user of the first container that mounts it, which comes to the same for one
user), seccompProfile (its own default profile is on), resource requests and readiness probes, which stay in place.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from support.engine import Done
from support.kustomize import Object, pod_spec
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

# What podman does not find out by itself where there is neither systemd nor crun, and where the machine's own limits
# are below those that it would set.
_SETTINGS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""

_KEEP_INIT_CONTAINERS = {"io.podman.annotations.init.container.type": "always"}


class Database(NamedTuple):
    """A database: its URL for pods, the one for the test itself, and the first with a wrong password."""

    url: str
    from_here: str
    wrong: str


class Podman:
    """The podman command, set up for a machine without systemd."""

    def __init__(self, folder: Path) -> None:
        settings = folder / "containers.conf"
        settings.write_text(_SETTINGS, encoding="utf-8")
        self._environ = {**os.environ, "CONTAINERS_CONF": str(settings)}

    @staticmethod
    def missing() -> str | None:
        """Why no pod can be run here, or None."""
        for program in ("podman", "runc", "catatonit"):
            if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/libexec/podman") is None:
                return f"there is no {program}: tests/image/install-engine.sh installs it"
        if os.geteuid() != 0:
            return "podman's bridge networks need root"
        return None

    def __call__(
        self, *words: str | Path, check: bool = True, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> Done:
        """Run a podman command to its end, and fail the test if it fails, unless `check` is False."""
        ran = subprocess.run(
            ["podman", *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            env={**self._environ, **(env or {})},
            input=stdin,
            timeout=300,
        )
        done = Done(ran.returncode, ran.stdout, ran.stderr)
        assert not check or done.code == 0, f"podman {' '.join(map(str, words))}\n{done}"
        return done

    def background(self, *words: str | Path, said: Path) -> subprocess.Popen[bytes]:
        """Start a podman command whose output goes into the file `said`."""
        with said.open("wb") as out:
            return subprocess.Popen(
                ["podman", *map(str, words)],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def inspect(self, name: str) -> dict[str, Any] | None:
        """What podman knows of a container, pod or image; None if there is none of that name."""
        done = self("inspect", name, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
        return found[0] if done.code == 0 and found else None

    def load(self, docker: Callable[..., Done], image: str) -> None:
        """Bring an image over from docker, unless it is here already."""
        here = self.inspect(f"localhost/{image}")
        if here is None or f"sha256:{here['Id']}" != json.loads(docker("inspect", image).stdout)[0]["Id"]:
            with tempfile.TemporaryDirectory() as folder:
                archive = Path(folder) / "image.tar"
                docker("save", "--output", archive, image)
                self("load", "--quiet", "--input", archive)


class Pod:
    """A pod that was played. Its containers are named as in the manifest."""

    def __init__(self, podman: Podman, name: str, playing: subprocess.Popen[bytes], messages: Path) -> None:
        self.name = name
        self._podman = podman
        self._playing = playing
        self._messages = messages

    def state(self, container: str) -> str:
        """`created` (not started), `running` or `exited`; `absent` when there is no such container yet."""
        found = self._podman.inspect(f"{self.name}-{container}")
        state = "absent" if found is None else str(found["State"]["Status"])
        return "exited" if state == "stopped" else state  # until podman has cleaned up after it

    def ended(self, container: str, *, seconds: float = 90) -> int:
        """Wait for a container's end and return its exit code."""
        eventually(lambda: self.state(container) == "exited", f"{self.name}-{container} ends", seconds=seconds)
        found = self._podman.inspect(f"{self.name}-{container}")
        assert found is not None
        return int(found["State"]["ExitCode"])

    def started(self, container: str, *, seconds: float = 90) -> None:
        """Wait until a container runs."""
        eventually(lambda: self.state(container) == "running", f"{self.name}-{container} runs", seconds=seconds)

    def settled(self, *, seconds: float = 90) -> str:
        """Wait until podman has run the init containers and started the others, and return what kept it from that."""
        if self._playing.wait(timeout=seconds) == 0:
            return ""
        return self._messages.with_suffix(".out").read_text(encoding="utf-8")

    def logs(self, container: str) -> Done:
        """What a container has said so far."""
        return self._podman("logs", f"{self.name}-{container}", check=False)

    def message(self, container: str) -> str:
        """What a container has left in its /dev/termination-log."""
        return (self._messages / container).read_text(encoding="utf-8")

    def inside(self, container: str, *words: str) -> Done:
        """Run a program in a running container."""
        return self._podman("exec", f"{self.name}-{container}", *words, check=False)

    def stop(self, container: str, *, seconds: int) -> None:
        """SIGTERM, and SIGKILL after as many seconds: what the kubelet does with terminationGracePeriodSeconds."""
        self._podman("stop", "--time", str(seconds), f"{self.name}-{container}")

    def remove(self) -> None:
        """End and remove the pod."""
        self._podman("pod", "rm", "--force", "--time", "0", self.name, check=False)
        self._playing.kill()
        self._playing.wait()


class Cluster:
    """A namespace with a network: pods, secrets and claims that go with the test."""

    def __init__(self, podman: Podman, network: str, hosts: Mapping[str, str], folder: Path) -> None:
        """`hosts` are names that pods know, with their addresses: Debian's podman 4.3 has no DNS of its own."""
        self.podman = podman
        self.prefix = f"headstart-test-{secrets.token_hex(4)}"
        self.pods: list[Pod] = []
        self._network = network
        self._hosts = hosts
        self._folder = folder
        self._volumes: set[str] = set()
        self._secrets: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pod in self.pods:
            pod.remove()
        for name in self._volumes:
            self.podman("volume", "rm", "--force", name, check=False)
        for name in self._secrets:
            self.podman("secret", "rm", name, check=False)

    def secret(self, name: str, **values: str) -> None:
        """Create a Secret."""
        given = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{self.prefix}-{name}"}, "data": values}
        self.podman("secret", "create", f"{self.prefix}-{name}", "-", stdin=yaml.safe_dump(given))
        self._secrets.add(f"{self.prefix}-{name}")

    def play(self, one: Object) -> Pod:
        """Make a pod as the Deployment or Job `one` does, and return at once."""
        name = f"{self.prefix}-{one['metadata']['name']}-{len(self.pods)}"
        messages = self._folder / name
        messages.mkdir()
        manifest = self._folder / f"{name}.yaml"
        manifest.write_text(yaml.safe_dump(self.adapted(one, name, messages)), encoding="utf-8")
        playing = self.podman.background(
            "play", "kube", "--network", self._network, manifest, said=manifest.with_suffix(".out")
        )
        self.pods.append(Pod(self.podman, name, playing, messages))
        return self.pods[-1]

    def adapted(self, one: Object, name: str, messages: Path) -> Object:
        """The pod of a Deployment or Job, as podman 4.3 takes it: see above for what is changed."""
        spec = copy.deepcopy(pod_spec(one))
        spec["restartPolicy"] = "Never"
        spec["hostAliases"] = [{"ip": address, "hostnames": [host]} for host, address in self._hosts.items()]
        renamed = {}
        for volume in spec["volumes"]:
            if "emptyDir" in volume:
                renamed[volume["name"]] = volume["name"] = f"{name}-{volume['name']}"
                self._volumes.add(volume["name"])
            elif "secret" in volume:
                volume["secret"] |= {"secretName": f"{self.prefix}-{volume['secret']['secretName']}", "optional": False}
                self._volumes.add(volume["secret"]["secretName"])
            else:
                claim = volume["persistentVolumeClaim"]
                claim["claimName"] = f"{self.prefix}-{claim['claimName']}"
                self._volumes.add(claim["claimName"])
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            container.pop("ports", None)
            for mount in container["volumeMounts"]:
                mount["name"] = renamed.get(mount["name"], mount["name"])
            path = messages / container["name"]
            path.touch()
            path.chmod(0o666)  # as the kubelet makes it: any user may write
            volume = f"message-{container['name']}"
            spec["volumes"].append({"name": volume, "hostPath": {"path": str(path), "type": "File"}})
            place = container.get("terminationMessagePath", "/dev/termination-log")
            container["volumeMounts"].append({"name": volume, "mountPath": place})
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": _KEEP_INIT_CONTAINERS},
            "spec": spec,
        }
