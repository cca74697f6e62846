"""
Drawings of lineage: as text, and as SVG, which has boxes in layers from left to right, as data flows, and curves between them.

Where many curves would cross, boxes are put near to what they are joined to, in a few passes: not the best order, but soon.
"""

from __future__ import annotations

import html
import itertools
import unicodedata
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from epista.client.labels import Label, labels
from epista.client.listings import printable
from epista.contract.lineage import Edge, Graph

MOST_BOXES = 200
"""How many boxes a drawing has: those nearest to what it is about."""

MOST_BENDS = 4000
"""How many places on the way of curves through other layers are kept free; with more, curves go straight on."""

COLUMNS, SMALL_COLUMNS = 30, 38
"""How many columns of text fit into a box, in the first line and in the second."""

CHARACTERS = 160
"""How much of a query or of a cell stands in one line of text."""

WIDTH, HEIGHT = 228, 46
"""Of a box."""

ACROSS, DOWN, MARGIN = 56, 16, 16
"""How far boxes are apart, and from the border."""

_PASSES = 6

_LOOKS = {
    "version": 'fill="#eaf2fb" stroke="#3f72af" rx="4"',
    "root": 'fill="#cfe2f7" stroke="#1f4e86" stroke-width="2.5" rx="4"',
    "activity": 'fill="#fff5df" stroke="#b9822b" rx="22"',
    "restricted": 'fill="#f4f4f4" stroke="#8a8a8a" stroke-dasharray="5 4" rx="4"',
}


class _Spot(NamedTuple):
    """A place in a layer: of a box, or (with a number) where an edge passes it."""

    node: str
    edge: int = -1


def svg(graph: Graph) -> str:
    """Return a drawing of a graph, of which nothing that anybody named is anything but text."""
    said = labels(graph)
    drawn = _nearest(graph)
    edges = [edge for edge in graph.edges if edge.source in drawn and edge.target in drawn]
    layer = _layers(drawn, edges)
    columns, ways = _columns(layer, edges)
    place = _places(columns)
    parts = [_curve([place[spot] for spot in way]) for way in ways]
    parts += [_box(said[node], *place[_Spot(node)], is_root=node in graph.roots) for node in layer]
    width = max((x for x, _ in place.values()), default=0) + WIDTH + MARGIN
    height = max((y for _, y in place.values()), default=0) + HEIGHT + MARGIN
    left_out = len(said) - len(drawn)
    if left_out or graph.is_cut:
        text = f"and {left_out:,} more that are not drawn" if left_out else "and more than one graph may have"
        parts.append(f'<text x="{MARGIN}" y="{height + 8}" font-size="12" fill="#444">{text}</text>')
        height += 20
    title = html.escape(_cut(f"Lineage of {', '.join(said[root].title for root in graph.roots)}", 200))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img"'
        f' font-family="system-ui, sans-serif"><title>{title}</title>{_ARROW}<rect width="100%" height="100%" fill="#fff"/>'
        + "".join(parts)
        + "</svg>"
    )


_ARROW = (
    '<defs><marker id="epista-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="#6b7280"/></marker></defs>'
)


def lines(graph: Graph) -> Iterator[str]:
    """Yield a graph as lines of text: what each root came from, then what came of it."""
    said = labels(graph)
    sources: defaultdict[str, list[str]] = defaultdict(list)
    targets: defaultdict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        sources[edge.target].append(edge.source)
        targets[edge.source].append(edge.target)
    for root in graph.roots:
        yield _line(said[root])
        if not sources[root] and not targets[root]:
            yield "nothing is recorded of where it came from, and nothing came of it"
        for title, near in (("made from", sources), ("went into", targets)):
            if near[root]:
                yield f"{title}:"
                yield from _below(near, said, root, "", {root})
    if graph.is_cut:
        yield "and more than one graph may have: look at a part of it"


def _below(near: Mapping[str, Sequence[str]], said: Mapping[str, Label], node: str, indent: str, seen: set[str]) -> Iterator[str]:
    """Yield what is next to a node, and what is next to that; each only once, for many ways may lead to it."""
    following = sorted(near[node], key=lambda one: said[one])
    for one in following:
        is_last = one == following[-1]
        inner = indent + ("   " if is_last else "│  ")
        is_known = one in seen and bool(near[one])
        yield f"{indent}{'└─' if is_last else '├─'} {_line(said[one])}{'  (see above)' if is_known else ''}"
        if is_known:
            continue
        seen.add(one)
        bar = "│  " if near[one] else "   "
        for line in said[one].more if said[one].kind == "activity" else ():
            yield f"{inner}{bar}{_short(line)}"
        yield from _below(near, said, one, inner, seen)


def _line(label: Label) -> str:
    return printable("  ".join(part for part in (label.title, label.detail) if part))


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= CHARACTERS else line[: CHARACTERS - 1] + "…"


def _nearest(graph: Graph) -> dict[str, None]:
    """Return the nodes that are drawn, nearest first."""
    beside: defaultdict[str, list[str]] = defaultdict(list)
    for edge in graph.edges:
        beside[edge.source].append(edge.target)
        beside[edge.target].append(edge.source)
    found = dict.fromkeys(graph.roots)
    waiting = deque(found)
    while waiting and len(found) < MOST_BOXES:
        for node in beside[waiting.popleft()]:
            if node not in found and len(found) < MOST_BOXES:
                found[node] = None
                waiting.append(node)
    return found


def _layers(nodes: Iterable[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return the layer of each node: after all that went into it, and what nothing went into right before what it went into."""
    after: defaultdict[str, list[str]] = defaultdict(list)
    before = dict.fromkeys(nodes, 0)
    is_first = dict.fromkeys(before, True)
    for edge in edges:
        after[edge.source].append(edge.target)
        before[edge.target] += 1
        is_first[edge.target] = False
    layer = dict.fromkeys(before, 0)
    ready = deque(node for node, count in before.items() if not count)
    while ready:
        for node in after[here := ready.popleft()]:
            layer[node] = max(layer[node], layer[here] + 1)
            before[node] -= 1
            if not before[node]:
                ready.append(node)
    for node, following in after.items():
        if is_first[node] and following:
            layer[node] = max(0, min(layer[one] for one in following) - 1)
    return layer


def _columns(layer: dict[str, int], edges: Sequence[Edge]) -> tuple[list[list[_Spot]], list[list[_Spot]]]:
    """Return what stands in each layer from top to bottom, and by which spots each edge goes."""
    columns: list[list[_Spot]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node, number in layer.items():
        columns[number].append(_Spot(node))
    spans = [range(layer[edge.source] + 1, layer[edge.target]) for edge in edges]
    bends = sum(map(len, spans)) <= MOST_BENDS
    ways = []
    for number, (edge, span) in enumerate(zip(edges, spans, strict=True)):
        passed = [_Spot(f"{edge.source} {at}", number) for at in span] if bends else []
        for at, spot in zip(span, passed, strict=False):
            columns[at].append(spot)
        ways.append([_Spot(edge.source), *passed, _Spot(edge.target)])
    beside: defaultdict[_Spot, tuple[list[_Spot], list[_Spot]]] = defaultdict(lambda: ([], []))
    for way in ways:
        for one, other in itertools.pairwise(way):
            beside[one][1].append(other)
            beside[other][0].append(one)
    for number in range(_PASSES):
        side = number % 2
        for column in columns if side == 0 else reversed(columns):
            _sort(column, columns, beside, side)
    return columns, ways


def _sort(
    column: list[_Spot], columns: Sequence[Sequence[_Spot]], beside: dict[_Spot, tuple[list[_Spot], list[_Spot]]], side: int
) -> None:
    """Put each spot of a layer where, on average, those are that it is joined to on one side."""
    height = {spot: (index + 0.5) / len(one) for one in columns for index, spot in enumerate(one)}
    wanted = {
        spot: sum(height[one] for one in near) / len(near) if (near := beside[spot][side]) else height[spot] for spot in column
    }
    column.sort(key=wanted.__getitem__)


def _places(columns: Sequence[Sequence[_Spot]]) -> dict[_Spot, tuple[float, float]]:
    """Return the left upper corner of every spot; where an edge passes, little room is taken."""
    heights = [sum(_height(spot) + DOWN for spot in column) - DOWN for column in columns]
    tallest = max(heights, default=0)
    places: dict[_Spot, tuple[float, float]] = {}
    for number, (column, height) in enumerate(zip(columns, heights, strict=True)):
        y = MARGIN + (tallest - height) / 2
        for spot in column:
            # As if it were a box, so that curves go through the middle of it.
            places[spot] = (MARGIN + number * (WIDTH + ACROSS), y - (0 if spot.edge < 0 else HEIGHT / 2))
            y += _height(spot) + DOWN
    return places


def _height(spot: _Spot) -> int:
    return HEIGHT if spot.edge < 0 else 0


def _curve(places: Sequence[tuple[float, float]]) -> str:
    (x, y), *rest = places
    x, y = x + WIDTH, y + HEIGHT / 2
    path = [f"M{x:g} {y:g}"]
    for number, (next_x, next_y) in enumerate(rest):
        next_y += HEIGHT / 2
        bend = (next_x - x) / 2
        path.append(f"C{x + bend:g} {y:g} {next_x - bend:g} {next_y:g} {next_x:g} {next_y:g}")
        if number < len(rest) - 1:
            path.append(f"H{next_x + WIDTH:g}")
        x, y = next_x + WIDTH, next_y
    return f'<path d="{"".join(path)}" fill="none" stroke="#6b7280" stroke-width="1.3" marker-end="url(#epista-arrow)"/>'


def _box(label: Label, x: float, y: float, *, is_root: bool) -> str:
    folder, _, name = label.title.rpartition("/") if label.kind == "version" else ("", "", label.title)
    small = ", ".join(part for part in (folder, label.detail) if part)
    about = "\n".join(printable(line) for part in (label.title, label.detail, *label.more) for line in part.split("\n"))
    middle = x + WIDTH / 2
    written = [_written(name, middle, y + (20 if small else 28), 12.5, COLUMNS)]
    if small:
        written.append(_written(small, middle, y + 36, 10.5, SMALL_COLUMNS))
    rectangle = f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" {_LOOKS["root" if is_root else label.kind]}/>'
    return f'<g text-anchor="middle"><title>{html.escape(about)}</title>{rectangle}{"".join(written)}</g>'


def _written(text: str, x: float, y: float, size: float, columns: int) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="#222">{html.escape(_cut(text, columns))}</text>'


def _cut(text: str, columns: int) -> str:
    """Return what of a text fits into so many columns."""
    shown = printable(text)
    room = columns
    for index, char in enumerate(shown):
        room -= 2 if unicodedata.east_asian_width(char) in "WF" else 0 if unicodedata.combining(char) else 1
        if room < 0:
            return shown[: index - 1] + "…"
    return shown
