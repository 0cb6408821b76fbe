"""Pages of a router that show how a way in treats HTTP: bodies, headers, cookies, streams."""

import asyncio
import gzip
import hashlib
import json

from aiohttp import web

from firmware_sim.lan.bulk import BULK_BYTES_MAX, bulk
from firmware_sim.lan.web_server import host_name, page

EVENTS_MAX = 600
EVENT_S = 1.0
CHUNKS = 10
_FAR_OFF = "Wed, 31 Dec 2036 23:59:59 GMT"
WORKER_WORDS = "answered by the page's worker"
_WORKER = f"""
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => event.respondWith(new Response("{WORKER_WORDS}")));
"""
_GZIP_TEXT = "This text was sent with Content-Encoding: gzip.\n" * 200


def add_samples(application: web.Application) -> None:
    """Adds them; none asks for a sign-in, so that a plain client can be used."""
    application.add_routes(
        [
            web.get("/form", _form),
            web.post("/form", _form_sent),
            web.get("/chunked", _chunked),
            web.get("/download", _download),
            web.post("/upload", _upload),
            web.put("/upload", _upload),
            web.get("/cookies", _three_cookies),
            web.get("/gzip", _gzip),
            web.get("/events", _events),
            web.get("/worker.js", _worker),
            web.route("*", "/headers", _headers),
            web.route("*", "/headers/{rest:.*}", _headers),
        ]
    )


async def _form(request: web.Request) -> web.Response:
    return page("form.html", sent="Nothing was sent yet.")


async def _form_sent(request: web.Request) -> web.Response:
    fields = await request.post()
    lines = [f"{name} = {value}" for name, value in fields.items() if isinstance(value, str)]
    return page("form.html", sent="\n".join(lines))


async def _chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/html; charset=utf-8"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await response.write(b"<!doctype html><title>Chunked</title><ol>\n")
    for number in range(1, CHUNKS + 1):
        await response.write(f"<li>chunk {number} of {CHUNKS}</li>\n".encode())
        await asyncio.sleep(0)  # lets each leave by itself
    await response.write(b"</ol>\n")
    return response


def _number(request: web.Request, name: str, default: int, high: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) > high:
        raise web.HTTPBadRequest(text=f"{name} must be 0 to {high}\n")
    return int(text)


async def _download(request: web.Request) -> web.StreamResponse:
    """`?bytes=N`: the first N bytes of a stream that never changes."""
    total_bytes = _number(request, "bytes", 1024 * 1024, BULK_BYTES_MAX)
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": 'attachment; filename="backup.bin"',
        }
    )
    response.content_length = total_bytes
    await response.prepare(request)
    if request.method != "HEAD":
        for block in bulk(total_bytes):
            await response.write(block)
    return response


async def _upload(request: web.Request) -> web.Response:
    digest, total_bytes = hashlib.sha256(), 0
    async for block in request.content.iter_any():
        total_bytes += len(block)
        if total_bytes > BULK_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(BULK_BYTES_MAX, total_bytes)
        digest.update(block)
    return web.json_response({"bytes": total_bytes, "sha256": digest.hexdigest()})


async def _three_cookies(request: web.Request) -> web.Response:
    """Sets three in one answer: a plain one, one of a folder, one of a domain with an end."""
    response = web.json_response(dict(request.cookies))
    response.set_cookie("first", "1", path="/")
    response.set_cookie("second", "2", path="/cookies", httponly=True, samesite="Strict")
    response.set_cookie("third", "3", path="/", domain=host_name(request), expires=_FAR_OFF)
    return response


async def _gzip(request: web.Request) -> web.Response:
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return web.Response(text=_GZIP_TEXT)
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"}
    return web.Response(body=gzip.compress(_GZIP_TEXT.encode(), mtime=0), headers=headers)


async def _events(request: web.Request) -> web.StreamResponse:
    """`?count=N`: server-sent events, the first at once, then one a second."""
    count = _number(request, "count", EVENTS_MAX, EVENTS_MAX)
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    for number in range(count):
        await response.write(f"id: {number}\ndata: {json.dumps({'event': number})}\n\n".encode())
        if number + 1 < count:
            await asyncio.sleep(EVENT_S)
    return response


async def _worker(request: web.Request) -> web.Response:
    """A service worker that answers everything below its own path itself."""
    return web.Response(text=_WORKER, content_type="text/javascript")


async def _headers(request: web.Request) -> web.Response:
    """The request as it arrived: method, target, headers in order with their doubles."""
    return web.json_response(
        {
            "method": request.method,
            "target": request.raw_path,
            "version": f"{request.version.major}.{request.version.minor}",
            "secure": request.secure,
            "headers": [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in request.raw_headers
            ],
        }
    )
