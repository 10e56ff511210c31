"""Whether a folder of pages is whole: each link leads to a page, and a browser fetches nothing from a server."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Links(HTMLParser):
    """The addresses that a page names, those that a browser fetches by itself, and the places that others may name."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Keep what an element names."""
        values = {name: value or "" for name, value in attributes}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" or "src" in values:
            self.fetched.append(values.get("src") or values.get("href", ""))


def read(page: Path) -> Links:
    """The links of a page."""
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    return links


def broken(site: Path) -> Iterator[str]:
    """Each link that leads nowhere, and each thing that a page would fetch from a server."""
    pages = {page: read(page) for page in sorted(site.rglob("*.html")) if page.name != "404.html"}
    for page, links in pages.items():
        name = page.relative_to(site).as_posix()
        for address in links.fetched:
            if urlsplit(address).scheme in ("http", "https") or address.startswith("//"):
                yield f"{name} fetches {address}"
        for address in [*links.links, *links.fetched]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name} leads to {address}"
            elif parts.fragment and target in pages and not _is_there(parts.fragment, pages[target]):
                yield f"{name} leads to the place {address}"


def _is_there(fragment: str, page: Links) -> bool:
    """As a browser looks for it: as it is written, then decoded. Pages of notebooks have encoded names."""
    return bool({fragment, unquote(fragment)} & page.places)
