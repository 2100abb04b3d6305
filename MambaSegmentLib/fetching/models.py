"""Models of the user's folder: added from a file or a web address, checked, removed."""

import hashlib
import shutil
import time
import urllib.parse
from pathlib import Path

from ..bundle import ENDING, read_manifest, verify_bundle
from ..errors import BundleError, ConfigError
from ..files import atomic_path
from ..manifest import Manifest
from ..progress import CancelToken, Progress, ProgressCallback
from ..store import StoredModel, find_model, is_users_own, user_folder
from .download import check_address, download, sha256_of

_CHUNK_BYTES = 1 << 20
_PARTS = ".download-"  # folders of downloads that are not done
_FORGOTTEN_S = 30 * 24 * 3600.0  # then nobody will go on with one
_DIGITS = set("0123456789abcdef")


def add_model(
    source: str,
    *,
    sha256: str = "",
    replace: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> StoredModel:
    """Copy or download a model into the user's folder, under the name that it gives itself.

    Args:
        source: a file, or an https address, which may end in `#sha256=` and the checksum of the file.
        sha256: of the whole file; empty where it is not known. The checksum inside a model is compared in any case.
        replace: put it in the place of another model of that name.
    Raises:
        BundleError: no model, damaged, or one of that name is there already. ConfigError: an address or checksum that
        makes no sense. ResourceError: the disk is full. Cancelled: what was downloaded stays for the next attempt.
    """
    address, _, fragment = source.strip().partition("#sha256=")
    wanted = _checked_digits(sha256 or fragment)
    folder = user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BundleError(f"the folder for models {folder} cannot be made: {problem.strerror or problem}") from problem
    if "://" not in address:
        return _added(Path(address).expanduser(), folder, wanted, replace, progress, cancel)
    check_address(address)
    _remove_forgotten(folder)
    parts = folder / f"{_PARTS}{hashlib.sha256(address.encode()).hexdigest()[:16]}"
    file = download(address, parts, progress=progress, cancel=cancel)
    try:
        return _added(file, folder, wanted, replace, None, cancel, name=_name_in(address))
    finally:
        shutil.rmtree(parts, ignore_errors=True)  # whole, but perhaps no model: another attempt begins anew


def remove_model(name: str) -> Path:
    """Delete a model of the user's folder; those of the module or a site stay.

    Returns: the file that was.
    Raises:
        BundleError: no such model, or it does not lie in the user's folder, or cannot be deleted.
    """
    path = find_model(name)
    if not is_users_own(path):
        raise BundleError(f"{path} is none of your own models, which lie in {user_folder()}; it was not removed")
    try:
        path.unlink()
    except OSError as problem:
        raise BundleError(f"{path} cannot be deleted: {problem.strerror or problem}") from problem
    return path


def _remove_forgotten(folder: Path) -> None:
    for parts in folder.glob(f"{_PARTS}*"):
        if time.time() - parts.stat().st_mtime > _FORGOTTEN_S:
            shutil.rmtree(parts, ignore_errors=True)


def _added(
    file: Path,
    folder: Path,
    sha256: str,
    replace: bool,
    progress: ProgressCallback | None,
    cancel: CancelToken | None,
    name: str = "",
) -> StoredModel:
    _check_file(file, name or str(file), sha256, cancel)
    manifest = read_manifest(file)
    target = folder / f"{manifest.name}{ENDING}"
    if target.exists() and not replace:
        return _known_already(target, manifest)
    with atomic_path(target, error=BundleError) as temporary:
        _copy(file, temporary, progress, cancel)
        verify_bundle(temporary)
    return StoredModel(manifest.name, target, manifest)


def _check_file(file: Path, name: str, sha256: str, cancel: CancelToken | None) -> None:
    """Raises: BundleError, when it is not there, is another file than was meant, or no model in order."""
    try:
        if not file.is_file():
            raise BundleError(f"there is no file {file}; check the path")
        found = sha256_of(file, cancel) if sha256 else ""
    except OSError as problem:
        raise BundleError(f"{file} cannot be read: {problem.strerror or problem}") from problem
    if found != sha256:
        raise BundleError(f"{name} has the SHA-256 {found}, but {sha256} was expected; it was not added")
    try:
        verify_bundle(file)
    except BundleError as problem:
        raise BundleError(str(problem).replace(str(file), name)) from problem


def _known_already(target: Path, manifest: Manifest) -> StoredModel:
    """The same model again is no mistake; another one of its name is."""
    try:
        there = read_manifest(target)
    except BundleError as problem:
        raise BundleError(f"{target} is in the way: {problem}. Remove it, or replace it") from problem
    if there.sha256 != manifest.sha256:
        raise BundleError(
            f"a model {manifest.name!r} (version {there.version}) is there already, and this one (version "
            f"{manifest.version}) is another; remove the old one first, or replace it"
        )
    return StoredModel(manifest.name, target, there)


def _copy(file: Path, target: Path, progress: ProgressCallback | None, cancel: CancelToken | None) -> None:
    total, done = file.stat().st_size, 0
    with file.open("rb") as source, target.open("wb") as copy:
        while chunk := source.read(_CHUNK_BYTES):
            if cancel is not None:
                cancel.raise_if_cancelled()
            copy.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(Progress("copy", done, total))


def _checked_digits(text: str) -> str:
    """Raises: ConfigError, unless it is empty or the 64 hexadecimal digits of a SHA-256."""
    digits = text.strip().lower().removeprefix("sha256:")
    if digits and (len(digits) != 64 or not set(digits) <= _DIGITS):
        raise ConfigError(f"{text!r} is no SHA-256: expected 64 digits from 0 to 9 and a to f")
    return digits


def _name_in(address: str) -> str:
    return Path(urllib.parse.urlsplit(address).path).name or address
