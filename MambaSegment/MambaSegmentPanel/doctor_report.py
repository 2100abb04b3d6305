"""The report of `mambasegment doctor` as rich text: what is to do first, then what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from slicer.i18n import tr as _


def reportHtml(report: Mapping[str, Any]) -> str:
    """Args:
    report: of `MambaSegmentLib.doctor.examine`.
    """
    advice = report["advice"]
    verdict = _("All is well.") if not advice else _("Worth knowing:")
    memory = report["memory"]
    free = _("{free} GB free of {total} GB").format(
        free=f"{memory['available_bytes'] / 1e9:.1f}", total=f"{memory['total_bytes'] / 1e9:.1f}"
    )
    packages = [(name, version or _("not installed")) for name, version in report["packages"].items()]
    return "".join(
        [
            f"<p><b>{verdict}</b></p>",
            "<ul>" + "".join(f"<li>{_sentence(each)}</li>" for each in advice) + "</ul>" if advice else "",
            _line(_("Computes on"), _chosen(report["devices"], report["device"], "description")),
            _line(_("Scan kernel"), report["kernel_reason"] or report["kernel"] or _("none, as PyTorch is missing")),
            _line(_("Memory"), free),
            _line(_("Models"), ", ".join(report["store"]["models"]) or _("none")),
            _line(_("Looked for in"), ", ".join(report["store"]["folders"])),
            _line(_("MambaSegment"), report["mambasegment"]),
            _line(_("Python"), f"{report['python']}, {report['platform']}"),
            f"<p><b>{_('Packages')}</b></p><table cellpadding='1'>" + "".join(map(_row, packages)) + "</table>",
        ]
    )


def _chosen(devices: Sequence[Mapping[str, Any]], name: str | None, key: str) -> str:
    found = next((device[key] for device in devices if device["name"] == name), None)
    return f"{name} ({found})" if found else name or _("nothing, as PyTorch is missing")


def _line(title: str, text: str) -> str:
    return f"<p><b>{title}:</b> {escape(text)}</p>"


def _row(cells: tuple[str, str]) -> str:
    return "<tr>" + "".join(f"<td>{escape(cell)}&nbsp;&nbsp;</td>" for cell in cells) + "</tr>"


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:])
