"""Self-contained HTML pages of reports: no script, no file beside them, light and dark."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from MambaSegmentLib.errors import ConfigError
from MambaSegmentLib.files import atomic_path

_NOTICE = "For research use only: not a medical device."
_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --quiet: #667080; --head: #eef1f5; --bar: #3b7dd8; --warn: #b3261e;
  --warn-back: #fdecea; --back: #ffffff; --text: #1c2024; }
@media (prefers-color-scheme: dark) { :root { --line: #343a44; --quiet: #9aa4b2; --head: #1e232b; --bar: #6ea8f0;
  --warn: #ffb4ab; --warn-back: #3b1513; --back: #14171c; --text: #e8ebf0; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1380px; margin: 2rem auto; padding: 0 1.2rem;
  background: var(--back); color: var(--text); }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.quiet, figcaption, td.quiet { color: var(--quiet); }
.warning { border-left: 4px solid var(--warn); background: var(--warn-back); padding: .6rem 1rem; font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .32rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { background: var(--head); }
figure { margin: 1rem 0; } img, svg { max-width: 100%; height: auto; border-radius: 4px; }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page of parts that the functions below make.

    Raises:
        ConfigError: the place cannot be written. ResourceError: the disk is full.
    """
    body = "\n".join(parts)
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head>"
        f'<body>\n<h1>{_text(title)}</h1>\n<p class="quiet">{_NOTICE}</p>\n{body}\n</body></html>\n'
    )
    with atomic_path(path, ConfigError) as temporary:
        temporary.write_text(text, encoding="utf-8")


def heading(text: str) -> str:
    return f"<h2>{_text(text)}</h2>"


def paragraph(text: str, *, quiet: bool = False) -> str:
    return f'<p class="quiet">{_text(text)}</p>' if quiet else f"<p>{_text(text)}</p>"


def warning(text: str) -> str:
    return f'<p class="warning">{_text(text)}</p>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def picture(path: Path, caption: str) -> str:
    """A PNG, within the page."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{data}">{_caption(caption)}</figure>'


def strips(rows: Sequence[tuple[str, Sequence[float]]], low: float, high: float, caption: str) -> str:
    """A line of dots for each row, a dot for each case and a mark at their mean, between two ends of an axis."""
    left, width, line = 190, 760, 34
    height = line * len(rows) + 34
    span = (high - low) or 1.0
    parts = []
    for tick in range(6):
        x, value = left + width * tick / 5, low + span * tick / 5
        parts.append(f'<line x1="{x}" x2="{x}" y1="6" y2="{height - 26}" stroke="var(--line)"/>')
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle" fill="var(--quiet)">{value:.3g}</text>')
    for number, (name, values) in enumerate(rows):
        y = 6 + line * (number + 0.5)
        parts.append(f'<text x="{left - 14}" y="{y + 5}" text-anchor="end" fill="var(--text)">{_text(name)}</text>')
        places = [left + width * (min(max(value, low), high) - low) / span for value in values]
        parts += [f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="var(--bar)" fill-opacity=".45"/>' for x in places]
        if places:
            mean = sum(places) / len(places)
            parts.append(
                f'<line x1="{mean:.1f}" x2="{mean:.1f}" y1="{y - 11}" y2="{y + 11}" stroke="var(--text)" '
                'stroke-width="2.5"/>'
            )
    svg = f'<svg viewBox="0 0 {left + width + 30} {height}" font-size="14" role="img">{"".join(parts)}</svg>'
    return f"<figure>{svg}{_caption(caption)}</figure>"


def _caption(text: str) -> str:
    return f"<figcaption>{_text(text)}</figcaption>"


def _text(text: str) -> str:
    return html.escape(text)
