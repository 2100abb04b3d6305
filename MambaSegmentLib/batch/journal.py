"""A line of JSON for each case that is over, on disk before the next one begins: a killed run goes on from there."""

import json
import logging
import os
from pathlib import Path

from ..errors import ConfigError, ImageError, ResourceError
from ..files import disk_is_full
from ..locks import try_lock
from .outcome import DONE, Outcome

_log = logging.getLogger(__name__)
FILE_NAME = "batch.jsonl"


class Journal:
    """The outcomes of earlier runs into a folder, and of this one.

    Raises:
        ImageError: the folder cannot be written to. ConfigError: another batch writes into it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._last: dict[str, Outcome] = {}
        try:
            # Without a buffer: what did not fit on a full disk would be tried once more when it is closed.
            self._stream = self._path.open("a+b", buffering=0)
            self._lock()
            self._stream.seek(0)
            content = self._stream.read()
        except OSError as problem:
            raise ImageError(f"cannot write {self._path}: {problem.strerror or problem}") from problem
        self._at_line_start = not content or content.endswith(b"\n")  # not after a run that was killed while it wrote
        for line in content.splitlines():
            self._read(line)

    def _lock(self) -> None:
        """Two batches would delete each other's half-written files, and repeat each other's cases."""
        try:
            alone = try_lock(self._stream)
        except OSError as problem:
            _log.warning("%s cannot be locked (%s); let no other batch write into its folder", self._path, problem)
            return
        if not alone:
            self._stream.close()
            raise ConfigError(
                f"another batch is writing into {self._path.parent}; wait until it has ended, or choose another folder"
            )

    def finished(self, case: str, fingerprint: str, output: Path) -> Outcome | None:
        """How this very case was done before, if its output is still there."""
        last = self._last.get(case)
        same = last is not None and last.status == DONE and last.fingerprint == fingerprint
        return last if same and output.is_file() else None

    def check_it_is_there(self) -> None:
        """Raises: ImageError, when somebody removed the folder, or the journal in it, while the batch ran."""
        if not self._path.is_file():
            raise ImageError(
                f"{self._path} was removed while the batch ran; start the batch again, and it does what is not there"
            )

    def add(self, outcome: Outcome) -> None:
        """Raises: ResourceError, when the disk is full. ImageError, when it cannot be written to."""
        line = json.dumps(outcome.to_json()).encode("ascii") + b"\n"
        try:
            rest = memoryview(line if self._at_line_start else b"\n" + line)
            self._at_line_start = False
            while rest:
                rest = rest[self._stream.write(rest) :]
            os.fsync(self._stream.fileno())
        except OSError as problem:
            if disk_is_full(problem):
                message = "the disk is full; free some space, and the same command goes on from there"
                raise ResourceError(f"cannot write {self._path}: {message}") from problem
            raise ImageError(f"cannot write {self._path}: {problem.strerror or problem}") from problem
        self._at_line_start = True
        self._last[outcome.case] = outcome

    def close(self) -> None:
        self._stream.close()

    def _read(self, line: bytes) -> None:
        try:
            outcome = Outcome.from_json(json.loads(line))
        except (ValueError, TypeError, KeyError):  # cut off by a kill, or of another version: the case is done again
            return
        self._last[outcome.case] = outcome
