"""A picture as every reader wants it: interactive in JupyterLab, drawn once everywhere else, and in words."""

import html
import re
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from platformlib.errors import QueryError
from platformlib.plots.canvas import Spec, View, composed, static
from platformlib.plots.style import INK

VEGA = "application/vnd.vegalite.v5+json"
VERSION = "5.20"  # of Vega-Lite, as vl-convert draws it
ROOT = 'style="color:var(--jp-content-font-color1,inherit);max-width:100%;height:auto" role="img"'
PRINTED = "#1F2933"  # ink on white paper
PLACES = re.compile(r'\b(?:d|transform|[xy][12]?|width|height)="[^"]*"')
SIZE = re.compile(r'width="(\d+)" height="(\d+)"')
NUMBER = re.compile(r"-?\d+\.\d{2,}")
IDS = re.compile(r"(id=\"|url\(#)([A-Za-z]+)(\d+)")


class Picture:
    """A picture of one view.

    JupyterLab draws its Vega-Lite by itself, from the notebook alone: hover for values, drag to move along the time,
    shift and wheel to narrow it. Everything else gets the SVG, which follows the page's colours. Both come out the
    same each time.
    """

    def __init__(self, view: View) -> None:
        self.view = view

    def __repr__(self) -> str:
        return self.alt

    @property
    def alt(self) -> str:
        """The picture in words."""
        return self.view.alt

    @cached_property
    def spec(self) -> Spec:
        """The picture in Vega-Lite 5."""
        return composed(self.view)

    @cached_property
    def svg(self) -> str:
        """The picture as SVG, without anything that moves."""
        import vl_convert

        return settled(vl_convert.vegalite_to_svg(static(self.spec), vl_version=VERSION), self.alt)

    def png(self, *, scale: float = 2) -> bytes:
        """The picture on white, for places that draw no SVG."""
        import vl_convert

        head, _, rest = self.svg.partition(">")
        paper = f'{head}><rect width="100%" height="100%" fill="white"/>{rest}'
        return bytes(vl_convert.svg_to_png(paper.replace(INK, PRINTED), scale=scale))

    def save(self, path: str | Path) -> Path:
        """Write the picture as the path's suffix says: .svg or .png.

        Raises:
            QueryError: another suffix.
        """
        file = Path(path)
        match file.suffix:
            case ".svg":
                file.write_text(self.svg, "utf-8")
            case ".png":
                file.write_bytes(self.png())
            case _:
                raise QueryError(f"no picture can be written as {file.suffix!r}", fix="use .svg or .png")
        return file

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {VEGA: self.spec, "image/svg+xml": self.svg, "text/plain": self.alt}


class Sentence(Picture):
    """What there is to say where there is nothing to draw."""

    def __init__(self, title: str, words: str) -> None:
        alt = f"{title}. {words}" if title else words
        super().__init__(View(title, words, [], alt))

    @cached_property
    def svg(self) -> str:
        """The sentence on a line of its own, so that it can be saved as other pictures are."""
        lines = [f'<text x="0" y="18" font-weight="bold" font-size="14">{html.escape(self.view.title)}</text>',
                 f'<text x="0" y="42" font-size="12">{html.escape(self.view.subtitle)}</text>']  # fmt: skip
        return wrapped("".join(lines), 866, 56, self.alt)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        title = f"<b>{html.escape(self.view.title)}</b><br>" if self.view.title else ""
        return {"text/html": f"<p>{title}{html.escape(self.view.subtitle)}</p>", "text/plain": self.alt}


class Pictures(Picture):
    """Several pictures below each other: each has its own unit, all have one left edge and one width."""

    def __init__(self, parts: Sequence[Picture]) -> None:
        super().__init__(View("", "", [], " ".join(part.alt for part in parts)))
        self.parts = tuple(parts)

    @cached_property
    def svg(self) -> str:
        """All of them in one SVG."""
        inner, top, width = [], 0, 0
        for part in self.parts:
            size = SIZE.search(part.svg)
            wide, tall = (int(size[1]), int(size[2])) if size else (0, 0)
            inner.append(part.svg.replace("<svg ", f'<svg y="{top}" ', 1))
            top, width = top + tall, max(width, wide)
        return wrapped("".join(inner), width, top, self.alt)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for part in self.parts:
            display(part)  # type: ignore[no-untyped-call]


def wrapped(content: str, width: int, height: int, alt: str) -> str:
    """Content as an SVG of that size, with its words."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    words = html.escape(alt, quote=True)
    letters = f'font-family="sans-serif" fill="{INK}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {letters} {ROOT} aria-label="{words}">{content}</svg>'


def settled(svg: str, alt: str) -> str:
    """The SVG with short numbers, with ids that no other picture of a page has, and with its words."""
    shorter = PLACES.sub(lambda place: NUMBER.sub(lambda found: f"{float(found[0]):.1f}", place[0]), svg)
    mine = format(zlib.crc32(IDS.sub(r"\1\2", shorter).encode()), "08x")
    order: dict[str, int] = {}
    own = IDS.sub(lambda found: f"{found[1]}{found[2]}{mine}-{order.setdefault(found[3], len(order))}", shorter)
    return own.replace("<svg ", f'<svg {ROOT} aria-label="{html.escape(alt, quote=True)}" ', 1)
