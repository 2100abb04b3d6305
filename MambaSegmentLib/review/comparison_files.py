"""A comparison as JSON for programs, as CSV for a table, and as text for a person."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..files import atomic_path
from .agreement import HEADINGS, METRICS, CaseAgreement, Rules
from .comparison import Comparison, summarise_cases, summarise_wholes
from .statistics_files import write_statistics
from .summary import Summary

ENDINGS = (".json", ".csv")
_NOTICE = "For research use only: not a medical device."
_NONE = "-"
_MAIN = ("dice", "iou", "precision", "sensitivity", "hd95_mm", "assd_mm", "nsd", "instance_f1")


def comparison_document(comparison: Comparison, rules: Rules) -> dict[str, Any]:
    """Everything, as plain JSON values."""
    return {
        "notice": _NOTICE,
        "rules": asdict(rules),
        "cases": [case_document(case, agreement) for case, agreement in comparison.cases.items()],
        "summary": summary_document(comparison.cases),
        "problems": [{"case": case, "message": str(problem)} for case, problem in comparison.problems.items()],
    }


def case_document(case: str, agreement: CaseAgreement) -> dict[str, Any]:
    return {
        "case": case,
        "accuracy": agreement.accuracy,
        "mean_dice": agreement.mean_dice,
        "mean_iou": agreement.mean_iou,
        "structures": [structure.to_json() for structure in agreement.structures],
    }


def summary_document(
    cases: Mapping[str, CaseAgreement], patients: Mapping[str, str] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Mean, spread and confidence interval of each measure, for each structure and for whole cases."""
    structures = summarise_cases(cases, patients, seed=seed)
    wholes = summarise_wholes(cases, patients, seed=seed)
    return {
        "structures": {name: {m: s.to_json() for m, s in one.items()} for name, one in structures.items()},
        "cases": {m: s.to_json() for m, s in wholes.items()},
    }


def write_comparison(comparison: Comparison, rules: Rules, path: Path) -> None:
    """Write all as .json, or a row for each case and structure as .csv.

    Raises:
        ImageError: another ending, or a place that cannot be written. ResourceError: the disk is full.
    """
    check_target(path)
    if path.suffix.lower() == ".csv":
        write_statistics([_flat(row) for row in comparison.rows()], path)
        return
    with atomic_path(path) as temporary:
        text = json.dumps(comparison_document(comparison, rules), indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def check_target(path: Path) -> None:
    """Refuse a place before the work that could not be written after it.

    Raises:
        ImageError.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ImageError(f"cannot write the comparison {path}: its ending is none of {', '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise ImageError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """One cell for the values of a region; columns that were not asked for are left out."""
    flat = {**row, "values": "+".join(map(str, row["values"]))}
    if row["instances_matched"] is None:
        flat = {key: cell for key, cell in flat.items() if not key.startswith("instance")}
    return flat


def comparison_text(comparison: Comparison) -> list[str]:
    """Lines of a table: the measures of a single case, or mean ± SD over several."""
    summaries = summarise_cases(comparison.cases)
    metrics = [m for m in METRICS if m in _MAIN and any(m in one for one in summaries.values())]
    cells = [["", *(HEADINGS[m] for m in metrics)]]
    several = len(comparison.cases) > 1
    for name, one in summaries.items():
        cells.append([name, *(_cell(one.get(m), several) for m in metrics)])
    return [*_aligned(cells), *_last_line(comparison)] if comparison.cases else []


def _last_line(comparison: Comparison) -> list[str]:
    wholes = summarise_wholes(comparison.cases)
    names = {"mean_dice": "mean Dice", "mean_iou": "mIoU", "accuracy": "accuracy of all voxels"}
    found = [f"{text} {wholes[key].mean:.4f}" for key, text in names.items() if key in wholes]
    cases = f"{len(comparison.cases)} cases: " if len(comparison.cases) > 1 else ""
    return [cases + ", ".join(found)] if found else []


def _cell(summary: Summary | None, several: bool) -> str:
    if summary is None:
        return _NONE
    spread = f" ± {summary.sd:.3f}" if several and summary.sd is not None else ""
    return f"{summary.mean:.4f}{spread}"


def _aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
