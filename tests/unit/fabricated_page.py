"""The report's page of the fabricated results: its job, and the page as read back."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

from fabricated_cohort import ORDER, PARTICIPANTS, scan_of

from restresponse.report.page import Run, write_page

PAGE = Path("results/report/index.html")
TEXT = ("protocol", "arm", "model", "fold", "participant_id", "scan", "reason", "metric", "scope")


class Outline(HTMLParser):
    """Tags, the files an element would load, and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        wanted = {"img": "src", "link": "href", "script": "src", "iframe": "src"}.get(tag)
        self.loaded += [value for name, value in attrs if name == wanted]

    def handle_data(self, data):
        self.text += data


def run_of(tree: SimpleNamespace) -> Run:
    """What the rule gives to the page."""
    return Run(
        results=Path("results"),
        config=tree.config | {"report": {"title": "A study", "identifiers": True}},
        scan_batches={batch: [scan_of(name) for name in members] for batch, members in tree.batches.items()},
        anatomicals=PARTICIPANTS,
        batches=tree.batches,
        classifications=tree.plan.classifications,
        order=ORDER,
        minimum_dof=5,
    )


def page_of(run: Run) -> Outline:
    """The page, written and read back."""
    write_page(run, PAGE)
    outline = Outline()
    outline.feed(PAGE.read_text(encoding="utf-8"))
    return outline
