"""Files that pages load: our own, and those that npm brought at set-up, if it did."""

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

_ROOM = Path(__file__).parent
_FOLDERS = ("static", "vendor")
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
KEPT_S = 31_536_000
SMALLEST_PACKED = 1_000
# The tightest level takes four times as long for two hundredths less.
PACKING_LEVEL = 6


class Asset(NamedTuple):
    """One file; `packed` is the same for browsers that take gzip, where that is smaller."""

    body: bytes
    packed: bytes | None
    content_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """All files by name; few and small, so they stay in memory."""
    found: dict[str, Asset] = {}
    for folder in _FOLDERS:
        room = _ROOM / folder
        for path in sorted(room.iterdir()) if room.is_dir() else ():
            if path.suffix in _TYPES:
                assert path.name not in found, path.name
                found[path.name] = _asset_of(path)
    return found


def _asset_of(path: Path) -> Asset:
    body = path.read_bytes()
    packed: bytes | None = None
    if len(body) >= SMALLEST_PACKED:
        packed = gzip.compress(body, PACKING_LEVEL, mtime=0)
    if packed is not None and len(packed) > len(body) * 0.9:
        packed = None  # an image is packed already
    return Asset(body, packed, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])


def has_asset(name: str) -> bool:
    """Whether the file is there; what npm brings may be missing."""
    return name in assets()


def asset_url(name: str) -> str:
    """Its address changes with its content, so a browser may keep it."""
    return f"/static/{name}?v={assets()[name].digest}"


def add_routes(app: web.Application) -> None:
    """One address for all of them; they are read now, so that no request waits for that."""
    assets()
    app.router.add_get("/static/{name}", _asset)


async def _asset(request: web.Request) -> web.Response:
    found = assets().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    headers = {"ETag": f'"{found.digest}"', "Vary": "Accept-Encoding"}
    if request.query.get("v") == found.digest:
        headers["Cache-Control"] = f"public, max-age={KEPT_S}, immutable"
    else:
        headers["Cache-Control"] = "no-cache"
    if any(tag.value in (found.digest, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    body = found.body
    if found.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = found.packed
    return web.Response(body=body, content_type=found.content_type, headers=headers)
