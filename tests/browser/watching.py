"""Watches a tab while it shows pages: what a browser complains of, and what no page may do."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Page, Request, ViewportSize

from gateway.web.languages import catalog_of
from tests.browser import axe_source

PHONE = ViewportSize(width=360, height=760)
DESKTOP = ViewportSize(width=1280, height=800)
SERIOUS = frozenset({"serious", "critical"})
# What stands on a page: texts, and what screen readers say of pictures and fields.
_TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const parent = node.parentElement;
    if (parent.closest("script, style, template, bdi, code, [lang]:not(html), .secret")) continue;
    const text = node.nodeValue.trim().replace(/\\s+/g, " ");
    if (text) found.push(text);
  }
  for (const node of document.querySelectorAll("[aria-label], [placeholder], [title], [alt]")) {
    for (const name of ["aria-label", "placeholder", "title", "alt"]) {
      const text = node.getAttribute(name);
      if (text) found.push(text.trim());
    }
  }
  return found;
}"""
# What a browser lets pass, though a label or a screen reader would be led astray.
_ASTRAY = """() => {
  const all = [...document.querySelectorAll("[id]")].map((node) => node.id);
  const wrong = all.filter((id, at) => all.indexOf(id) !== at).map((id) => `id twice: ${id}`);
  for (const name of ["for", "aria-describedby", "aria-labelledby"]) {
    for (const node of document.querySelectorAll(`[${name}]`)) {
      for (const id of node.getAttribute(name).split(" ")) {
        // The dialog is empty until it is opened.
        if (id && id !== "dialog-title" && !document.getElementById(id)) {
          wrong.push(`${name} of nothing: ${id}`);
        }
      }
    }
  }
  return wrong;
}"""
# Instants are shown in the reader's own zone.
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d")
_VIOLATIONS = """() => {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
  });
}"""


class Watched:
    """One tab, and everything wrong that was seen in it."""

    def __init__(self, tab: Page, origins: Iterable[str]) -> None:
        self.tab = tab
        self.wrong: list[str] = []
        self._named = 0  # so many of them say where that was
        self._hosts = {urlsplit(origin).netloc for origin in origins}
        tab.on("console", self._said)
        tab.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        tab.on("request", self._asked)

    async def begin(self) -> None:
        """To be called before the first page."""
        await self.tab.add_init_script(f"({_VIOLATIONS})()")

    def _said(self, message: ConsoleMessage) -> None:
        where = urlsplit(str(message.location.get("url", ""))).netloc
        # What a router's own page does is its own matter.
        if message.type in ("error", "warning") and (not where or where in self._hosts):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc not in self._hosts:
            self.wrong.append(f"asked another host: {request.url}")

    async def look(self, where: str, language: str) -> None:
        """Adds what is wrong with the page that is shown now, at its present width."""
        width = self.tab.viewport_size or DESKTOP
        wide = await self.tab.evaluate("document.documentElement.scrollWidth")
        if wide > width["width"]:
            self.wrong.append(f"{wide} px wide at {width['width']}")
        for one in await self.tab.evaluate("window.violations ?? []"):
            self.wrong.append(f"content policy: {one}")
        if await self.tab.evaluate("document.documentElement.lang") != language:
            self.wrong.append("not in the language that was asked for")
        self.wrong += await self.tab.evaluate(_ASTRAY)
        texts = await self.tab.evaluate(_TEXTS)
        self.wrong += [
            f"an instant as programs write it: {one!r}" for one in texts if _INSTANT.search(one)
        ]
        self.wrong += [f"not translated: {one!r}" for one in await self.untranslated(language)]
        self.wrong[self._named :] = [f"{where}: {one}" for one in self.wrong[self._named :]]
        self._named = len(self.wrong)

    async def untranslated(self, language: str) -> list[str]:
        """Texts that stand there in English though there is a translation."""
        if language == "en":
            return []
        texts = await self.tab.evaluate(_TEXTS)
        known = english_of(language)
        return sorted({text for text in texts if text in known})

    async def hinder(self, where: str, *, colours: bool = False) -> None:
        """Adds what keeps people out, as far as axe finds it and calls it serious; or only what its
        colours do."""
        if not await self.tab.evaluate("Boolean(window.axe)"):
            # Through the debugger: the content policy lets no page load it.
            await self.tab.evaluate(axe_source())
        found: Mapping[str, Any] = await self.tab.evaluate(
            "options => axe.run(document, {resultTypes: ['violations'], ...options})",
            {"runOnly": ["color-contrast"]} if colours else {},
        )
        for one in found["violations"]:
            if one["impact"] in SERIOUS:
                nodes = [" ".join(map(str, node["target"])) for node in one["nodes"]][:3]
                self.wrong.append(f"{where}: axe {one['id']}: {', '.join(nodes)}")
        self._named = len(self.wrong)


def english_of(language: str) -> frozenset[str]:
    """English texts whose translation is another text, and that no name could be."""
    catalog = catalog_of(language)
    return frozenset(
        message.id
        for message in catalog
        if isinstance(message.id, str)
        and message.id
        and message.string != message.id
        and "%" not in message.id
    )
