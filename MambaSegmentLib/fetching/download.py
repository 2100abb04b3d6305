"""A file from a web address, in pieces that survive an interruption.

What has arrived lies in a folder beside the target until all of it is there; the next attempt asks the server for the
rest (RFC 9110, section 14: Range and If-Range), and begins anew where the server has another file by then.
"""

import hashlib
import http.client
import ipaddress
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import BundleError, ConfigError, ResourceError
from ..files import disk_is_full
from ..locks import try_lock
from ..progress import CancelToken, Progress, ProgressCallback

STAGE = "download"
_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 30.0  # without a byte
_TELL_EVERY_S = 0.2
_CONTENT, _FACTS, _LOCK = "content", "facts.json", "lock"


@dataclass(frozen=True)
class _Facts:
    """What a server said of the file whose first bytes are here; `tag` changes when the file does."""

    url: str
    tag: str
    total_bytes: int | None


def download(
    url: str, folder: Path, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Path:
    """Fetch a file, going on with what an earlier attempt left.

    Args:
        url: https; http only to this computer itself.
        folder: for what has arrived; made if it is not there. It stays when the download does not end well.
    Returns:
        The file in that folder.
    Raises:
        ConfigError: another kind of address. BundleError: the server refuses, or cannot be reached, or the connection
        ended early: the message says that the next attempt goes on. ResourceError: the disk is full. Cancelled.
    """
    check_address(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("ab") as lock:
            if not try_lock(lock):
                raise BundleError(f"{url} is being fetched by another program already; wait until that is done")
            return _Download(url, folder, progress, cancel or CancelToken()).run()
    except urllib.error.HTTPError as problem:
        raise BundleError(f"{url} cannot be fetched: the server answers {problem.code} {problem.reason}") from problem
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as problem:
        reason = getattr(problem, "reason", None) or problem or type(problem).__name__
        raise BundleError(
            f"{url} cannot be fetched: {reason}; check the connection and try again, it goes on from where it stopped"
        ) from problem
    except OSError as problem:
        if disk_is_full(problem):
            raise ResourceError(f"the disk of {folder} is full; free some space and try again") from problem
        raise BundleError(f"{folder} cannot be written: {problem.strerror or problem}") from problem


def check_address(url: str) -> None:
    """Raises: ConfigError, unless it is https, or http to this very computer."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and _is_this_computer(parts.hostname or ""):
        return
    raise ConfigError(f"{url!r} is no https address; models are fetched by https only, so that nobody can change them")


def sha256_of(path: Path, cancel: CancelToken | None = None) -> str:
    """Of a whole file, as hexadecimal digits. Raises: Cancelled."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            if cancel is not None:
                cancel.raise_if_cancelled()
            digest.update(chunk)
    return digest.hexdigest()


class _Download:
    def __init__(self, url: str, folder: Path, progress: ProgressCallback | None, cancel: CancelToken) -> None:
        self._url = url
        self._content, self._facts = folder / _CONTENT, folder / _FACTS
        self._progress = progress
        self._cancel = cancel

    def run(self) -> Path:
        known = self._known()
        begun = self._content.stat().st_size if known is not None and self._content.exists() else 0
        if known is not None and begun and begun == known.total_bytes:
            return self._content
        headers = {"User-Agent": "MambaSegment", "Accept-Encoding": "identity"}
        if known is not None and begun and known.tag:
            headers |= {"Range": f"bytes={begun}-", "If-Range": known.tag}
        opener = urllib.request.build_opener(_SafeRedirects())
        try:
            answer = opener.open(urllib.request.Request(self._url, headers=headers), timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as problem:
            if problem.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not begun:
                raise
            self._facts.unlink()  # what is here is of another file
            return self.run()
        with answer:
            self._receive(answer, begun)
        return self._content

    def _receive(self, answer: Any, begun: int) -> None:
        """The rest, or all of it where the server does not go on where we were."""
        first = begun if answer.status == http.client.PARTIAL_CONTENT and _begins_at(answer, begun) else 0
        length = answer.headers.get("Content-Length")
        total = first + int(length) if length is not None and length.isdigit() else None
        self._check_space(total, first)
        tag = answer.headers.get("ETag", "")
        if tag.startswith("W/"):  # says that two files mean the same, not that they are
            tag = ""
        facts = _Facts(self._url, tag or answer.headers.get("Last-Modified", ""), total)
        self._facts.write_text(json.dumps(asdict(facts)), encoding="utf-8")
        done, started, told = first, time.monotonic(), 0.0
        with self._content.open("r+b" if first else "wb") as stream:
            stream.seek(first)
            stream.truncate()
            while chunk := answer.read(_CHUNK_BYTES):
                self._cancel.raise_if_cancelled()
                stream.write(chunk)
                done += len(chunk)
                now = time.monotonic()
                if now - told >= _TELL_EVERY_S:
                    told = now
                    self._tell(done, total, first, now - started)
        if total is not None and done != total:
            raise http.client.IncompleteRead(b"", total - done)
        self._tell(done, done, first, time.monotonic() - started)
        if total is None:
            self._facts.write_text(json.dumps(asdict(_Facts(self._url, facts.tag, done))), encoding="utf-8")

    def _tell(self, done: int, total: int | None, first: int, elapsed_s: float) -> None:
        if self._progress is None:
            return
        speed = (done - first) / elapsed_s if elapsed_s > 0 else 0.0
        left_s = (total - done) / speed if total is not None and speed > 0 else None
        self._progress(Progress(STAGE, done, total or 0, left_s))

    def _check_space(self, total: int | None, first: int) -> None:
        free = shutil.disk_usage(self._content.parent).free
        if total is not None and total - first > free:
            raise ResourceError(
                f"{(total - first) / 1e6:.0f} MB are needed for {self._url} and {free / 1e6:.0f} MB are free; "
                "free some space and try again"
            )

    def _known(self) -> _Facts | None:
        try:
            facts = _Facts(**json.loads(self._facts.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # nothing was begun, or it was interrupted before it could be noted
            return None
        return facts if facts.url == self._url else None


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """A server may send us elsewhere, but not to what we would not have asked."""

    def redirect_request(
        self,
        req: Any,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _begins_at(answer: Any, byte: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).strip().startswith(f"bytes {byte}-")


def _is_this_computer(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
