"""Where a project is and which version table it uses, against what Alembic makes of the same configuration."""

from __future__ import annotations

import io
import re
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Protocol

import pytest
from alembic import command
from alembic.config import CommandLine, Config
from alembic.script import ScriptDirectory

from headstart.errors import ConfigurationError
from headstart.history import Project, locate, read, read_graph
from support.revisions import revision_text, write

ENV = """\
from alembic import context
from sqlalchemy import create_engine

context.configure(connection=create_engine("postgresql://").connect(), target_metadata=None)
"""
SINGLE = ["generic", "async", "pyproject", "pyproject_async"]


class Agree(Protocol):
    """Locate a project from a working directory, and hold the answer against Alembic's."""

    def __call__(self, cwd: Path, config: str = "alembic.ini", *, section: str = "alembic") -> Project:
        """Locate, compare, return."""


@pytest.fixture(name="agree")
def _agree(monkeypatch: pytest.MonkeyPatch) -> Agree:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "path_importer_cache", {})  # where a relative folder was found last time

    def agree(cwd: Path, config: str = "alembic.ini", *, section: str = "alembic") -> Project:
        found = locate(config, cwd=str(cwd), section=section)
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("ALEMBIC_CONFIG", config)
        line = CommandLine()
        toml, ini = line._inis_from_config(line.parser.parse_args(["heads"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the separators of old
            script = ScriptDirectory.from_config(Config(ini, toml_file=toml, ini_section=section))
        assert found.script_location == str(Path(script.dir).absolute())
        assert found.version_locations == tuple(str(p) for p in script._version_locations if p.exists())
        assert (found.recursive, found.sourceless) == (script.recursive_version_locations, script.sourceless)
        graph = read_graph(found)
        if graph is not None:
            assert graph.heads == tuple(script.get_heads())
        return found

    return agree


def scripts(folder: Path, env: str = ENV) -> Path:
    """A script folder with one revision."""
    write(folder, "env.py", env)
    write(folder, "versions/a.py", revision_text("a1"))
    return folder


def init(cwd: Path, template: str, *, package: bool = False) -> None:
    """What `alembic init` does."""
    config = Config(cwd / "alembic.ini", toml_file=cwd / "pyproject.toml", stdout=io.StringIO())
    config.cmd_opts = Namespace(quiet=True)
    command.init(config, str(cwd / "migrations"), template, package=package)


@pytest.mark.parametrize("template", SINGLE)
def test_each_template_is_located_and_conclusive(tmp_path: Path, agree: Agree, template: str) -> None:
    """What `alembic init` writes is found without Alembic, with its default version table."""
    init(tmp_path, template, package=template == "generic")
    write(tmp_path, "migrations/versions/a.py", revision_text("a1"))
    found = agree(tmp_path)
    assert (found.conclusive, found.why) == (True, "")
    assert (found.version_table, found.version_schema) == ("alembic_version", None)
    assert found.script_location == str(tmp_path / "migrations")
    assert found.ini == str(tmp_path / "alembic.ini")
    assert found.toml == (str(tmp_path / "pyproject.toml") if "pyproject" in template else None)
    assert found.here == str(tmp_path)


def test_several_databases_in_one_project_are_refused_with_their_names(tmp_path: Path) -> None:
    """The multidb template migrates several databases at once, which headstart does not."""
    init(tmp_path, "multidb")
    with pytest.raises(ConfigurationError, match=r"databases = engine1, engine2 in .*alembic\.ini") as caught:
        locate("alembic.ini", cwd=str(tmp_path))
    assert "once per database" in caught.value.hint
    assert "ALEMBIC_CONFIG" in caught.value.hint


def test_the_remedy_for_several_databases_works(tmp_path: Path, agree: Agree) -> None:
    """A copy of the multidb configuration that names one database is accepted."""
    init(tmp_path, "multidb")
    text = (tmp_path / "alembic.ini").read_text()
    write(tmp_path, "one.ini", text.replace("databases = engine1, engine2", "databases = engine1"))
    assert agree(tmp_path, "one.ini").conclusive


@pytest.mark.parametrize(
    "options",
    [
        "script_location = db",
        "script_location = ./db/../db",
        "script_location = %(here)s/db",
        "script_location = {root}/db",
        "script_location = db\nprepend_sys_path = .",
        "script_location = db\nprepend_sys_path = . src,lib:other",
        "script_location = db\nprepend_sys_path = .:src\npath_separator = :",
        "script_location = db\nprepend_sys_path = a b;c\npath_separator = ;",
        "script_location = db\nversion_locations = %(here)s/db/versions more",
        "script_location = db\nversion_locations = %(here)s/db/versions, more",
        "script_location = db\nversion_locations = %(here)s/db/versions:more:\npath_separator = os",
        "script_location = db\nversion_locations = %(here)s/db/versions : more\npath_separator = :",
        "script_location = db\nversion_locations = more;db/versions\npath_separator = ;",
        "script_location = db\nversion_locations = more db/versions\npath_separator = space",
        "script_location = db\nversion_locations =\n  more\n  db/versions\npath_separator = newline",
        "script_location = db\nversion_locations = more:db/versions\nversion_path_separator = os",
        "script_location = db\nversion_locations = more:gone\npath_separator = os",
        "script_location = db\nversion_locations =",
        "script_location = db\nrecursive_version_locations = true",
        "script_location = db\nrecursive_version_locations = True",
        "script_location = db\nsourceless = false",
        "script_location = %(folder)s\nfolder = db",
    ],
)
@pytest.mark.parametrize("sub", ["", "config/"])
def test_ini_options_mean_what_they_mean_to_alembic(tmp_path: Path, agree: Agree, options: str, sub: str) -> None:
    """Every way to write folders, from an ini file here or in a subfolder, relative ones from the working directory."""
    for root in {tmp_path, tmp_path / sub}:
        scripts(root / "db")
        write(root, "db/versions/sub/c.py", revision_text("c3", "a1"))
        write(root, "more/b.py", revision_text("b2"))
    write(tmp_path, f"{sub}alembic.ini", f"[alembic]\n{options.format(root=tmp_path)}\n")
    found = agree(tmp_path, f"{sub}alembic.ini")
    assert found.conclusive
    assert found.ini == str(tmp_path / f"{sub}alembic.ini")


@pytest.mark.parametrize(
    ("ini", "toml"),
    [
        (None, '[tool.alembic]\nscript_location = "db"\n'),
        (None, '[tool.alembic]\nscript_location = "%(here)s/db"\nprepend_sys_path = ["."]\n'),
        (None, '[tool.alembic]\nscript_location = "db"\nprepend_sys_path = "."\n'),
        (None, '[tool]\nalembic = { script_location = "db", recursive_version_locations = true }\n'),
        (
            None,
            'tool.alembic.script_location = "db"\ntool.alembic.version_locations = ["more", "%(here)s/db/versions"]\n',
        ),
        (None, '["tool"."alembic"]\nscript_location = "db"\n'),
        ("[alembic]\nscript_location = db\n", '[project]\ndependencies = ["alembic"]\n'),
        ("[alembic]\nscript_location = db\n", '[tool.alembic]\nscript_location = "no"\nversion_locations = ["more"]\n'),
        ("[alembic]\nsqlalchemy.url = x\n", '[tool.alembic]\nscript_location = "db"\n'),
        ("[other]\nscript_location = no\n", '[tool.alembic]\nscript_location = "db"\n'),
        ("[DEFAULT]\nscript_location = no\n", '[tool.alembic]\nscript_location = "db"\n'),
        ("[DEFAULT]\nscript_location = db\n[alembic]\n", ""),
    ],
)
def test_pyproject_alone_or_beside_means_what_it_means_to_alembic(
    tmp_path: Path, agree: Agree, ini: str | None, toml: str
) -> None:
    """The ini file goes first, option by option; what it leaves out comes from [tool.alembic]."""
    scripts(tmp_path / "db")
    write(tmp_path, "more/b.py", revision_text("b2"))
    if ini is not None:
        write(tmp_path, "alembic.ini", ini)
    write(tmp_path, "pyproject.toml", toml)
    found = agree(tmp_path)
    assert found.script_location == str(tmp_path / "db")
    assert (found.ini is None) == (ini is None)
    assert (found.toml is None) == ("alembic" not in toml or "dependencies" in toml)


def test_alembic_config_may_name_a_pyproject_elsewhere(tmp_path: Path, agree: Agree) -> None:
    """%(here)s is the folder of the file that has it, wherever headstart runs."""
    scripts(tmp_path / "app/db")
    write(tmp_path, "app/pyproject.toml", '[tool.alembic]\nscript_location = "%(here)s/db"\n')
    found = agree(tmp_path, "app/pyproject.toml")
    assert found.toml == str(tmp_path / "app/pyproject.toml")
    assert found.here == str(tmp_path / "app")


def test_another_section_is_read_instead(tmp_path: Path, agree: Agree) -> None:
    """`--name` chooses the ini file's section."""
    scripts(tmp_path / "db")
    write(tmp_path, "alembic.ini", "[alembic]\nscript_location = no\n[other]\nscript_location = db\n")
    assert agree(tmp_path, section="other").section == "other"


@pytest.mark.parametrize("location", ["shop:db", "shop.inner:db", "shop:inner:db"])
def test_a_folder_inside_a_package_is_found_without_importing_it(tmp_path: Path, agree: Agree, location: str) -> None:
    """`package:folder` is looked up where prepend_sys_path says; nothing of the package runs."""
    for name in ("shop", "shop/inner"):
        write(tmp_path, f"src/{name}/__init__.py", "")
        scripts(tmp_path / "src" / name / "db")
    write(tmp_path, "alembic.ini", f"[alembic]\nscript_location = {location}\nprepend_sys_path = src\n")
    try:
        expected = agree(tmp_path)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
            del sys.modules[name]
    write(tmp_path, "src/shop/__init__.py", "raise SystemExit('imported')")
    write(tmp_path, "src/shop/inner/__init__.py", "raise SystemExit('imported')")
    assert locate("alembic.ini", cwd=str(tmp_path)) == expected
    assert expected.conclusive


def test_version_locations_may_be_inside_a_package(tmp_path: Path) -> None:
    """Each version location may be a package's folder."""
    write(tmp_path, "shop/__init__.py", "raise SystemExit('imported')")
    write(tmp_path, "shop/more/b.py", revision_text("b2"))
    scripts(tmp_path / "db")
    write(
        tmp_path,
        "alembic.ini",
        "[alembic]\nscript_location = db\nprepend_sys_path = .\nversion_locations = shop:more,db/versions\n",
    )
    found = locate("alembic.ini", cwd=str(tmp_path))
    assert found.version_locations == (str(tmp_path / "shop/more"), str(tmp_path / "db/versions"))


def test_a_package_spread_over_folders_is_left_to_alembic(tmp_path: Path) -> None:
    """Where a namespace package's folder is, only importing it tells."""
    for place in ("one", "two"):
        scripts(tmp_path / place / "spread/db")
    write(tmp_path, "alembic.ini", "[alembic]\nscript_location = spread:db\nprepend_sys_path = one two\n")
    found = locate("alembic.ini", cwd=str(tmp_path))
    assert not found.conclusive
    assert "spread" in found.why
    assert read_graph(found) is None


def test_sourceless_projects_are_inconclusive(tmp_path: Path) -> None:
    """Compiled revisions are Alembic's to read."""
    scripts(tmp_path / "db")
    write(tmp_path, "alembic.ini", "[alembic]\nscript_location = db\nsourceless = true\n")
    found = locate("alembic.ini", cwd=str(tmp_path))
    assert (found.conclusive, found.sourceless) == (False, True)
    assert "sourceless" in found.why
    assert read_graph(found) is None


def test_what_env_py_says_for_certain_is_the_projects(tmp_path: Path) -> None:
    """The version table that env.py writes out is the project's, and the project is conclusive."""
    found = located(tmp_path, ENV.replace("target_metadata=None", "version_table='v', version_table_schema='s'"))
    assert (found.conclusive, found.why) == (True, "")
    assert (found.version_table, found.version_schema) == ("v", "s")


def test_a_doubt_about_env_py_makes_the_project_inconclusive(tmp_path: Path) -> None:
    """Whatever only running env.py can tell is the reason why the project is inconclusive; its files are read."""
    found = located(tmp_path, ENV + "context.execute('set search_path to app')\n")
    assert (found.conclusive, found.why) == (False, "env.py has 'search_path' in it")
    assert read_graph(found) is not None


def test_a_history_without_revisions_is_inconclusive(tmp_path: Path) -> None:
    """Nothing is pending in an empty history whatever the database holds, so it is never the last word."""
    located(tmp_path, ENV)
    for folder in ("db/versions", "more"):
        write(tmp_path, f"{folder}/__init__.py", "")
    (tmp_path / "db/versions/a.py").unlink()
    write(tmp_path, "alembic.ini", "[alembic]\nscript_location = db\nversion_locations = db/versions more\n")
    found = read("alembic.ini", cwd=str(tmp_path))
    assert found.empty
    assert not found.project.conclusive
    assert found.project.why == f"there are no revision files in {tmp_path}/db/versions, {tmp_path}/more"


@pytest.mark.parametrize("sourceless", ["true", "false"])
def test_a_history_with_revisions_or_of_unknown_ones_is_not_empty(tmp_path: Path, sourceless: str) -> None:
    """Only a history that was read and has nothing in it is called empty."""
    scripts(tmp_path / "db")
    write(tmp_path, "alembic.ini", f"[alembic]\nscript_location = db\nsourceless = {sourceless}\n")
    found = read("alembic.ini", cwd=str(tmp_path))
    assert not found.empty
    assert found.project.conclusive is (sourceless == "false")


def located(root: Path, env: str) -> Project:
    """A project with this env.py, located."""
    scripts(root / "db")
    write(root, "db/env.py", env.encode("latin-1"))
    write(root, "alembic.ini", "[alembic]\nscript_location = db\n")
    return locate("alembic.ini", cwd=str(root))


def refused(root: Path, config: str = "alembic.ini", *, explicit: bool = False) -> ConfigurationError:
    """The refusal, which is always one line with a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        locate(config, cwd=str(root), explicit=explicit)
    assert "\n" not in caught.value.message
    return caught.value


def test_no_configuration_at_all_is_told_with_both_names(tmp_path: Path) -> None:
    """Neither alembic.ini nor [tool.alembic]: both places are named."""
    error = refused(tmp_path)
    assert f"{tmp_path}/alembic.ini" in error.message
    assert f"[tool.alembic] in {tmp_path}/pyproject.toml" in error.message
    assert "ALEMBIC_CONFIG" in error.hint


@pytest.mark.parametrize("config", ["gone.ini", "gone/pyproject.toml"])
def test_a_configuration_that_was_asked_for_has_to_be_there(tmp_path: Path, config: str) -> None:
    """An explicit ALEMBIC_CONFIG is never replaced by something else that happens to be there."""
    scripts(tmp_path / "db")
    write(tmp_path, "pyproject.toml", '[tool.alembic]\nscript_location = "db"\n')
    write(tmp_path, "alembic.ini", "[alembic]\nscript_location = db\n")
    assert refused(tmp_path, config, explicit=True).message == f"ALEMBIC_CONFIG: there is no file {tmp_path}/{config}"


def test_a_pyproject_without_the_table_is_told(tmp_path: Path) -> None:
    """A pyproject.toml that was asked for needs [tool.alembic]."""
    write(tmp_path, "pyproject.toml", "[project]\n")
    assert "no [tool.alembic] in" in refused(tmp_path, "pyproject.toml", explicit=True).message


@pytest.mark.parametrize(
    ("ini", "cause"),
    [
        ("[alembic]\n", r"no script_location in \[alembic\] of .*alembic\.ini"),
        ("[other]\nscript_location = db\n", r"no script_location in \[alembic\]"),
        ("script_location = db\n", r"alembic\.ini is not a valid ini file, line 1 \(MissingSectionHeaderError\)"),
        ("[alembic]\nsqlalchemy.url = a\nsecret", r"alembic\.ini is not a valid ini file, line 3 \(ParsingError\)"),
        ("[alembic]\na = 1\na = 2\n", r"line 3 \(DuplicateOptionError\)"),
        ("[alembic]\nscript_location = %(nowhere)s\n", r"script_location in \[alembic\] of .* cannot be interpolated"),
        ("[alembic]\nscript_location = 5%\n", "cannot be interpolated"),
        ("[alembic]\nscript_location = gone\n", "script_location = gone in .*: there is no folder .*/gone"),
        ("[alembic]\nscript_location = empty\n", r"there is no env\.py in .*/empty"),
        ("[alembic]\nscript_location = bare\n", r"there is no folder of revision files: .*/bare/versions"),
        ("[alembic]\nscript_location = db\nversion_locations = x y\n", "no folder of revision files: .*/x, .*/y"),
        (
            "[alembic]\nscript_location = db\nversion_locations = x\npath_separator = ,\n",
            "path_separator = ',' in .* is not known",
        ),
        ("[alembic]\nscript_location = gone.package:db\n", "there is no package gone.package"),
        ("[alembic]\nscript_location = wrong\n", r"wrong/env\.py, line 2 is not valid Python"),
        (b"[alembic]\nscript_location = \xff\n", "cannot be read: UnicodeDecodeError"),
    ],
)
def test_wrong_ini_files_are_told_with_name_and_line(tmp_path: Path, ini: str | bytes, cause: str) -> None:
    """Each way in which an ini file or what it names can be wrong has its own sentence."""
    scripts(tmp_path / "db")
    write(tmp_path, "bare/env.py", ENV)
    write(tmp_path, "wrong/env.py", "# version_table\ndef (:\n")
    (tmp_path / "empty").mkdir()
    write(tmp_path, "alembic.ini", ini)
    assert re.search(cause, refused(tmp_path).message)


def test_a_line_of_the_ini_file_is_never_quoted(tmp_path: Path) -> None:
    """The line that cannot be parsed may be the one with the password."""
    write(tmp_path, "alembic.ini", "[alembic]\nscript_location = db\npostgresql//u:hunter2@h/d\n")
    assert "hunter2" not in str(vars(refused(tmp_path)))


@pytest.mark.parametrize(
    ("toml", "cause"),
    [
        ("[tool.alembic\n", "pyproject.toml is not valid TOML"),
        ('tool.alembic = "x"\n', "tool.alembic in .* has to be a table"),
        ("[tool.alembic]\nscript_location = 1\n", "script_location in .* has to be a string"),
        ('[tool.alembic]\nscript_location = "%(nowhere)s"\n', "cannot be interpolated"),
        ('[tool.alembic]\nscript_location = "db"\nversion_locations = "db"\n', "has to be a list of strings"),
        ('[tool.alembic]\nscript_location = "db"\nsourceless = "true"\n', "has to be true or false"),
    ],
)
def test_wrong_toml_files_are_told(tmp_path: Path, toml: str, cause: str) -> None:
    """Each way in which [tool.alembic] can be wrong has its own sentence."""
    scripts(tmp_path / "db")
    write(tmp_path, "pyproject.toml", toml)
    assert re.search(cause, refused(tmp_path).message)


def test_a_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    """alembic.ini is a folder: a volume was mounted where a file was meant."""
    (tmp_path / "alembic.ini").mkdir()
    assert "alembic.ini is a folder" in refused(tmp_path).message
