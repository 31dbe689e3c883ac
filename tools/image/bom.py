"""The bill of materials of the image, as CycloneDX 1.6, and what scanners and lawyers look for beside it."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

BOM = Path("usr/share/headstart/bom.cdx.json")


def write(root: Path, base: Path, files: Iterable[Path]) -> None:
    """Write the bill of materials, dpkg's word on the packages that files were taken from, and their licences.

    Args:
        root: what goes into the image.
        base: the root of the image that it is put on, whose packages are listed too.
        files: what was taken from this file system's packages, by its path here.
    """
    owners = _owners()
    mine = sorted({owners[real] for path in files if (real := os.path.realpath(path)) in owners})
    status = _paragraphs(Path("/var/lib/dpkg/status"))
    there = _paragraphs(base / "var/lib/dpkg/status")
    added = {name: status[name] for name in mine if name not in there}
    for name, fields in added.items():
        # Where scanners look for packages whose database is not dpkg's own.
        record = root / "var/lib/dpkg/status.d" / name
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text("".join(f"{key}: {value}\n" for key, value in fields.items() if key != "Conffiles"))
        licence = Path("/usr/share/doc") / name / "copyright"
        if licence.exists():
            to = root / licence.relative_to("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(licence, to)
    release = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', (base / "etc/os-release").read_text()))
    distro = f"debian-{release.get('VERSION_ID', '')}".rstrip("-")
    components = [_debian(name, fields, distro) for name, fields in sorted({**there, **added}.items())]
    components += [_python(path) for path in sorted(root.glob("usr/local/lib/python3*/dist-packages/*.dist-info"))]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "headstart"}},
        "components": components,
    }
    (root / BOM).parent.mkdir(parents=True, exist_ok=True)
    (root / BOM).write_text(json.dumps(bill, indent=1) + "\n")


def _owners() -> dict[str, str]:
    """The package of each file, by its path without links: dpkg may know it by the one before /usr was merged."""
    return {
        os.path.realpath(line): listing.name.removesuffix(".list").partition(":")[0]
        for listing in Path("/var/lib/dpkg/info").glob("*.list")
        for line in listing.read_text(encoding="utf-8").splitlines()
    }


def _paragraphs(path: Path) -> dict[str, dict[str, str]]:
    """Dpkg's status file: the fields of each package by its name. deb-control(5)."""
    found = {}
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"(?ms)^([\w-]+): ?(.*?)(?=^\S|\Z)", paragraph + "\n"))
        fields = {key: value.rstrip("\n") for key, value in fields.items()}
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields
    return found


def _debian(name: str, fields: dict[str, str], distro: str) -> dict[str, Any]:
    version, architecture = fields["Version"], fields["Architecture"]
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:deb/debian/{name}@{quote(version, safe='.-~')}?arch={architecture}&distro={distro}",
    }


def _python(folder: Path) -> dict[str, Any]:
    metadata = (folder / "METADATA").read_text(encoding="utf-8").partition("\n\n")[0]
    fields = dict(re.findall(r"(?m)^(Name|Version|License-Expression|License): (.+)$", metadata))
    name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
    component = {
        "type": "library",
        "name": name,
        "version": fields["Version"],
        "purl": f"pkg:pypi/{name}@{fields['Version']}",
    }
    licence = fields.get("License-Expression")
    return {**component, "licenses": [{"expression": licence}]} if licence else component
