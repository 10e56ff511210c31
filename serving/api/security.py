"""Who may ask for what, and how often: the one place that decides, before anything is routed.

An address that is not in the table below does not exist, whatever the router would make of it. Keys are configured as
hashes; without any, only this machine may ask.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import re
import secrets
import threading
import time
from functools import lru_cache
from typing import NamedTuple

from level1_pipeline.settings import Settings
from serving.errors import Refusal

PREDICT, ADMIN = "predict", "admin"
PAGE_FILES = tuple(f"/docs/{name}" for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon.png"))


class Address(NamedTuple):
    """What an address takes, and the scope of the keys that open it; None: open to all, because it tells no secret."""

    methods: tuple[str, ...]
    scope: str | None


READ = ("GET", "HEAD")
ADDRESSES = {
    "/predict": Address(("POST",), PREDICT),
    "/explain": Address(("POST",), PREDICT),
    "/model": Address(READ, PREDICT),
    "/outcomes": Address(("POST",), ADMIN),
    "/metrics": Address(READ, ADMIN),
    **dict.fromkeys(("/livez", "/readyz", "/docs", *PAGE_FILES, "/openapi.json"), Address(READ, None)),
}
MAX_CLIENTS = 10_000
SCHEME = re.compile("^bearer ", re.IGNORECASE)  # RFC 9110: the name of a scheme may be written in any case
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:/@\[\]]+?)\.?(?::[0-9]*)?", re.IGNORECASE)  # a name and perhaps a port


def new_key() -> tuple[str, str]:
    """A key of 256 random bits, and the hash to configure. A plain SHA-256 is safe for such a key: unlike a
    password it cannot be guessed."""
    key = secrets.token_urlsafe(32)
    return key, digest(key)


def digest(key: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def has_keys(settings: Settings) -> bool:
    """Whether any key is configured."""
    return bool(settings.predict_key_hash or settings.admin_key_hash)


@lru_cache(1000)
def is_local(host: str) -> bool:
    """Whether an address is this machine itself."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Caller(NamedTuple):
    """Where a request comes from, and what it shows."""

    address: str
    host: str  # header: the name under which it reached us
    authorization: str  # header


class Security:
    """Checks callers against the configured keys."""

    def __init__(self, settings: Settings):
        self.keys = {PREDICT: _hashes(settings.predict_key_hash), ADMIN: _hashes(settings.admin_key_hash)}
        self.locked = has_keys(settings)

    def admit(self, path: str, caller: Caller) -> str:
        """Who this is, for the rate limit: the hash of its key, or its address.

        Raises:
            Refusal: 401 without a valid key, 403 for a key of the other scope or a caller from elsewhere, 404 for an
                address that does not exist.
        """
        address = ADDRESSES.get(path)
        if address and address.scope is None:
            return caller.address
        if not self.locked:
            _only_this_machine(caller)
        if not address:
            raise Refusal(404, "there is no such address; see /docs")
        return self._holder(path, address.scope, caller) if self.locked else caller.address

    def trusts(self, caller: Caller) -> bool:
        """Whether an address that is open to all may tell this caller more: it holds a key, or is this machine."""
        return bool(self._scopes(caller)) if self.locked else _is_this_machine(caller)

    def _holder(self, path: str, scope: str | None, caller: Caller) -> str:
        held = self._scopes(caller)
        if not held:
            message = "send a key as the header 'Authorization: Bearer KEY'"
            raise Refusal(401, message, headers={"WWW-Authenticate": "Bearer"})
        if scope not in held:
            raise Refusal(403, f"this key may not do that; {path} needs a key of the scope '{scope}'")
        return _shown(caller)

    def _scopes(self, caller: Caller) -> list[str]:
        shown = _shown(caller)
        return [name for name, keys in self.keys.items() if _among(shown, keys)]


def check_method(path: str, method: str) -> None:
    """Refuse (405) a method that an address of the table does not take."""
    methods = ADDRESSES[path].methods
    if method not in methods:
        message = f"this address takes {' and '.join(methods)}, not this method; see /docs"
        raise Refusal(405, message, headers={"Allow": ", ".join(methods)})


def _shown(caller: Caller) -> str:
    return digest(SCHEME.sub("", caller.authorization).strip())


def _hashes(setting: str) -> list[str]:
    return [part.strip() for part in setting.split(",") if part.strip()]


def _among(shown: str, keys: list[str]) -> bool:
    """Compare in constant time."""
    return any(hmac.compare_digest(shown, key) for key in keys)


def _only_this_machine(caller: Caller) -> None:
    if not _is_this_machine(caller):
        message = "without a configured key only this machine may ask; make one with: python -m serving key"
        raise Refusal(403, message)


def _is_this_machine(caller: Caller) -> bool:
    """By its address, and by the name that it asked for: a page in a browser may bend its own name to this machine."""
    name = HOST.fullmatch(caller.host)
    return is_local(caller.address) and name is not None and is_local(name[1])


class RateLimit:
    """A bucket of tokens for each caller: `rate` come in every second, twice that fit in."""

    def __init__(self, rate: float):
        self.rate = rate
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens left, and when that was
        self._lock = threading.Lock()

    def take(self, who: str) -> None:
        """Use up one token.

        Raises:
            Refusal: 429, with the time to wait.
        """
        if not self.rate:
            return
        now, most = time.monotonic(), max(1.0, 2 * self.rate)
        with self._lock:
            if who not in self._buckets and len(self._buckets) >= MAX_CLIENTS:
                self._buckets.clear()  # rather a moment of grace for all than memory without bound
            left, before = self._buckets.get(who, (most, now))
            left = min(most, left + (now - before) * self.rate)
            self._buckets[who] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            wait = math.ceil((1 - left) / self.rate)
            message = f"more than {self.rate:g} requests a second; wait, or send several rows in one request"
            raise Refusal(429, message, headers={"Retry-After": str(wait)})
