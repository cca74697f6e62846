"""
The same figure twice is the same file.

Plotting libraries number clip paths from a counter or at random, date their PDFs, and order PDF objects as a hash table
happens to. Here such files are brought into one form; what they show does not change.
"""

from __future__ import annotations

import re

_REFERENCES = (r'\bid="', r"url\(#", r"url\(&quot;#", r"url\('#", r'href="#', r'aria-labelledby="', r'aria-describedby="')


def svg(text: str) -> str:
    """Number the ids of an SVG document in the order in which they appear."""
    ids = dict.fromkeys(re.findall(r'\bid="([^"]+)"', text))
    names = {name: f"i{number}" for number, name in enumerate(ids)}
    pattern = re.compile(rf"({'|'.join(_REFERENCES)})([^\"')&]+)")
    return pattern.sub(lambda found: found[1] + names.get(found[2], found[2]), text)


def pdf(data: bytes) -> bytes:
    """
    Order and number the objects of a PDF by the way from its root, entries of dictionaries sorted; take dates away.

    Only plain files are touched: one cross-reference table, no object streams, no encryption (ISO 32000-1, section 7.5).
    """
    data = re.sub(rb"/(CreationDate|ModDate) ?\((D:[^)]*)\)", lambda m: m[0][: -len(m[2]) - 1] + _undated(m[2]) + b")", data)
    trailer = re.search(rb"trailer\s*<<(.*?)>>\s*startxref\s*\d+\s*%%EOF\s*\Z", data, re.DOTALL)
    bodies = _objects(data)
    if not trailer or not bodies or b"/Prev" in trailer[1] or b"/ObjStm" in data:
        return data
    order: dict[int, int] = {}

    def visit(text: bytes) -> None:
        for found in re.finditer(rb"(\d+) 0 R\b", text):
            number = int(found[1])
            if number in bodies and number not in order:
                order[number] = len(order) + 1
                visit(bodies[number][0])

    def renumber(text: bytes) -> bytes:
        return re.sub(rb"(\d+) 0 R\b", lambda m: b"%d 0 R" % order.get(int(m[1]), 0), text)

    bodies = {number: (_sorted(head), rest) for number, (head, rest) in bodies.items()}
    visit(trailer[1])
    out = bytearray(data[: data.index(b" 0 obj")].rpartition(b"\n")[0] + b"\n")
    places = []
    for old, new in order.items():
        places.append(len(out))
        head, rest = bodies[old]
        out += b"%d 0 obj\n" % new + renumber(head) + rest + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    ends = re.sub(rb"/Size \d+", b"/Size %d" % (len(places) + 1), renumber(trailer[1]))
    ends = re.sub(rb"/ID\s*\[.*?\]", b"", ends, flags=re.DOTALL)
    return bytes(out) + b"trailer\n<<" + ends + b">>\nstartxref\n%d\n%%%%EOF\n" % start


def _objects(data: bytes) -> dict[int, tuple[bytes, bytes]]:
    """Return the objects by number: what stands before their stream, and the stream."""
    found: dict[int, tuple[bytes, bytes]] = {}
    start = re.compile(rb"\s*(\d+) 0 obj\b\s*")
    position = data.find(b" 0 obj")
    position = data.rfind(b"\n", 0, position)
    while position >= 0 and (match := start.match(data, position)):
        end = data.find(b"endobj", match.end())
        stream = re.compile(rb"stream\r?\n").search(data, match.end(), end)
        if stream:
            length = re.search(rb"/Length (\d+)(?! \d+ R)", data[match.end() : stream.start()])
            if not length:
                return {}
            end = data.find(b"endobj", stream.end() + int(length[1]))
        if end < 0:
            return {}
        split = stream.start() if stream else end
        found[int(match[1])] = (data[match.end() : split].rstrip(b"\r\n") + b"\n" * bool(stream), data[split:end].rstrip(b"\r\n"))
        position = end + len(b"endobj")
    return found


def _sorted(head: bytes) -> bytes:
    """Sort runs of ``/name number 0 R`` lines, as resources are listed."""
    line = rb"[ \t]*/\w+ \d+ 0 R\r?\n"
    return re.sub(rb"(?:" + line + rb"){2,}", lambda found: b"".join(sorted(found[0].splitlines(keepends=True))), head)


def _undated(date: bytes) -> bytes:
    """Return a date of the same length that says nothing."""
    return b"D:20000101000000"[: len(date)] + re.sub(rb"[1-9]", b"0", date[16:])
