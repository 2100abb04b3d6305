"""Zip archives of results folders, as `nnUNetv2_export_model_to_zip` makes them, unpacked with suspicion."""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import BundleError, ResourceError
from .torch_file import refuse_strange_member

_WANTED = ("plans.json", "dataset.json", "summary.json")
_MOST_MEMBERS = 100_000
_SMALL_BYTES = 1 << 24
_LARGEST_RATIO = 50  # weights shrink by a tenth; a bomb by a thousand


def is_results_archive(path: Path) -> bool:
    """A zip with a plans.json in it; a checkpoint of torch.save is a zip as well, but has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == "plans.json" for name in archive.namelist()[:_MOST_MEMBERS])
    except (zipfile.BadZipFile, OSError):
        return False


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """What an import needs of the archive, in a private folder that goes away at the end.

    Raises:
        BundleError: a member that would leave the folder, a link, a decompression bomb, a damaged archive.
        ResourceError: not enough room.
    """
    with tempfile.TemporaryDirectory(prefix="mambasegment-import-", ignore_cleanup_errors=True) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                members = _checked(path, archive)
                _check_room(path, members, Path(folder))
                for member in members:
                    _unpack(archive, member, Path(folder))
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as problem:
            raise BundleError(f"{path} is a zip archive that is damaged ({problem}); fetch it again") from problem
        except OSError as problem:
            raise ResourceError(f"{path} cannot be unpacked: {problem.strerror or problem}") from problem
        yield Path(folder)


def _checked(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        raise BundleError(f"{path} has {len(entries)} members; a results folder has some dozens")
    for entry in entries:
        refuse_strange_member(path, entry)
        if entry.file_size > _SMALL_BYTES and entry.file_size > _LARGEST_RATIO * max(entry.compress_size, 1):
            raise BundleError(
                f"{path}: its member {entry.filename!r} would grow from {entry.compress_size} to {entry.file_size} "
                "bytes, a decompression bomb; it is not unpacked"
            )
    wanted = [entry for entry in entries if _is_wanted(PurePosixPath(entry.filename))]
    if sum(entry.compress_size for entry in wanted) > path.stat().st_size:
        raise BundleError(f"{path}: its members overlap, as in a zip bomb; it is not unpacked")
    return wanted


def _is_wanted(name: PurePosixPath) -> bool:
    return name.name in _WANTED or (name.name.startswith("checkpoint_") and name.suffix == ".pth")


def _check_room(path: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(f"unpacking {path} needs {needed / 1e9:.1f} GB in {folder}; {free / 1e9:.1f} GB are free")


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as stream:
        shutil.copyfileobj(source, stream)
