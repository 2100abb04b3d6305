"""A model's card as rich text, from the manifest in its file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from .choice_box import devices, qualities, textOf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from MambaSegmentLib.manifest import Manifest
    from MambaSegmentLib.segments import SegmentInfo
    from MambaSegmentLib.store import StoredModel

    from .run_times import MeasuredTime


def summaryOf(model: StoredModel) -> str:
    """One sentence for the chooser."""
    if model.manifest is None:
        return _("This file cannot be used: {problem}").format(problem=model.problem or "")
    names = [segment.name for segment in model.manifest.segments]
    return model.manifest.description or _("Segments: {names}.").format(names=", ".join(names))


def cardHtml(model: StoredModel, measured: Sequence[MeasuredTime] = ()) -> str:
    """What the model segments, from what, for what, and under which licence; or why its file cannot be used.

    Args:
        measured: how long it took on this computer.
    """
    if model.manifest is None:
        heading = _("This file cannot be used")
        return f"<h3>{escape(model.name)}</h3><p><b>{heading}:</b> {escape(model.problem or '')}</p>"
    return _cardOf(model.manifest, measured) + _paragraph(_("File"), str(model.path))


def _cardOf(manifest: Manifest, measured: Sequence[MeasuredTime]) -> str:
    channels = ", ".join(f"{each.name} ({each.modality})" if each.modality else each.name for each in manifest.channels)
    return "".join(
        [
            f"<h3>{escape(manifest.name)} {escape(manifest.version)}</h3>",
            f"<p>{escape(manifest.description)}</p>",
            _segmentsTable(manifest.segments),
            _paragraph(_("Images it takes"), channels),
            _paragraph(_("Time on this computer"), _timesText(measured)),
            _paragraph(_("Qualities"), _qualitiesText(manifest)),
            _paragraph(_("Intended use"), manifest.intended_use),
            _paragraph(_("Limitations"), manifest.limitations),
            _paragraph(_("Network"), manifest.architecture_name),
            _paragraph(_("Licence"), manifest.license),
            _paragraph(_("Please cite"), manifest.citation),
        ]
    )


def _timesText(measured: Sequence[MeasuredTime]) -> str:
    if not measured:
        return _("not run here yet")
    line = _("{seconds} s for {voxels} million voxels: {quality}, device {device}, median of {runs} runs")
    return "\n".join(
        line.format(
            seconds=f"{each.seconds:.1f}",
            voxels=f"{each.voxels / 1e6:.3g}",
            quality=textOf(qualities(), each.quality),
            device=textOf(devices(), each.device),
            runs=each.runs,
        )
        for each in measured
    )


def _qualitiesText(manifest: Manifest) -> str:
    """What the faster qualities cost in Dice, where it was measured when the model was made."""
    lines = []
    for name, facts in manifest.quality_modes.items():
        difference = facts.get("dice_difference") if isinstance(facts, dict) else None
        if isinstance(difference, int | float) and name != "best":
            text = _("{quality}: Dice {difference} against the best")
            lines.append(text.format(quality=textOf(qualities(), name), difference=f"{difference:+.4f}"))
    return "\n".join(lines)


def _segmentsTable(segments: tuple[SegmentInfo, ...]) -> str:
    rows = "".join(
        f'<tr><td bgcolor="{_hexColor(segment.color)}" width="14"></td><td>{escape(segment.name)}</td></tr>'
        for segment in segments
    )
    return f'<p><b>{_("Segments")}:</b></p><table cellspacing="2" cellpadding="1">{rows}</table>'


def _paragraph(title: str, text: str) -> str:
    return f"<p><b>{title}:</b> {escape(text).replace(chr(10), '<br>')}</p>" if text else ""


def _hexColor(color: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in color)
