"""A heat map of conflicts as one HTML file: no script, no network, readable without colours.

It is a table with headings for rows and columns, so that it can be read aloud; each cell says its
number, colour only repeats it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from monitoring.lf_analysis import Analysis

__all__ = ["heat_map"]

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem; max-width: 75rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { padding: .25rem .5rem; border: 1px solid #8886; }
thead th { vertical-align: bottom; }
.map thead th span { writing-mode: vertical-rl; transform: rotate(180deg); }
tbody th { text-align: left; font-weight: 500; white-space: nowrap; }
.map td { text-align: right; min-width: 2.6rem; }
.figures td { text-align: right; } .figures td.words { text-align: left; }
.drop, .review { font-weight: 700; }
a:focus-visible, .scroll:focus-visible { outline: 3px solid #1a73e8; }
"""
_LIGHT: Final = (255, 255, 255)
_DARK: Final = (124, 29, 17)
_WHITE_TEXT_FROM: Final = 0.69
# Below it black, from it on white stands out by 4.5 to 1 at least (WCAG 2.2, 1.4.3).


def heat_map(analyses: Sequence[Analysis]) -> str:
    """Return the page: per task a table of conflicts, and one of figures and advice."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Conflicts of labeling functions</title><style>{_STYLE}</style></head><body>",
        "<main><h1>Conflicts of labeling functions</h1>",
        "<p>A cell says on how many of a hundred examples, among those on which both vote, the "
        "two differ. A dash: they never vote on the same example. A darker cell is a higher "
        "number.</p>",
    ]
    for number, analysis in enumerate(analyses):
        parts += _task(analysis, number)
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _task(analysis: Analysis, number: int) -> list[str]:
    shown = [j for j, lf in enumerate(analysis.lfs) if lf.coverage > 0]
    silent = [lf.name for lf in analysis.lfs if lf.coverage == 0]
    name = escape(analysis.task)
    parts = [
        f'<section aria-labelledby="task-{number}"><h2 id="task-{number}">Task {name}</h2>',
        f"<p>{analysis.examples:,} examples, {analysis.gold:,} with a gold answer.</p>",
    ]
    if silent:
        listed = ", ".join(escape(one) for one in silent)
        parts.append(f"<p>Never voted, and are left out of the map: {listed}.</p>")
    if shown:
        parts += _map(analysis, shown)
    parts += [*_figures(analysis), "</section>"]
    return parts


def _map(analysis: Analysis, shown: Sequence[int]) -> list[str]:
    names = [escape(analysis.lfs[j].name) for j in shown]
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    parts = [
        '<div class="scroll" tabindex="0" role="region" aria-label="Conflicts, in per cent">',
        '<table class="map"><caption>Conflicts, in per cent of joint votes</caption>',
        f"<thead><tr><td></td>{head}</tr></thead><tbody>",
    ]
    for i, name in zip(shown, names, strict=True):
        cells = "".join(_cell(analysis, i, j) for j in shown)
        parts.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    parts.append("</tbody></table></div>")
    return parts


def _cell(analysis: Analysis, i: int, j: int) -> str:
    both = int(analysis.overlaps[i, j])
    if i == j:
        return '<td class="none">·</td>'
    if both == 0:
        return '<td class="none">–</td>'
    share = float(analysis.conflicts[i, j])
    red, green, blue = (
        round(light + share * (dark - light)) for light, dark in zip(_LIGHT, _DARK, strict=True)
    )
    ink = "#fff" if share >= _WHITE_TEXT_FROM else "#000"
    title = escape(
        f"{analysis.lfs[i].name} and {analysis.lfs[j].name}: {share:.1%} of {both:,} joint votes",
        quote=True,
    )
    return (
        f'<td style="background:rgb({red},{green},{blue});color:{ink}" title="{title}">'
        f"{100 * share:.0f}</td>"
    )


def _figures(analysis: Analysis) -> list[str]:
    parts = [
        '<div class="scroll" tabindex="0" role="region" aria-label="Figures and advice">',
        '<table class="figures"><caption>Figures and advice</caption><thead><tr>',
        *(
            f'<th scope="col">{title}</th>'
            for title in (
                "labeling function",
                "coverage",
                "overlap",
                "conflict",
                "estimated accuracy",
                "gold accuracy",
                "advice",
            )
        ),
        "</tr></thead><tbody>",
    ]
    for lf in analysis.lfs:
        gold = lf.gold_accuracy
        told = "–" if gold.ratio is None else f"{gold.ratio:.1%} of {gold.n:,}"
        estimated = "–" if lf.estimated_accuracy is None else f"{lf.estimated_accuracy:.1%}"
        parts.append(
            f'<tr><th scope="row">{escape(lf.name)} v{lf.version}</th><td>{lf.coverage:.1%}</td>'
            f"<td>{lf.overlap:.1%}</td><td>{lf.conflict:.1%}</td><td>{estimated}</td>"
            f'<td>{told}</td><td class="words"><span class="{lf.advice.verdict}">'
            f"{lf.advice.verdict}</span>: {escape(lf.advice.reason)}</td></tr>"
        )
    parts.append("</tbody></table></div>")
    return parts
