"""The checks in their order: first those of the files, then those that run the revisions, on one scratch server."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from headstart import history
from headstart.commands.check import baseline, sources
from headstart.commands.check.finding import Finding, Options, Report
from headstart.commands.check.git import read_base
from headstart.errors import BrokenHistoryError, MigrationFailedError
from headstart.history.graph import Graph, build_graph
from headstart.history.plan import decide
from headstart.steps.stage import Stage
from headstart.worker.supervise import Worker

if TYPE_CHECKING:
    from headstart.commands.check.round_trip import Walk
    from headstart.history import History
    from headstart.postgres.scratch import Scratch
    from headstart.steps.run import Run

_BROKEN = "the history is broken"
_OF_NEW = frozenset({"rules", "external-sql"})
"""Checks that judge new revisions alone."""
_REPLAYED = frozenset({"round-trip", "models", "schema-file", "rules"})


async def check(run: Run, options: Options) -> Report:
    """Run the checks.

    Args:
        run: this run; its database is read by `drift` alone.
        options: which checks, and against what.

    Raises:
        ConfigurationError: there is no project, its env.py fails, there is no such git base, no scratch server, or the
            baseline cannot be read (10).
    """
    started = time.monotonic()
    report = Report(checks=options.checks)
    found: list[Finding] = []
    project = None
    async with Worker(cwd=run.cwd, environ=run.environ) as worker:
        try:
            files = history.read(
                run.settings.config, cwd=run.cwd, explicit=run.settings.config_explicit, section=run.section
            )
            project = files.project
            history.check_sources(project)
            graph = await _graph(run, worker, files)
        except BrokenHistoryError as error:
            found.append(_broken(error))
            report.not_run = {each: _BROKEN for each in options.checks if each != "heads"}
        else:
            report.revisions = len(graph.revisions)
            await _Checks(run, worker, options, report, found, files, graph).all()
    place = baseline.place(run, project, options.baseline)
    known = baseline.read(place, needed=options.baseline is not None and not options.write_baseline)
    complete = {each for each in options.checks if each not in report.not_run}
    if options.write_baseline:
        others = {key: message for key, message in known.items() if not _was_judged(key, complete, report.released)}
        baseline.write(place, found, others)
        known = {**others, **{each.key: each.message for each in found}}
    keys = {each.key for each in found}
    report.findings = [each for each in found if each.key not in known]
    report.accepted = [each for each in found if each.key in known]
    report.stale = [key for key in known if key not in keys and _was_judged(key, complete, report.released)]
    report.baseline = str(place) if known else None
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _was_judged(key: str, complete: Collection[str], released: Collection[str]) -> bool:
    """Whether what a key of the baseline is about was looked at: by a check that has run, and no released revision."""
    check, *about = key.split(":")
    return check in complete and not (check in _OF_NEW and set(about).intersection(released))


async def _graph(run: Run, worker: Worker, files: History) -> Graph:
    if files.graph is not None:
        return files.graph
    from headstart.steps.describe import describe

    described = await describe(run, worker, files.project)
    return build_graph(described.below(described.heads))


def _broken(error: BrokenHistoryError) -> Finding:
    paths = error.context.get("files")
    named = [str(path) for path in paths] if isinstance(paths, list) else []
    heads = error.context.get("heads")
    names = ",".join(sorted(heads)) if isinstance(heads, list) else ",".join(sorted(Path(path).name for path in named))
    return Finding(
        check="heads",
        key=f"heads:{names or 'broken'}",
        message=error.message,
        remedy=error.hint,
        path=named[0] if named else None,
        line=1 if named else None,
    )


class _Checks(NamedTuple):
    """One pass over the checks that the user wants."""

    run: Run
    worker: Worker
    options: Options
    report: Report
    found: list[Finding]
    files: History
    graph: Graph

    async def all(self) -> None:
        """Run them. What they find goes to the list, what could not be run to the report."""
        asked = self.options.checks
        new: Collection[str] = self.graph.revisions.keys()
        if self.options.since is not None:
            base = await read_base(self.run, self.files.project, self.graph, self.options.since)
            new = [each for each in self.graph.revisions if each not in base.revisions]
            old = [each for each in self.graph.revisions.values() if each.id in base.revisions]
            self.report.released = {name for each in old for name in (each.id, Path(each.path).name)}
            if "edited" in asked:
                self.found.extend(sources.edited(self.graph, base))
        if "heads" in asked:
            try:
                decide((), self.graph, "head")
            except BrokenHistoryError as error:
                self.found.append(_broken(error))
        if "external-sql" in asked:
            for each in new:
                self.found.extend(sources.external_sql(self.graph.revisions[each]))
        try:
            if _REPLAYED.intersection(asked):
                with self.run.record.timed(Stage.REPLAY):
                    await self._replayed(new)
            if "drift" in asked:
                from headstart.commands.check import compare

                with self.run.record.timed(Stage.DRIFT):
                    self.found.extend(await compare.drift(self.run, self.worker))
        except BrokenHistoryError as error:  # a file that cannot be imported
            self.found.append(_broken(error))
            self.report.not_run |= {each: _BROKEN for each in asked if each in {*_REPLAYED, "drift"}}

    async def _replayed(self, new: Collection[str]) -> None:
        from headstart.commands.check import compare, rules
        from headstart.commands.check.round_trip import Walk
        from headstart.postgres.scratch import scratch_server

        run, asked, not_run = self.run, self.options.checks, self.report.not_run
        off = rules.switched_off(run, self.files.project)
        self.worker.start()  # it imports while the server is made ready
        async with scratch_server(run.settings, log=run.log) as server, Walk.opened(run, server, self.worker) as walk:
            named = next(each for each in asked if each in _REPLAYED)  # a failing revision is reported under the first
            await walk.go(round_trip="round-trip" in asked, check=named)
            self.found.extend(walk.findings)
            if walk.ended is not None:
                not_run |= {each: walk.ended for each in asked if each in _REPLAYED}
            elif "models" in asked:
                found = await compare.models(walk.replay)
                if found is None:
                    self.report.absent["models"] = "nothing to compare: env.py gives no target_metadata"
                self.found.extend(found or [])
            if "schema-file" in asked and walk.ended is None:
                await self._schema_file(server, walk)
            if "rules" in asked:
                files = {each: walk.replay.files[each] for each in walk.applied if each in new}
                self.found.extend(rules.apply_rules(walk.statements, files, off=off, version_table=walk.version_table))

    async def _schema_file(self, server: Scratch, walk: Walk) -> None:
        from headstart.commands.check import compare
        from headstart.commands.schema.files import locate

        path = locate(self.run, None)
        if self.run.settings.schema_file is None and not path.exists():
            self.report.absent["schema-file"] = "nothing to compare: there is no schema file"
            return
        try:
            await walk.ensure_forward()
        except MigrationFailedError as error:
            self.report.not_run["schema-file"] = f"on a second database {error.message}"
        else:
            self.found.extend(await compare.schema_file(self.run, server, walk.dsn, walk.replay, path))
