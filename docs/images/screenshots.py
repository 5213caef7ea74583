"""Take the pictures of the pages: README, home, reference and the gateway's own page.

`make shots` builds the site and runs this. It needs Chromium or Chrome, and writes a WebP file for
each page as it looks on a desktop, on a dark one and on a phone. `--png FOLDER` writes them as PNG,
of their whole length, to be looked at.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import http.server
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from markdown_it import MarkdownIt

from langchain_segmind import ChatSegmindLlama, SegmindError
from langchain_segmind.gateway import Faults, ScriptedEngine, Settings, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SITE = ROOT / "site"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # In a container it has none to offer.
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--remote-debugging-port=0",
)
LONGEST = 2600
"""Pixels: of a longer page the beginning is kept."""
LARGEST = 150_000
"""Bytes of a picture."""
README_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><base href="{base}/">
<style>{style}</style></head><body>{text}</body></html>"""


@dataclass(frozen=True)
class Look:
    """How a page is looked at."""

    name: str
    width: int
    height: int
    is_dark: bool = False
    is_phone: bool = False


LOOKS = (
    Look("desktop", 1280, 900),
    Look("dark", 1280, 900, is_dark=True),
    Look("phone", 390, 844, is_phone=True),
)


class Browser:
    """A tab of a headless browser, driven by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Talk over a socket."""
        self._socket = socket
        self._session: str | None = None
        self._sent = 0

    async def open_tab(self) -> None:
        """Open the one tab that is used."""
        target = await self.ask("Target.createTarget", url="about:blank")
        attached = await self.ask(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        await self.ask("Page.enable")

    async def show(self, url: str, look: Look) -> int:
        """Load a page and give its length in pixels."""
        size = {"width": look.width, "height": look.height, "deviceScaleFactor": 1}
        await self.ask("Emulation.setDeviceMetricsOverride", mobile=look.is_phone, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if look.is_dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])
        await self.ask("Page.navigate", url=url)
        await self._hear("Page.loadEventFired")
        # A picture that is not shown, as of the other scheme, cannot be waited for.
        painted = "Promise.all([...document.images].map(image => image.decode().catch(() => {})))"
        await self.ask("Runtime.evaluate", expression=painted, awaitPromise=True)
        page = (await self.ask("Page.getLayoutMetrics"))["cssContentSize"]
        if page["width"] > look.width:
            print(f"{url} is {page['width']} pixels wide on a {look.name}.")
        return int(page["height"])

    async def picture(self, width: int, height: int, form: str, quality: int = 90) -> bytes:
        """Take a picture of what is shown."""
        taken = await self.ask(
            "Page.captureScreenshot",
            format=form,
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
            **({} if form == "png" else {"quality": quality}),
        )
        return base64.b64decode(taken["data"])

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for what it gives."""
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": params}
        await self._socket.send_json(
            command | ({"sessionId": self._session} if self._session else {})
        )
        while True:
            message = await self._socket.receive_json()
            if message.get("id") == self._sent:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])

    async def _hear(self, event: str) -> None:
        while (await self._socket.receive_json()).get("method") != event:
            pass


@asynccontextmanager
async def started(path: str) -> AsyncIterator[Browser]:
    """Run a browser that nobody sees."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path, *FLAGS, f"--user-data-dir={profile}", stderr=asyncio.subprocess.PIPE
        )
        try:
            url = await asyncio.wait_for(_address(process), 60)
            # A picture is one long message.
            async with (
                aiohttp.ClientSession() as http,
                http.ws_connect(url, max_msg_size=0) as socket,
            ):
                browser = Browser(socket)
                await browser.open_tab()
                yield browser
        finally:
            process.terminate()
            await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr  # noqa: S101 - it is a pipe.
    async for line in process.stderr:
        if found := re.search(rb"DevTools listening on (ws://\S+)", line):
            return found[1].decode()
    raise RuntimeError("The browser ended before it began.")


# --- The pages ---------------------------------------------------------------------------------


def write_readme(folder: Path) -> str:
    """Write README.md as GitHub shows it; nothing is loaded from elsewhere, so badges are words."""
    text = MarkdownIt("commonmark").enable("table").render((ROOT / "README.md").read_text("utf-8"))
    text = re.sub(r'<img src="https:[^"]*" alt="([^"]*)" />', r"<kbd>\1</kbd>", text)
    style = (HERE / "readme.css").read_text("utf-8")
    page = folder / "readme.html"
    page.write_text(README_PAGE.format(base=ROOT.as_uri(), style=style, text=text), "utf-8")
    return page.as_uri()


@contextmanager
def served_site() -> Iterator[str]:
    """Serve the documentation."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing of each file."""

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def used_gateway() -> Iterator[str]:
    """Serve a local Segmind that some calls went through, good ones and bad."""
    settings = Settings(
        free_credits=0.25,
        rpm=100,
        failing_jobs_rate=0.2,
        post_faults=Faults(proxy_timeout_rate=0.2, drop_after_rate=0.1),
    )
    chance = random.Random(16)

    def tell(_: dict[str, Any]) -> str:
        time.sleep(words := chance.random())
        return "word " * int(1000 * words)

    with serve(settings, ScriptedEngine(tell)) as gateway:
        llm = ChatSegmindLlama(api_key=gateway.api_key, base_url=gateway.url)
        queued = llm.model_copy(update={"queue": True})
        for number in range(6):
            for asked, model in ((llm, llm.model), (queued, "llama-v3p1-8b-instruct")):
                try:
                    asked.invoke(f"Tell me story {number}.", model=model)
                except SegmindError as error:
                    print(f"Meant to go wrong: {type(error).__name__}")
        yield gateway.url


# --- All of them -------------------------------------------------------------------------------


async def take_pictures(browser: str, png: Path | None) -> None:
    """Look at each page in each way."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        site = opened.enter_context(served_site())
        pages = {
            "readme": write_readme(folder),
            "home": f"{site}/",
            "reference": f"{site}/reference/chat-model/",
            "gateway-page": opened.enter_context(used_gateway()),
        }
        async with started(browser) as tab:
            for name, url in pages.items():
                for look in LOOKS:
                    length = await tab.show(url, look)
                    print(f"{name}, {look.name}: {length} pixels long")
                    await keep(tab, f"{name}-{look.name}", (look.width, length), png)


async def keep(tab: Browser, name: str, size: tuple[int, int], png: Path | None) -> None:
    """Write a picture, no larger than it may be."""
    width, height = size
    if png is not None:
        (png / f"{name}.png").write_bytes(await tab.picture(width, height, "png"))
        return
    for quality in (85, 70, 50, 30):
        picture = await tab.picture(width, min(height, LONGEST), "webp", quality)
        if len(picture) <= LARGEST:
            (HERE / f"{name}.webp").write_bytes(picture)
            return
    sys.exit(f"{name} is too large: {len(picture):,} bytes.")


def main() -> None:
    """Say what is missing, or take the pictures."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"A browser is needed, and there is none of {', '.join(BROWSERS)}.")
    if not (SITE / "index.html").is_file():
        sys.exit("The documentation is not built: run make docs first.")
    png = Path(sys.argv[2]) if sys.argv[1:2] == ["--png"] else None
    asyncio.run(take_pictures(browser, png))


if __name__ == "__main__":
    main()
