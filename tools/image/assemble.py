"""Collect what the image holds beyond its base, in a folder that becomes one layer. Runs in the image's build.

Programs are taken by name, libraries because a program or a module needs them, Python's standard library without the
parts that only developers use. Everything is compiled, and bears one and the same time: the same sources give the
same bytes.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

from bom import write as write_bom

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
STDLIB = Path("/usr/lib") / PYTHON
SITE = Path("/usr/local/lib") / PYTHON / "dist-packages"
DEBIAN_SITE = Path("/usr/lib/python3/dist-packages")

#: Parts of the standard library that no migration runs: tests, editors, installers, terminals, toolkits, databases.
DROPPED = frozenset(
    {
        "__pycache__", "_pyrepl", "curses", "dbm", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "sqlite3", "test",
        "tkinter", "turtle.py", "turtledemo", "unittest", "venv", "wsgiref", "xmlrpc", "pydoc.py", "doctest.py",
        "pdb.py",
    }
)  # fmt: skip
#: Compiled modules that go with them, and those that only tests load.
DROPPED_MODULES = ("_crypt", "_curses", "_dbm", "_gdbm", "_sqlite3", "_test", "_tkinter", "_xx", "readline", "xx")
#: Of packages: what is only of use to those who build or test them.
DROPPED_PACKAGES = ("**/*.c", "**/*.h", "**/*.hpp", "**/*.cpp", "**/*.pyx", "**/*.pxd", "**/*.pxi", "**/*.pyi", "bin",
                    "greenlet/tests", "greenlet/platform", "sqlalchemy/testing", "alembic/testing", "mako/testing",
                    "mako/ext", "asyncpg/_testbase")  # fmt: skip
DROPPED_SUFFIXES = frozenset({".pxd", ".pyc", ".pyi"})


def main() -> None:
    """Assemble the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, required=True, help="the root of the base image, to see what is there")
    parser.add_argument("--packages", type=Path, required=True, help="Python packages, as pip put them")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    out = Out(asked.out, asked.base)
    out.python(asked.packages)
    out.drivers()
    out.postgres()
    out.own()
    out.libraries()
    write_bom(out.root, asked.base, out.files)
    out.compile()
    out.same_time(int(os.environ["SOURCE_DATE_EPOCH"]))


class Out:
    """The folder, and what has been put there from this stage's file system: `files`, for the bill of materials."""

    def __init__(self, root: Path, base: Path) -> None:
        self.root = root
        self.base = base
        self.files: set[Path] = set()

    def take(self, path: Path) -> None:
        """Copy a file or a link, with its target, unless the base has it."""
        path = path.parent.resolve() / path.name  # /lib is a link to /usr/lib
        if path in self.files or self._in_base(path):
            return
        to = self.root / path.relative_to("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to, follow_symlinks=False)
        self.files.add(path)
        if path.is_symlink():
            self.take(path.parent / path.readlink())

    def _in_base(self, path: Path) -> bool:
        return os.path.lexists(self.base / path.relative_to("/"))

    def python(self, packages: Path) -> None:
        """The interpreter, its standard library without what nobody needs here, and the packages."""
        self.take(Path("/usr/bin/python3"))
        for path in sorted(STDLIB.rglob("*")):
            parts = path.relative_to(STDLIB).parts
            if DROPPED.isdisjoint(parts) and not parts[0].startswith("config-") and path.is_file():
                if parts[0] == "lib-dynload" and parts[-1].startswith(DROPPED_MODULES):
                    continue
                self.take(path)
        for pattern in DROPPED_PACKAGES:
            for path in packages.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(packages, self.root / SITE.relative_to("/"), ignore=shutil.ignore_patterns("__pycache__"))

    def drivers(self) -> None:
        """Psycopg 3 and psycopg2, for an env.py that names one. A user's own, in SITE, come first on Python's path."""
        for path in sorted(DEBIAN_SITE.glob("psycopg*/**/*")):
            if path.is_file() and path.suffix not in DROPPED_SUFFIXES:
                self.take(path)

    def postgres(self) -> None:
        """The client programs of each major version, found where Debian puts them."""
        for program in sorted(Path("/usr/lib/postgresql").glob("*/bin/*")):
            if program.name in {"pg_dump", "pg_restore", "psql"}:
                self.take(program)
        newest = max(Path("/usr/lib/postgresql").iterdir(), key=lambda folder: int(folder.name))
        for name in ("pg_dump", "pg_restore", "psql"):
            link = self.root / "usr/local/bin" / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(newest / "bin" / name)

    def own(self) -> None:
        """The entrypoint, the command, the folders that are written, and the user's name."""
        binaries = self.root / "usr/local/bin"
        shutil.copy2("docker-entrypoint.sh", binaries / "docker-entrypoint.sh")
        command = binaries / "headstart"
        command.write_text("#!/usr/bin/python3\nfrom headstart.__main__ import main\n\nmain()\n")
        for program in (command, binaries / "docker-entrypoint.sh"):
            program.chmod(0o755)
        for name, text in (
            ("passwd", "headstart:x:65532:65532:Headstart:/tmp:/usr/sbin/nologin\n"),
            ("group", "headstart:x:65532:\n"),
        ):
            (self.root / "etc").mkdir(exist_ok=True)
            (self.root / "etc" / name).write_text((self.base / "etc" / name).read_text() + text)
        # Group 0 is what arbitrary users are given: --user 12345:0, and OpenShift by default.
        backups, project = self.root / "backups", self.root / "project"
        backups.mkdir()
        os.chown(backups, 65532, 0)
        backups.chmod(0o775)
        project.mkdir()
        # Certificates of public authorities, for sslrootcert=system.
        bundle = self.root / "etc/ssl/certs/ca-certificates.crt"
        bundle.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2("/etc/ssl/certs/ca-certificates.crt", bundle)
        self.files.add(Path("/usr/share/doc/ca-certificates/copyright"))

    def libraries(self) -> None:
        """What the programs and compiled modules need and the base lacks; symbols for debuggers are removed."""
        binaries = [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink() and _is_elf(path)]
        for path in binaries:
            for needed in _needed(path):
                self.take(needed)
        for path in self.root.rglob("*"):
            if path.is_file() and not path.is_symlink() and _is_elf(path):
                path.chmod(path.stat().st_mode | 0o200)
                subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)

    def compile(self) -> None:
        """Bytecode: instead of the standard library's sources, beside the packages' (a traceback quotes those)."""
        stdlib, *sites = (self.root / folder.relative_to("/") for folder in (STDLIB, SITE, DEBIAN_SITE))
        self._compile(stdlib, legacy=True)
        for source in stdlib.rglob("*.py"):
            source.unlink()
        for site in sites:
            self._compile(site, legacy=False)

    def _compile(self, folder: Path, *, legacy: bool) -> None:
        done = compileall.compile_dir(
            folder,
            stripdir=str(self.root),
            prependdir="/",
            quiet=1,
            legacy=legacy,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not done:
            raise SystemExit(f"{folder} does not compile")

    def same_time(self, seconds: int) -> None:
        """Give every file the same time."""
        for path in (self.root, *self.root.rglob("*")):
            os.utime(path, (seconds, seconds), follow_symlinks=False)


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _needed(path: Path) -> list[Path]:
    """The libraries that the loader finds for a program or a module. ld.so(8), ldd(1)."""
    said = subprocess.run(["ldd", str(path)], check=False, capture_output=True, text=True).stdout
    if "not found" in said:
        raise SystemExit(f"{path} needs a library that is not here:\n{said}")
    words = [line.split() for line in said.splitlines()]
    return [Path(line[2]) for line in words if len(line) > 2 and line[1] == "=>" and line[2].startswith("/")]


if __name__ == "__main__":
    main()
