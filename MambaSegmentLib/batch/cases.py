"""The cases of a batch: from a folder, a pattern, or a table."""

import csv
import glob
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError

READABLE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_NAME_COLUMN = "case"
_CHANNEL = re.compile(r"(.+)_(\d{4})")  # nnU-Net's names: CASE_0000, CASE_0001, ...
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)  # Windows
_LONGEST_NAME = 200  # characters, so that an ending and a temporary name fit into a file system's 255
_LOOKED_AT_MAX = 20  # files of a folder that are opened to see whether it holds DICOM


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name: of its output, without ending; unique in a batch, whatever the case of letters.
        inputs: files or DICOM folders, in the order of the model's channels.
        problem: why it cannot even be tried.
    """

    name: str
    inputs: tuple[Path, ...]
    problem: str = ""


def find_cases(source: str, channels: Sequence[str]) -> list[Case]:
    """The cases that `source` means, in the order of their names (of a table: in its order).

    Args:
        source: a folder of images and of folders with a DICOM series each; a pattern such as `*/t1.nii.gz`, `**` for
            any depth; or a .csv file with a column for each channel (`image` will do for a single one), relative
            paths counting from its folder, and a column `case` with names if wanted.
        channels: of the model. For several, the files of a folder or pattern are named CASE_0000, CASE_0001, ...
    Raises:
        ConfigError: nothing there, no case, or a table that cannot be understood.
    """
    try:
        cases = _found(source, channels)
    except OSError as problem:
        raise ConfigError(f"{source} cannot be looked through: {problem.strerror or problem}") from problem
    if not cases:
        raise ConfigError(
            f"there is no case in {source}; expected files ending in {', '.join(READABLE_ENDINGS)}, or folders that "
            "hold a DICOM series"
        )
    return _with_unique_names(cases)


def _found(source: str, channels: Sequence[str]) -> list[Case]:
    path = Path(source)
    if path.is_file() and path.suffix.lower() == ".csv":
        return _from_table(path, channels)
    if path.is_dir():
        return _grouped(_entries(path), channels)
    if path.exists():
        return _grouped([path], channels)
    if glob.has_magic(source):
        found = (Path(match) for match in sorted(glob.glob(source, recursive=True)))  # noqa: PTH207  (any root)
        return _grouped([one for one in found if _is_image(one) or _is_dicom_folder(one)], channels)
    raise ConfigError(f"{source} does not exist; expected a folder, a pattern in quotation marks, or a .csv file")


def stem(path: Path) -> str:
    """The name of an image without its ending: "t1.nii.gz" -> "t1"; of a folder its whole name."""
    name = path.name
    for ending in READABLE_ENDINGS:
        if name.lower().endswith(ending) and not path.is_dir():
            return name[: -len(ending)]
    return name


def _entries(folder: Path) -> list[Path]:
    found = sorted(one for one in folder.iterdir() if not one.name.startswith("."))
    entries = [one for one in found if _is_image(one) or _is_dicom_folder(one)]
    return entries or ([folder] if _is_dicom_folder(folder) else [])


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(READABLE_ENDINGS) and not name.endswith(".seg.nrrd") and path.is_file()


def _is_dicom_folder(path: Path) -> bool:
    if not path.is_dir():
        return False
    files = (Path(entry.path) for entry in os.scandir(path) if entry.is_file())
    return any(_is_dicom(file) for file, _ in zip(files, range(_LOOKED_AT_MAX), strict=False))


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:  # whoever segments it will say why it cannot be read
        return path.suffix.lower() == ".dcm"


def _grouped(entries: Sequence[Path], channels: Sequence[str]) -> list[Case]:
    matches = {entry: _CHANNEL.fullmatch(stem(entry)) for entry in entries}
    if len(channels) == 1 and not all(match and match[2] == "0000" for match in matches.values()):
        return [Case(stem(entry), (entry,)) for entry in entries]
    groups: dict[tuple[Path, str], dict[int, Path]] = {}
    cases = []
    for entry, match in matches.items():
        if match is None:
            problem = f"{entry}: the model takes {len(channels)} images; expected names ending in _0000, _0001, ..."
            cases.append(Case(stem(entry), (entry,), problem))
        else:
            groups.setdefault((entry.parent, match[1]), {})[int(match[2])] = entry
    for (_, name), files in groups.items():
        problem = ""
        if sorted(files) != list(range(len(channels))):
            numbers = ", ".join(f"_{number:04}" for number in sorted(files))
            problem = f"the images {numbers} of {name} are there; the model takes _0000 to _{len(channels) - 1:04}"
        cases.append(Case(name, tuple(files[number] for number in sorted(files)), problem))
    return sorted(cases, key=lambda case: case.name)


def _from_table(path: Path, channels: Sequence[str]) -> list[Case]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path} cannot be read: {problem}; save it as CSV in UTF-8") from problem
    header = text.partition("\n")[0]
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)))
    except csv.Error as problem:
        raise ConfigError(f"{path} is no table: {problem}; save it as CSV") from problem
    columns = [name.strip().casefold() for name in rows[0]] if rows else []
    wanted = [_column(channel, columns, len(channels) == 1) for channel in channels]
    missing = [channel for channel, index in zip(channels, wanted, strict=True) if index is None]
    if missing:
        raise ConfigError(
            f"{path} has the columns {', '.join(columns) or '(none)'}; expected one for each channel of the model: "
            f"{', '.join(channels)}; missing: {', '.join(missing)}"
        )
    name_at = columns.index(_NAME_COLUMN) if _NAME_COLUMN in columns else None
    indices = [index for index in wanted if index is not None]
    return [_from_row(row, number, name_at, indices, path.parent) for number, row in enumerate(rows[1:], 2) if any(row)]


def _column(channel: str, columns: Sequence[str], only_one: bool) -> int | None:
    for name in (channel.casefold(), *(["image"] if only_one else [])):
        if name in columns:
            return columns.index(name)
    return None


def _from_row(row: Sequence[str], number: int, name_at: int | None, indices: Sequence[int], root: Path) -> Case:
    cells = [row[index].strip() if index < len(row) else "" for index in indices]
    given = row[name_at].strip() if name_at is not None and name_at < len(row) else ""
    inputs = tuple(root / cell for cell in cells if cell)
    name = given or (stem(inputs[0]) if inputs else f"row {number}")
    problem = "" if len(inputs) == len(indices) else f"row {number} of the table lacks an image"
    if any("\0" in cell for cell in cells):
        problem = f"row {number} of the table holds a path with a null character"
    return Case(name, inputs, problem)


def _with_unique_names(cases: Sequence[Case]) -> list[Case]:
    """Where names clash, as of `*/t1.nii.gz`, the folders become part of them."""
    doubled = _doubled(case.name for case in cases)
    root = Path(os.path.commonpath([case.inputs[0].parent.absolute() for case in cases if case.inputs] or [Path.cwd()]))
    named = [
        replace(case, name=_name_with_folders(case.inputs[0], root)) if case.name.casefold() in doubled else case
        for case in cases
        if case.inputs or case.name.casefold() not in doubled
    ]
    still_doubled = _doubled(case.name for case in named)
    return [_checked(case, still_doubled) for case in named]


def _name_with_folders(path: Path, root: Path) -> str:
    """With the ending too, since a.nii and a.nrrd may lie side by side."""
    return "_".join(path.absolute().relative_to(root).parts)


def _doubled(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    twice: set[str] = set()
    for name in (name.casefold() for name in names):
        (twice if name in seen else seen).add(name)
    return twice


def _checked(case: Case, doubled: set[str]) -> Case:
    if case.problem:
        return case
    if case.name.casefold() in doubled:
        return replace(case, problem=f"there are several cases named {case.name}; give each a name of its own")
    if _FORBIDDEN.search(case.name) or not 0 < len(case.name) <= _LONGEST_NAME:
        return replace(case, problem=f"the case name {case.name!r} cannot be the name of a file; choose another one")
    return case
