"""The checks in their order: first the files alone, then all that needs the revisions run, on one scratch server."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from headstart import history
from headstart.commands.check import accepted, sources
from headstart.commands.check.finding import Finding, Options, Report
from headstart.commands.check.git import read_base
from headstart.errors import BrokenHistoryError, MigrationFailedError
from headstart.history.graph import Graph, build_graph
from headstart.history.plan import decide
from headstart.worker.supervise import Worker

if TYPE_CHECKING:
    from headstart.commands.check.walk import Walk
    from headstart.history import History
    from headstart.postgres.scratch import Scratch
    from headstart.steps.run import Run

_HOLE = "the history is broken"
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
            report.not_run = {each: _HOLE for each in options.checks if each != "heads"}
        else:
            report.revisions = len(graph.revisions)
            await _Checks(run, worker, options, report, found, files, graph).all()
    place = accepted.place(run, project, options.baseline)
    known = accepted.read(place, needed=options.baseline is not None and not options.write_baseline)
    complete = {each for each in options.checks if each not in report.not_run}
    if options.write_baseline:
        kept = {key: told for key, told in known.items() if key.partition(":")[0] not in complete}
        accepted.write(place, found, kept)
        known = {**kept, **{each.key: each.told for each in found}}
    keys = {each.key for each in found}
    report.findings = [each for each in found if each.key not in known]
    report.accepted = [each for each in found if each.key in known]
    report.stale = [key for key in known if key not in keys and key.partition(":")[0] in complete]
    report.baseline = str(place) if known else None
    report.seconds = round(time.monotonic() - started, 3)
    return report


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
    said = ",".join(sorted(heads)) if isinstance(heads, list) else ",".join(sorted(Path(path).name for path in named))
    return Finding(
        check="heads",
        key=f"heads:{said or 'broken'}",
        told=error.message,
        remedy=error.hint,
        path=named[0] if named else None,
        line=1 if named else None,
    )


class _Checks:
    """One pass over the checks that were asked for."""

    def __init__(
        self,
        run: Run,
        worker: Worker,
        options: Options,
        report: Report,
        found: list[Finding],
        files: History,
        graph: Graph,
    ) -> None:
        self._run = run
        self._worker = worker
        self._options = options
        self._report = report
        self._found = found
        self._files = files
        self._graph = graph

    async def all(self) -> None:
        """Run them; what they find goes to the list, what could not be run to the report."""
        asked = self._options.checks
        new: Collection[str] = self._graph.revisions.keys()
        if self._options.since is not None:
            base = await read_base(self._run, self._files.project, self._graph, self._options.since)
            new = [each for each in self._graph.revisions if each not in base.revisions]
            if "edited" in asked:
                self._found += sources.edited(self._graph, base)
        if "heads" in asked:
            try:
                decide((), self._graph, "head")
            except BrokenHistoryError as error:
                self._found.append(_broken(error))
        if "external-sql" in asked:
            for each in new:
                self._found += sources.external_sql(self._graph.revisions[each])
        try:
            if _REPLAYED.intersection(asked):
                with self._run.timed("replay"):
                    await self._replayed(new)
            if "drift" in asked:
                from headstart.commands.check import compared

                with self._run.timed("drift"):
                    self._found += await compared.drift(self._run, self._worker)
        except BrokenHistoryError as error:  # a file that cannot be imported
            self._found.append(_broken(error))
            self._report.not_run |= {each: _HOLE for each in asked if each in {*_REPLAYED, "drift"}}

    async def _replayed(self, new: Collection[str]) -> None:
        from headstart.commands.check import compared, judged
        from headstart.commands.check.walk import Walk
        from headstart.postgres.scratch import scratch_server

        run, asked, not_run = self._run, self._options.checks, self._report.not_run
        off = judged.switched_off(run, self._files.project)
        self._worker.start()  # it imports while the server is made ready
        async with scratch_server(run.settings, log=run.log) as server, Walk(run, server, self._worker) as walk:
            named = next(each for each in asked if each in _REPLAYED)  # that a revision fails is told under the first
            await walk.go(round_trip="round-trip" in asked, check=named)
            self._found += walk.findings
            if walk.ended is not None:
                not_run |= {each: walk.ended for each in asked if each in _REPLAYED}
            elif "models" in asked:
                found = await compared.models(walk.replay)
                if found is None:
                    self._report.absent["models"] = "nothing to compare: env.py gives no target_metadata"
                self._found += found or []
            if "schema-file" in asked and walk.ended is None:
                await self._schema_file(server, walk)
            if "rules" in asked:
                files = {each: walk.replay.files[each] for each in walk.applied if each in new}
                self._found += judged.judged(walk.statements, files, off=off, version_table=walk.version_table)

    async def _schema_file(self, server: Scratch, walk: Walk) -> None:
        from headstart.commands.check import compared
        from headstart.commands.schema import located

        path = located(self._run, None)
        if self._run.settings.schema_file is None and not path.exists():
            self._report.absent["schema-file"] = "nothing to compare: there is no schema file"
            return
        try:
            await walk.forwards()
        except MigrationFailedError as error:
            self._report.not_run["schema-file"] = f"on a second database {error.message}"
        else:
            self._found += await compared.schema_file(self._run, server, walk.dsn, walk.replay, path)
