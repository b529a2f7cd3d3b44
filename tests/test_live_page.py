"""The live page in a real browser, which can reach nothing but the gateway."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from fakes import BASE, says
from gateway_house import gateway_house, run
from PIL import Image
from test_gateway_pages import home, lived

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=4000",
)
SCHEMES = {"dark": "0", "light": "1"}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here: apt-get install chromium")


async def browse(profile: Path, url: str, *flags: str) -> str:
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        *flags,
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said, _ = await browser.communicate()
    assert browser.returncode == 0
    return said.decode()


def test_the_browser_shows_the_numbers_of_the_moment(tmp_path: Path) -> None:
    async def story() -> None:
        with lived(tmp_path) as store:
            page = home(store)
            assert page.snapshot and page.snapshot.get()
            async with gateway_house(tmp_path, says(b""), home_page=page) as house:
                dom = await browse(tmp_path / "profile", f"{house.url}/dashboard", "--dump-dom")
        now = dom.partition('<dl id="now">')[2].partition("</dl>")[0]
        for shown in (BASE, '<dt>Episodes today</dt><dd class="">2</dd>', "waits for the window", ">rejected</dd>"):
            assert shown in now
        assert dom.count('aria-controls="night"') == 5  # a button a night

    run(story, 120)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_is_drawn_for_phone_and_desk_in_dark_and_light(tmp_path: Path, width: int, scheme: str) -> None:
    picture = tmp_path / "page.png"
    flags = (
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
        f"--window-size={width},900",
        f"--screenshot={picture}",
    )

    async def story() -> None:
        with lived(tmp_path) as store:
            async with gateway_house(tmp_path, says(b""), home_page=home(store)) as house:
                await browse(tmp_path / "profile", f"{house.url}/dashboard", *flags)

    run(story, 120)
    with Image.open(picture) as image:
        grey = image.convert("L")
        assert grey.width == width
        edge = grey.getpixel((2, 450))
        assert isinstance(edge, int)
        assert (edge < 64) if scheme == "dark" else (edge > 192)
        assert len(set(grey.tobytes())) > 40  # something is on it
