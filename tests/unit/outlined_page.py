"""A quality page as read back: its text, its elements, its figures, its tables."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

_EMPTY = {"meta", "link", "img", "input", "br", "hr"}  # elements of HTML that have no end


@dataclass
class Figure:
    """What a figure shows by reference, and its caption."""

    uses: list[str] = field(default_factory=list)
    caption: str = ""


class Outline(HTMLParser):
    """Text of a page, everything an element of it would load, and what its elements are."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.text, self.loaded, self.links = "", "", [], []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.figures: list[Figure] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []

    def handle_starttag(self, tag, attrs):
        wanted = {"img": "src", "script": "src", "image": "href", "iframe": "src"}.get(tag)
        self.loaded += [value for name, value in attrs if name == wanted or (tag == "link" and name == "href")]
        self.links += [value for name, value in attrs if tag == "a" and name == "href"]
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _EMPTY:
            self._open.append(tag)
        if tag == "figure":
            self.figures.append(Figure())
        elif tag == "use" and "figure" in self._open:
            self.figures[-1].uses.append(dict(attrs)["href"])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]

    def handle_data(self, data):
        self.text += data
        if "figcaption" in self._open:
            self.figures[-1].caption += data
        if "th" in self._open or "td" in self._open:
            self.rows[-1][-1] += data

    def named(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """Attributes of every element of this tag that has these; `kind` is the class."""
        wanted = {"class" if name == "kind" else name: value for name, value in wanted.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def rule(self, selector: str) -> str:
        """What the page's style says of a selector, all of it; empty where it says nothing."""
        style = self.source.partition("<style>")[2].partition("</style>")[0]
        rules = re.findall(r"([^{}]+)\{([^{}]*)\}", style)
        return " ".join(
            text.strip() for selectors, text in rules if selector in (one.strip() for one in selectors.split(","))
        )


def outline_of(path: Path) -> Outline:
    """A page as read back."""
    outline = Outline()
    outline.source = path.read_text(encoding="utf-8")
    outline.feed(outline.source)
    return outline


def pixels(uri: str) -> np.ndarray:
    """The image that a data URI holds."""
    from PIL import Image

    kind, _, content = uri.partition(";base64,")
    assert kind.startswith("data:image/")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))), float)
