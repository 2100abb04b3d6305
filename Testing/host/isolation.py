"""Runs test files on the host in one child pytest, so that Qt, VTK and changed classes stay away from all other tests.

The child lives as long as the parent's run. It collects and runs what it is asked to; the reports come back as JSON
and are the parent's own: `-k`, `-m`, `-x`, `--durations` and `--junit-xml` work as ever. A child that dies fails the
test it was at, with what it wrote last, and the next test gets a new child.

Testing/conftest.py installs `Isolation`, which does this for the files of `FOLDERS`.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

IN_CHILD = (
    "MAMBASEGMENT_HOST_CHILD"  # set in the child; set it by hand to run everything in one process, for a debugger
)
REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("Testing/host/tests", "Testing/module")
_END_OF_LOG_BYTES = 20000


class ChildDied(Exception):
    """The child ended, with the end of what it wrote to stderr."""


class Child:
    """A pytest process that answers requests; one JSON object a line in each direction."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the child)
        atexit.register(self.stop)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Raises: ChildDied."""
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise ChildDied(self._obituary(process))
        return json.loads(answer)

    def stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()  # the child ends by itself when there is nothing more to read
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "Testing.host.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            cwd=REPOSITORY,
            env={**os.environ, IN_CHILD: "1"},
        )
        return self._process

    def _obituary(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        self._process = None
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - _END_OF_LOG_BYTES))
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        last = "\n".join(line for line in lines if not line.startswith("Extension modules:"))  # of no use, and long
        return f"the process of the stand-in Slicer host ended with exit code {code}; it wrote last:\n{last}"


_child = Child()


class HostFile(pytest.File):
    """A test file as the child sees it."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        try:
            answer = _child.ask(collect=self.path.relative_to(REPOSITORY).as_posix(), roots=_roots(self.config))
        except ChildDied as error:
            raise self.CollectError(str(error)) from error
        Isolation.host = answer["host"]
        if answer["errors"]:
            raise self.CollectError("\n".join(answer["errors"]))
        yield from _nodes(self, answer["tests"])


class HostClass(pytest.Collector):
    """A class of tests; the tests are known already."""

    tests: list[dict[str, Any]]

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        yield from _nodes(self, self.tests)


def _roots(config: pytest.Config) -> list[str]:
    """What this run wants of `FOLDERS`: the child must collect all of it at once."""
    asked = [(config.invocation_params.dir / each.partition("::")[0]).resolve() for each in config.args]
    folders = [REPOSITORY / each for each in FOLDERS]
    inside = [each for each in asked if any(each.is_relative_to(folder) for folder in folders)]
    whole = [folder for folder in folders if any(folder.is_relative_to(each) for each in asked)]
    return sorted({str(each) for each in [*inside, *whole]})


def _nodes(parent: Any, tests: list[dict[str, Any]]) -> Iterator[pytest.Item | pytest.Collector]:
    """Tests of one level as items; those with a class before their name below a node for it."""
    classes: dict[str, list[dict[str, Any]]] = {}
    for test in tests:
        first, *deeper = test["names"]
        if deeper:
            classes.setdefault(first, []).append({**test, "names": deeper})
        else:
            yield HostItem.from_parent(parent, name=first, test=test)
    for name, below in classes.items():
        node = HostClass.from_parent(parent, name=name)
        node.tests = below
        yield node


class HostItem(pytest.Item):
    """A test that the child runs."""

    def __init__(self, *, test: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.id_in_child: str = test["id"]
        self._line: int = test["line"]
        for marker in test["markers"]:
            self.add_marker(marker)
        self.extra_keyword_matches.update(test["keywords"])

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line, self.name

    def runtest(self) -> None:
        raise NotImplementedError("the child runs it, see Isolation")


class Isolation:
    """Plugin of the parent: hands files over to the child, asks it to run their tests and reports what it answers."""

    host = ""  # which of Slicer's Python modules are used, in words

    @classmethod
    def install(cls, config: pytest.Config) -> None:
        """In the parent and in the child, where it finds nothing to do."""
        config.pluginmanager.register(cls())
        for marker in ("stand_ins_only: about the host's stand-ins", "real_sources_only: needs SLICER_PYTHON_SOURCES"):
            config.addinivalue_line("markers", marker)

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.File | None:
        if IN_CHILD in os.environ or not any(module_path.is_relative_to(REPOSITORY / each) for each in FOLDERS):
            return None
        return HostFile.from_parent(parent, path=module_path)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not isinstance(item, HostItem):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item, nextitem):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, item: HostItem, nextitem: pytest.Item | None) -> Iterator[pytest.TestReport]:
        following = nextitem.id_in_child if isinstance(nextitem, HostItem) else None
        try:
            answers = _child.ask(run=item.id_in_child, next=following, roots=_roots(item.config))["reports"]
        except ChildDied as error:
            yield pytest.TestReport(
                item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", str(error), "call"
            )
            return
        for data in answers:
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
            report.nodeid, report.location = item.nodeid, item.location
            if isinstance(report.longrepr, list):  # where and why a test was skipped; JSON knows no tuples
                report.longrepr = tuple(report.longrepr)
            yield report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.host:
            terminalreporter.write_line(self.host)

    def pytest_unconfigure(self) -> None:
        _child.stop()
