"""A comparison as comparison.json, results.md and one page report.html, with its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path

from .. import page
from ..storage import write_json
from .compare import Study, study_document
from .figures import draw_all
from .tables import budget_text, cost_table, markdown, notes, quality_table, settings_table, test_table

JSON_NAME, MARKDOWN_NAME, PAGE_NAME = "comparison.json", "results.md", "report.html"


def write_study(study: Study) -> dict[str, Any]:
    """Write all files of a comparison into its folder.

    Returns:
        What comparison.json holds.
    Raises:
        ConfigError, ResourceError: a file that cannot be written.
    """
    document = study_document(study)
    figures, missing = draw_all(study)
    write_json(study.folder / JSON_NAME, document)
    with atomic_path(study.folder / MARKDOWN_NAME, ConfigError) as temporary:
        temporary.write_text(_markdown(study, figures, missing), encoding="utf-8")
    page.write_page(study.folder / PAGE_NAME, "Comparison", _page(study, figures, missing))
    return document


def _markdown(study: Study, figures: Mapping[str, Path], missing: Sequence[str]) -> str:
    parts = [*(f"> **{text}**" for text in study.warnings), budget_text(study)]
    parts += [markdown(quality_table(study)), markdown(cost_table(study)), *notes(study)]
    for title, path in figures.items():
        parts.append(f"![{title}]({path.name})")
    parts += ["## Every pair", markdown(test_table(study))]
    if settings_table(study)[1]:
        parts += ["## Settings that differ", markdown(settings_table(study))]
    return "\n\n".join([*parts, *missing]) + "\n"


def _page(study: Study, figures: Mapping[str, Path], missing: Sequence[str]) -> list[str]:
    parts = [page.warning(text) for text in study.warnings]
    parts += [page.paragraph(budget_text(study)), page.heading("How good"), page.table(*quality_table(study))]
    parts += [page.heading("What it costs"), page.table(*cost_table(study))]
    parts += [page.paragraph(text, quiet=True) for text in notes(study)]
    for title, path in figures.items():
        parts += [page.heading(title), page.picture(path, _CAPTIONS.get(path.stem, title))]
    parts += [page.paragraph(text, quiet=True) for text in missing]
    parts += [page.heading("Every pair"), page.table(*test_table(study))]
    heads, rows = settings_table(study)
    if rows:
        parts += [page.heading("Settings that differ"), page.table(heads, rows)]
    return parts


_CAPTIONS = {
    "bubbles": "Up and to the left is better.",
    "dice_histogram": "Validation cases by mean Dice.",
    "curves": "Training loss and validation Dice of the weights in use, without mirroring.",
    "rendering": "Surfaces of the case of median Dice.",
    "cases": "The number is the mean Dice of the case; of three planes, the one that shows most of the reference.",
}
