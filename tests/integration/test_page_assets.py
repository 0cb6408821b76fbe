"""Files that pages load, over HTTP: their types, packed or plain, how long browsers keep them."""

import gzip

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.web.assets import Asset, add_routes, asset_url, assets

PLAIN = {"Accept-Encoding": "identity"}
PACKED = {"Accept-Encoding": "br, gzip"}
TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
}


def client() -> TestClient[web.Request, web.Application]:
    app = web.Application()
    add_routes(app)
    # What is packed has to be seen packed.
    return TestClient(TestServer(app), auto_decompress=False)


async def test_every_file_comes_whole_with_its_type_packed_or_plain() -> None:
    async with client() as browser:
        for name, asset in assets().items():
            for headers in (PLAIN, PACKED):
                async with browser.get(asset_url(name), headers=headers) as answer:
                    body = await answer.read()
                    packed = "Content-Encoding" in answer.headers
                assert answer.status == 200 and answer.headers["Vary"] == "Accept-Encoding", name
                assert answer.content_type == TYPES[name.rpartition(".")[2]], name
                assert packed == (headers is PACKED and asset.packed is not None), name
                assert (gzip.decompress(body) if packed else body) == asset.body, name
                assert len(body) <= len(asset.body)
                assert "immutable" in answer.headers["Cache-Control"], name


async def test_a_file_without_its_digest_is_asked_for_again_and_then_costs_nothing() -> None:
    digest = assets()["page.js"].digest
    async with client() as browser:
        for address in ("/static/page.js", "/static/page.js?v=old"):
            async with browser.get(address) as answer:
                assert answer.headers["Cache-Control"] == "no-cache"
                tag = answer.headers["ETag"]
            assert tag == f'"{digest}"'
            for known, status in ((tag, 304), (f'W/"x", {tag}', 304), ("*", 304), ('"x"', 200)):
                headers = {"If-None-Match": known}
                async with browser.get(address, headers=headers) as answer:
                    assert (answer.status, bool(await answer.read())) == (status, status == 200)


async def test_nothing_else_is_served() -> None:
    async with client() as browser:
        for name in ("nothing.js", "..%2fassets.py", ".made", "LICENSE.leaflet", "images/x.png"):
            async with browser.get(f"/static/{name}") as answer:
                assert answer.status == 404, name


def test_text_is_packed_and_images_are_not() -> None:
    def is_packed(asset: Asset) -> bool:
        return asset.packed is not None and len(asset.packed) < len(asset.body)

    assert is_packed(assets()["fleetgate.css"]) and is_packed(assets()["page.js"])
    assert not any(is_packed(one) for one in assets().values() if one.content_type == "image/png")
