"""A model's card as rich text, from the manifest in its file."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from MambaSegmentLib.manifest import Manifest
    from MambaSegmentLib.segments import SegmentInfo
    from MambaSegmentLib.store import StoredModel


def cardHtml(model: StoredModel) -> str:
    """What the model segments, from what, for what, and under which licence; or why its file cannot be used."""
    if model.manifest is None:
        heading = _("This file cannot be used")
        return f"<h3>{escape(model.name)}</h3><p><b>{heading}:</b> {escape(model.problem or '')}</p>"
    return _cardOf(model.manifest) + _paragraph(_("File"), str(model.path))


def _cardOf(manifest: Manifest) -> str:
    channels = ", ".join(f"{each.name} ({each.modality})" if each.modality else each.name for each in manifest.channels)
    return "".join(
        [
            f"<h3>{escape(manifest.name)} {escape(manifest.version)}</h3>",
            f"<p>{escape(manifest.description)}</p>",
            _segmentsTable(manifest.segments),
            _paragraph(_("Images it takes"), channels),
            _paragraph(_("Intended use"), manifest.intended_use),
            _paragraph(_("Limitations"), manifest.limitations),
            _paragraph(_("Network"), manifest.architecture_name),
            _paragraph(_("Licence"), manifest.license),
            _paragraph(_("Please cite"), manifest.citation),
        ]
    )


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
