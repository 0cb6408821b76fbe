"""The relay's own small pages: no scripts, nothing fetched, never kept."""

import re
from datetime import UTC, datetime
from html import escape

from aiohttp import web

from broker.relay.web_texts import ENDED, HOPS, LABELS, OTHER, TROUBLES, Text

_QUALITY = re.compile(
    r"([a-z]{1,8}|\*)(?:-[a-z0-9-]{1,32})?(?:\s{0,8};\s{0,8}q\s{0,8}=\s{0,8}([01](?:\.\d{0,3})?))?"
)
_RANGES_MAX = 16
INSTANT_MS_MAX = 253_402_300_800_000  # the year 10000: what the gateway says later is no instant
_PLAIN = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
}
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:1.05rem/1.5 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem;
color:#1b2733;background:#fff}}h1{{font-size:1.4rem}}small{{color:#5a6875}}
@media(prefers-color-scheme:dark){{body{{color:#e4e9ee;background:#14191f}}a{{color:#8ec2ff}}
small{{color:#9aa7b3}}}}</style></head>
<body><h1>{title}</h1>{paragraphs}
<p><a href="{gateway}">{back}</a> &nbsp; <a href="/">{retry}</a></p>
<p><small>{where}: {hop} ({code}){since}</small></p></body></html>
"""


def trouble(
    request: web.BaseRequest,
    code: str,
    gateway_url: str,
    *,
    hop: str = "",
    ended: str = "",
    since_ms: int = 0,
) -> web.Response:
    """The page that says what is wrong, since when if that is known, and what to do about it."""
    known = TROUBLES.get(code, OTHER)
    language = language_of(request.headers.get("Accept-Language", ""))
    title = known.title[language]
    why = ENDED.get(ended)
    sentences = [why[language]] if why is not None else []
    sentences.append(known.advice[language])
    headers = dict(_PLAIN)
    if known.status == 503:
        headers["Retry-After"] = "5"
    if "text/html" not in request.headers.get("Accept", ""):
        text = " ".join([title, *sentences])
        return _final(web.Response(status=known.status, text=f"{text} ({code})\n", headers=headers))
    where = HOPS.get(hop or known.hop, HOPS["agent"])
    page = _PAGE.format(
        language=("en", "es")[language],
        title=escape(title),
        paragraphs="".join(f"<p>{escape(sentence)}</p>" for sentence in sentences),
        gateway=escape(gateway_url + "/"),
        back=_label("back", language),
        retry=_label("retry", language),
        where=_label("where", language),
        hop=escape(where[language]),
        code=escape(code),
        since=_since(since_ms, language),
    )
    response = web.Response(
        status=known.status, text=page, content_type="text/html", headers=headers
    )
    return _final(response)


def said(request: web.BaseRequest, label: str, status: int) -> web.Response:
    """One sentence."""
    language = language_of(request.headers.get("Accept-Language", ""))
    text = LABELS[label][language] + "\n"
    return _final(web.Response(status=status, text=text, headers=_PLAIN))


def bad_request() -> web.Response:
    """To what no browser sends."""
    return _final(web.Response(status=400, text="Bad request.\n", headers=_PLAIN))


def failed() -> web.Response:
    """A mistake of ours, which the log has."""
    return _final(web.Response(status=500, text="The relay failed.\n", headers=_PLAIN))


def redirect(status: int, location: str) -> web.Response:
    """Elsewhere; the address that led here stays unknown there."""
    response = web.Response(status=status, headers=_PLAIN)
    response.headers["Location"] = location
    return _final(response)


def _final(response: web.Response) -> web.Response:
    # Which software answers, and its version, is nobody's business.
    response.headers["Server"] = "fleetgate"
    return response


def _label(name: str, language: int) -> str:
    text: Text = LABELS[name]
    return escape(text[language])


def _since(since_ms: int, language: int) -> str:
    if not 0 < since_ms < INSTANT_MS_MAX:
        return ""
    at = datetime.fromtimestamp(since_ms / 1000, UTC)
    return f", {_label('since', language)} {at:%Y-%m-%d %H:%M:%S} UTC"


def language_of(accepted: str) -> int:
    """0 for English, 1 for Spanish: whichever the browser would rather have."""
    best, chosen = 0.0, 0
    for part in accepted.lower().split(",")[:_RANGES_MAX]:
        found = _QUALITY.fullmatch(part.strip())
        if found is None or found[1] not in ("en", "es"):
            continue
        quality = float(found[2]) if found[2] else 1.0
        if quality > best:
            best, chosen = quality, int(found[1] == "es")
    return chosen
