"""What `kubectl kustomize FOLDER` prints, for as much of kustomize as deploy/kubernetes uses.

kustomize is one Go program, which neither Debian nor PyPI carries in a version of today. So this renders the few fields
that the kustomizations here have, refuses every other one, and is itself held against the real thing wherever a
`kubectl` is on the machine (tests/kubernetes/test_manifests.py).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Object: TypeAlias = dict[str, Any]
"""A Kubernetes object, as YAML gives it."""

_FIELDS = {"apiVersion", "kind", "resources", "patches", "images", "replacements"}

# By what a strategic merge tells the items of a list apart. Lists that are not named here are replaced whole.
_MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "initContainers": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}


def render(folder: Path) -> list[Object]:
    """The objects of the kustomization in `folder`.

    Raises:
        ValueError: it uses something that this renderer does not know.
    """
    kustomization = load(folder / "kustomization.yaml")[0]
    if unknown := set(kustomization) - _FIELDS:
        raise ValueError(f"{folder}: this renderer does not know {sorted(unknown)}")
    objects: list[Object] = []
    for name in kustomization.get("resources", ()):
        path = folder / name
        objects += render(path) if path.is_dir() else load(path)
    for patch in kustomization.get("patches", ()):
        _only(patch, "path")
        for change in load(folder / patch["path"]):
            (target,) = [one for one in objects if identity(one) == identity(change)]
            merged = _merge(target, change)
            target.clear()
            target.update(merged)
    for image in kustomization.get("images", ()):
        _only(image, "name", "newName", "newTag")
        for container in (each for one in objects for each in containers(one)):
            _set_image(container, image)
    for replacement in kustomization.get("replacements", ()):
        _replace(objects, replacement)
    return objects


def load(path: Path) -> list[Object]:
    """The documents of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]


def set_image(folder: Path, name: str, image: str) -> None:
    """What `kustomize edit set image NAME=IMAGE` does in `folder`."""
    path = folder / "kustomization.yaml"
    (kustomization,) = load(path)
    new_name, _, new_tag = image.rpartition(":")
    others = [one for one in kustomization.get("images", ()) if one["name"] != name]
    kustomization["images"] = [*others, {"name": name, "newName": new_name, "newTag": new_tag}]
    path.write_text(yaml.safe_dump(kustomization, sort_keys=False), encoding="utf-8")


def identity(one: Object) -> tuple[str, str]:
    """Kind and name: what a patch has in common with what it patches."""
    return one["kind"], one["metadata"]["name"]


def pod_spec(one: Object) -> Object:
    """The spec of the pods that a Deployment or a Job makes; empty for what makes none."""
    spec: Object = one.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def containers(one: Object) -> Iterator[Object]:
    """The containers of an object's pods, those that run first first."""
    spec = pod_spec(one)
    yield from spec.get("initContainers", ())
    yield from spec.get("containers", ())


def _only(given: Mapping[str, Any], *known: str) -> None:
    if unknown := set(given) - set(known):
        raise ValueError(f"this renderer does not know {sorted(unknown)}")


def _merge(target: Any, change: Any, field: str = "") -> Any:
    """A strategic merge: maps key by key, null deletes, lists by their merge key, with what is new first."""
    if isinstance(target, dict) and isinstance(change, dict):
        merged = copy.deepcopy(target)
        for key, value in change.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = _merge(target.get(key), value, key)
        return merged
    if isinstance(target, list) and isinstance(change, list) and field in _MERGE_KEYS:
        key = _MERGE_KEYS[field]
        changes = {one[key]: one for one in change}
        known = {one[key] for one in target}
        return [
            *(copy.deepcopy(one) for one in change if one[key] not in known),
            *(_merge(one, changes.get(one[key], {})) for one in target),
        ]
    return copy.deepcopy(change)


def _set_image(container: Object, image: Mapping[str, str]) -> None:
    name, _, tag = container["image"].partition(":")
    if name == image["name"]:
        name, tag = image.get("newName", name), image.get("newTag", tag)
        container["image"] = f"{name}:{tag}" if tag else name


def _replace(objects: list[Object], replacement: Object) -> None:
    """Copy a part of one field into a part of others."""
    _only(replacement, "source", "targets")
    source = replacement["source"]
    _only(source, "kind", "fieldPath", "options")
    (origin,) = [one for one in objects if one["kind"] == source["kind"]]
    holder, key = _walk(origin, source["fieldPath"])
    value = holder[key].split(source["options"]["delimiter"])[source["options"]["index"]]
    for target in replacement["targets"]:
        _only(target, "select", "fieldPaths", "options")
        _only(target["select"], "kind")
        delimiter, index = target["options"]["delimiter"], target["options"]["index"]
        for one in objects:
            if one["kind"] != target["select"]["kind"]:
                continue
            for path in target["fieldPaths"]:
                holder, key = _walk(one, path)
                parts = holder[key].split(delimiter)
                parts[index : index + 1] = [value]  # past the end it is added
                holder[key] = delimiter.join(parts)


def _walk(one: Object, path: str) -> tuple[Any, Any]:
    """The map or list that holds the field at `path`, and the field's key in it."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = one
    for part in way:
        place = place[part]
    return place, last
