"""An evaluation as evaluation.json, evaluation.csv, pictures of the worst cases and one page report.html."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path
from MambaSegmentLib.image_io import read_volume
from MambaSegmentLib.overlay import draw_overlay
from MambaSegmentLib.review.agreement import HEADINGS, LOWER_IS_BETTER, METRICS, Agreement
from MambaSegmentLib.review.comparison import summarise_cases, summarise_wholes
from MambaSegmentLib.review.comparison_files import case_document, summary_document
from MambaSegmentLib.review.statistics_files import write_statistics
from MambaSegmentLib.review.summary import CONFIDENCE, RESAMPLES, Summary

from .. import page
from ..run_folder import software_versions
from ..storage import write_json
from .records import labels_path
from .run import Evaluation

JSON_NAME, CSV_NAME, PAGE_NAME = "evaluation.json", "evaluation.csv", "report.html"
_FORMAT = 1
_SEEN = (
    "These are the validation cases of the training. They chose its best weights, so that the figures are slightly "
    "optimistic; an honest claim needs cases that nothing was chosen on."
)


def write_report(evaluation: Evaluation, *, worst: int = 3) -> dict[str, Any]:
    """Write all files of an evaluation into its folder.

    Args:
        worst: of how many cases, those of lowest mean Dice, a picture is drawn.
    Returns:
        What evaluation.json holds.
    Raises:
        ConfigError, ImageError, ResourceError: a file that cannot be written, or an image that is gone.
    """
    folder = evaluation.folder
    document = evaluation_document(evaluation)
    pictures = [(case, _draw(evaluation, case)) for case in worst_cases(evaluation)[:worst]]
    write_json(folder / JSON_NAME, document)
    rows = [{"case": case, **_row(one)} for case, a in evaluation.agreements.items() for one in a.structures]
    write_statistics(_without_empty_columns(rows), folder / CSV_NAME)
    page.write_page(
        folder / PAGE_NAME, f"Evaluation of {evaluation.subject.manifest.name}", _page(evaluation, pictures)
    )
    return document


def evaluation_document(evaluation: Evaluation) -> dict[str, Any]:
    """Everything, as plain JSON values."""
    subject, records = evaluation.subject, evaluation.records
    return {
        "format": _FORMAT,
        "notice": "For research use only: not a medical device.",
        "subject": subject.path.name,
        "network": subject.manifest.architecture_name,
        "weights_sha256": [part.sha256 for part in subject.parts],
        "data": subject.data.name,
        "rules": asdict(evaluation.rules),
        "quality": evaluation.quality,
        "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": evaluation.seed, "unit": "patient"},
        "trained_on": list(subject.trained_on),
        "software": software_versions(),
        "seconds_per_case": evaluation.seconds_per_case,
        "summary": summary_document(evaluation.agreements, evaluation.patients, seed=evaluation.seed),
        "cases": [
            {"patient": evaluation.patients[case], "seconds": record.seconds, **case_document(case, record.agreement)}
            for case, record in records.items()
        ],
    }


def worst_cases(evaluation: Evaluation) -> list[str]:
    """All that have a Dice, by mean Dice, the lowest first."""
    scores = {case: agreement.mean_dice for case, agreement in evaluation.agreements.items()}
    return [case for _, case in sorted((score, case) for case, score in scores.items() if score is not None)]


def _row(one: Agreement) -> dict[str, Any]:
    return {**one.to_json(), "values": "+".join(map(str, one.values))}


def _without_empty_columns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kept = [k for k in (rows[0] if rows else ()) if k == "empty" or any(row[k] is not None for row in rows)]
    return [{key: row[key] for key in kept} for row in rows]


# --- pictures


def _draw(evaluation: Evaluation, case: str) -> Path:
    """Reference above, prediction below, both in the same planes."""
    subject = evaluation.subject
    images, truth = subject.data.read(case)
    found = read_volume(labels_path(evaluation.folder, case))
    segments = subject.manifest.segments
    focus = truth.with_array((truth.array != 0) & (truth.array != subject.data.ignore_label))
    if not focus.array.any():
        focus = truth.with_array(found.array != 0)
    scores = ", ".join(
        f"{one.name} {'-' if one.dice is None else f'{one.dice:.3f}'}"
        for one in evaluation.records[case].agreement.structures
    )
    above = draw_overlay(images[0], truth, segments, title=f"{case}: reference", focus=focus)
    below = draw_overlay(
        images[0], found.with_array(found.array.astype(np.int32)), segments, title="predicted",
        note=f"Dice: {scores}", focus=focus,
    )  # fmt: skip
    both = Image.new("RGB", (above.width, above.height + below.height))
    both.paste(above, (0, 0))
    both.paste(below, (0, above.height))
    (evaluation.folder / "worst").mkdir(exist_ok=True)
    path = evaluation.folder / "worst" / f"{case}.png"
    with atomic_path(path, ConfigError) as temporary:
        both.save(temporary, format="PNG", compress_level=6)
    return path


# --- the page


def _page(evaluation: Evaluation, pictures: Sequence[tuple[str, Path]]) -> list[str]:
    subject = evaluation.subject
    summaries = summarise_cases(evaluation.agreements, evaluation.patients, seed=evaluation.seed)
    metrics = [m for m in METRICS if any(m in one for one in summaries.values())]
    patients = len(set(evaluation.patients.values()))
    parts = [
        page.paragraph(
            f"{subject.manifest.architecture_name}, {len(evaluation.records)} cases of {patients} patients of "
            f"{subject.data.name}, quality {evaluation.quality}, {evaluation.seconds_per_case:.2f} s a case (median)."
        )
    ]
    if subject.trained_on:
        parts.append(page.warning(f"The training learned from {len(subject.trained_on)} of these cases."))
    elif subject.folds:
        parts.append(page.paragraph(_SEEN, quiet=True))
    parts += [
        page.heading("Mean ± standard deviation over the cases, with 95 % confidence intervals of the mean"),
        page.table(["", *summaries], [[HEADINGS[m], *(_cell(s.get(m)) for s in summaries.values())] for m in metrics]),
        page.paragraph(_wholes_text(evaluation)),
        page.paragraph(_rules_text(evaluation), quiet=True),
        page.heading("Dice of each case"),
        _dice_strips(evaluation),
        page.heading("Worst cases"),
    ]
    parts += [page.picture(path, f"{case}: reference above, prediction below") for case, path in pictures]
    parts += [page.heading("All cases"), _case_table(evaluation, metrics)]
    return parts


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    text = f"{summary.mean:.3f}" + ("" if summary.sd is None else f" ± {summary.sd:.3f}")
    if summary.ci_low is not None:
        text += f" [{summary.ci_low:.3f}, {summary.ci_high:.3f}]"
    return text + (f" (of {summary.count})" if summary.absent else "")


def _wholes_text(evaluation: Evaluation) -> str:
    wholes = summarise_wholes(evaluation.agreements, evaluation.patients, seed=evaluation.seed)
    names = {"mean_dice": "mean Dice", "mean_iou": "mIoU", "accuracy": "accuracy of all voxels"}
    return "Over all labels of a case: " + "; ".join(f"{names[key]} {_cell(one)}" for key, one in wholes.items()) + "."


def _rules_text(evaluation: Evaluation) -> str:
    rules = evaluation.rules
    distance = "the diagonal of the image" if rules.missed == "diagonal" else "left out"
    hd95 = "the larger directed percentile" if rules.hd95 == "larger" else "the percentile of both directions together"
    return (
        f"Distances in mm. HD95 is {hd95}; NSD has a tolerance of {rules.tolerance_mm:g} mm. Where one side alone has "
        f"a structure, Dice, IoU and NSD are 0 and distances are {distance}; where neither has it, it is not counted. "
        f"Intervals: bootstrap over patients, {RESAMPLES} draws, seed {evaluation.seed}. Definitions: evaluation.md."
    )


def _dice_strips(evaluation: Evaluation) -> str:
    names = [structure.name for structure in evaluation.subject.data.structures]
    rows = [
        (name, [one.dice for a in evaluation.agreements.values() for one in a.structures
                if one.name == name and one.dice is not None])
        for name in names
    ]  # fmt: skip
    lowest = min((value for _, values in rows for value in values), default=0.0)
    low = min(0.9, np.floor(lowest * 10) / 10)
    return page.strips(rows, float(low), 1.0, "A dot a case; the bar is the mean.")


def _case_table(evaluation: Evaluation, metrics: Sequence[str]) -> str:
    rows = []
    for case in [*worst_cases(evaluation), *(c for c in evaluation.records if c not in worst_cases(evaluation))]:
        for one in evaluation.records[case].agreement.structures:
            values = (getattr(one, metric) for metric in metrics)
            rows.append([case, one.name, *("–" if v is None else _number(m, v) for m, v in zip(metrics, values))])  # noqa: B905
    return page.table(["case", "structure", *(HEADINGS[m] for m in metrics)], rows)


def _number(metric: str, value: float) -> str:
    return f"{value:.2f}" if metric in LOWER_IS_BETTER else f"{value:.4f}"
