"""Success against preservation as a drawing: one line for each way to edit, one dot for each strength of its knob."""

import html
from typing import Any

WIDTH, HEIGHT, MARGIN = 720, 420, 48
OWN, OTHER = (
    ("#0b6e4f", "#1f9d74", "#4cb944", "#8fb339", "#157a8c"),
    ("#b33951", "#d1603d", "#8e4162", "#a9746e", "#777"),
)


def curve(rows: list[dict[str, Any]]) -> str:
    """An SVG of the rows of a report: greenish our ways, reddish the baselines. Empty where nothing was named.

    To the right more is kept (median PSNR in dB), upwards more edits succeed: the best corner is the upper right one.
    """
    lines: dict[str, list[tuple[float, float, str]]] = {}
    baselines = {row["way"] for row in rows if row["baseline"]}
    for row in rows:
        score = row["scores"]["all"]
        if "success" in score and "kept" in score:
            label = f"{row['way']} {row['strength']}".strip() + f", {row['calls']:.0f} calls"
            lines.setdefault(row["way"], []).append((score["kept"], score["success"], label))
    if not lines:
        return ""
    kept = [point[0] for points in lines.values() for point in points]
    low, high = min(kept) // 5 * 5, max(kept) // 5 * 5 + 5
    bottom = min(point[1] for points in lines.values() for point in points) // 0.1 / 10

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - low) / (high - low), (y - bottom) / (1 - bottom if bottom < 1 else 1)
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    parts, counts = [], [0, 0]
    for x in range(int(low), int(high) + 1, 5):
        parts.append(_text(*place(x, bottom), f"{x} dB", dy=20, anchor="middle"))
    for tenth in range(round(bottom * 10), 11):
        (x, y), (end, _) = place(low, tenth / 10), place(high, tenth / 10)
        parts.append(f'<path d="M{x:.0f} {y:.0f}H{end:.0f}" stroke="#ddd"/>' + _text(x, y, f"{tenth / 10:.1f}", dx=-34))
    for way, points in lines.items():
        shades, kind = (OTHER, 1) if way in baselines else (OWN, 0)
        colour = shades[counts[kind] % len(shades)]
        counts[kind] += 1
        at = [place(x, y) for x, y, _ in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"><title>{html.escape(label)}</title></circle>'
            for (x, y), (_, _, label) in zip(at, points, strict=True)
        )
        name = _text(*at[0], html.escape(way), dx=8, dy=-6)
        parts.append(f'<g fill="{colour}"><polyline points="{path}" fill="none" stroke="{colour}"/>{dots}{name}</g>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" font-size="11">{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, *, dx: int = 0, dy: int = 4, anchor: str = "start") -> str:
    return f'<text x="{x + dx:.0f}" y="{y + dy:.0f}" text-anchor="{anchor}">{text}</text>'
