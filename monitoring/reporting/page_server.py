"""The pages of a home on 127.0.0.1: those that are meant to be read, and no other file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

PAGES = (".html", ".md", ".png", ".svg")


class _Pages(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".md": "text/plain; charset=utf-8"}  # noqa: RUF012

    def __init__(self, *connection: object, first: str, **about: object):
        self.first = first
        super().__init__(*connection, **about)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self._answer(super().do_GET)

    def do_HEAD(self) -> None:
        self._answer(super().do_HEAD)

    def _answer(self, send: object) -> None:
        page = unquote(urlsplit(self.path).path)
        if page == "/":
            self.send_response(302)
            self.send_header("Location", f"/{self.first}")
            self.end_headers()
        elif page.endswith(PAGES):
            send()  # type: ignore[operator]
        else:
            self.send_error(404)

    def log_message(self, *about: object) -> None:
        """Say nothing: the terminal belongs to the command."""


@contextmanager
def serve(root: Path, wanted: int, first: Path) -> Iterator[int]:
    """Serve the pages below a folder during a block; the address alone leads to `first`.

    Yields the port: the wanted one, or another one when it is in use. A port that was looked for before it is used
    may be taken in between.
    """
    handler = partial(_Pages, directory=str(root), first=first.relative_to(root).as_posix())
    try:
        server = ThreadingHTTPServer(("127.0.0.1", wanted), handler)
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
