"""The child of isolation.py: `python -m Testing.host.child`, a pytest that is told what to collect and to run.

Ends with `Host.end_process`: at a normal end the process may crash after all tests have passed.
"""

from __future__ import annotations

import faulthandler
import json
import os
from typing import Any, TextIO

import pytest
from _pytest.runner import runtestprotocol

from Testing.host import start
from Testing.host.isolation import REPOSITORY

# a test that waits for ever, in a modal dialog for instance, ends the process, with every thread's position
LIMIT_S = float(os.environ.get("MAMBASEGMENT_HOST_TEST_LIMIT_S", "120"))


class Server:
    """Plugin that replaces pytest's own collection and loop by requests from stdin."""

    def __init__(self, requests: TextIO, answers: TextIO, log: TextIO) -> None:
        self._requests, self._answers, self._log = requests, answers, log
        self._items: dict[str, pytest.Item] = {}
        self._errors: dict[str, list[str]] = {}

    def pytest_collection(self) -> bool:
        return True  # collected on request

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.setdefault(report.nodeid.partition("::")[0], []).append(str(report.longrepr))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for line in self._requests:
            request = json.loads(line)
            answer = self._collect(session, request) if "collect" in request else self._run(session, request)
            self._answers.write(json.dumps(answer) + "\n")
            self._answers.flush()
        return True

    def _collect(self, session: pytest.Session, request: dict[str, Any]) -> dict[str, Any]:
        self._collect_all(session, request["roots"])
        file = request["collect"]
        tests = [_described(item) for name, item in self._items.items() if name.partition("::")[0] == file]
        return {"errors": self._errors.get(file, []), "tests": tests, "host": _description()}

    def _collect_all(self, session: pytest.Session, roots: list[str]) -> None:
        """Once, since pytest gives the fixtures of a conftest.py to one collection only."""
        if not self._items and not self._errors:
            self._items.update({item.nodeid: item for item in session.perform_collect(roots)})

    def _run(self, session: pytest.Session, request: dict[str, Any]) -> dict[str, Any]:
        self._collect_all(session, request["roots"])  # the process that did it before may have died
        item, following = self._items[request["run"]], self._items.get(request["next"] or "")
        faulthandler.dump_traceback_later(LIMIT_S, exit=True, file=self._log)
        reports = runtestprotocol(item, log=False, nextitem=following)
        faulthandler.cancel_dump_traceback_later()
        to_json = session.config.hook.pytest_report_to_serializable
        return {"reports": [to_json(config=session.config, report=report) for report in reports]}


def _description() -> str:
    from Testing.host import sources  # needs the started host

    return sources.description()


def _described(item: pytest.Item) -> dict[str, Any]:
    markers = [mark.name for mark in item.iter_markers() if not mark.args and not mark.kwargs]
    return {
        "id": item.nodeid,
        "names": item.nodeid.split("::", maxsplit=item.nodeid.partition("[")[0].count("::"))[1:],
        "line": item.location[1] or 0,
        "markers": sorted(set(markers)),
        "keywords": sorted(set(item.extra_keyword_matches) | {mark.name for mark in item.iter_markers()}),
    }


def main() -> None:
    """The pipes are moved away from stdout and stdin, which tests and pytest's capture use."""
    requests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    log = os.fdopen(os.dup(2), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    options = ["-p", "no:cacheprovider", "-p", "Testing.host.pytest_plugin"]
    code = pytest.main(["-c", str(REPOSITORY / "pyproject.toml"), *options], plugins=[Server(requests, answers, log)])
    start().end_process(int(code))


if __name__ == "__main__":
    main()
