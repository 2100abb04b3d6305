"""The statistics of segments as a file for a table or a program, and as text for a person."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import ImageError
from ..files import atomic_path

ENDINGS = (".csv", ".json")
_NOTICE = "For research use only: not a medical device."
_NONE = "-"  # in the text, for what does not exist
_COLUMNS = (  # key, heading, format
    ("voxels", "voxels", "d"),
    ("volume_ml", "mL", ".3f"),
    ("intensity_mean", "mean", ".5g"),
    ("intensity_sd", "SD", ".5g"),
    ("diameter_mm", "longest mm", ".1f"),
    ("in_plane_diameter_mm", "in slice mm", ".1f"),
    ("pieces", "pieces", "d"),
    ("largest_piece_ml", "largest mL", ".3f"),
    ("mean_uncertainty", "uncertainty", ".3f"),
)


def write_statistics(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a row for each segment; what does not exist is an empty cell, or null.

    Args:
        rows: `SegmentStatistics.to_json` of each, further keys welcome; the union of the keys makes the columns.
        path: ends in .csv or .json.
    Raises:
        ImageError: another ending, or a place that cannot be written. ResourceError: the disk is full.
    """
    ending = path.suffix.lower()
    if ending == ".json":
        with atomic_path(path) as temporary:
            content = {"notice": _NOTICE, "segments": [dict(row) for row in rows]}
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    elif ending == ".csv":
        with _table(path) as stream:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            writer = csv.DictWriter(stream, columns, restval="")
            writer.writeheader()
            writer.writerows({key: "" if cell is None else cell for key, cell in row.items()} for row in rows)
    else:
        raise ImageError(f"cannot write the statistics {path}: its ending is none of {', '.join(ENDINGS)}")


def statistics_text(segments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a table, with those columns that at least one segment has."""
    columns = [column for column in _COLUMNS if any(segment.get(column[0]) is not None for segment in segments)]
    cells = [["", "segment", *(heading for _, heading, _ in columns)]]
    for segment in segments:
        numbers = [_cell(segment.get(key), form) for key, _, form in columns]
        cells.append([str(segment["value"]), segment["name"], *numbers])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [_aligned(line, widths) for line in cells] if columns else []


def _cell(value: Any, form: str) -> str:
    return _NONE if value is None else format(value, form)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    """Numbers to the right, the name to the left."""
    cells = [
        cell.ljust(width) if n == 1 else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  " + "  ".join(cells).rstrip()


@contextmanager
def _table(path: Path) -> Iterator[IO[str]]:
    # The mark at the beginning tells a spreadsheet program that the rest is UTF-8.
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        yield stream
        stream.flush()
