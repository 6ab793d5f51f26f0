"""The page in a real browser without any network: nothing is asked for, nothing complains, and it can be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, Page

from s1pro.recipes.run_report.page import write_report
from tests.serve.http import browsing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browsing.browser() as found:
        yield found


@pytest.fixture(scope="module")
def page_file(trained: Path, learned: Path, examined: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_report([trained, learned, examined], path)
    return path


def opened(chromium: Browser, path: Path, **options: object) -> tuple[Page, list[str]]:
    """The page, and a list that grows with every complaint and every request for anything but the file."""
    context = chromium.new_context(offline=True, **options)  # type: ignore[arg-type]
    page, seen = context.new_page(), []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on(
        "request", lambda request: seen.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    page.goto(path.as_uri())
    return page, seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_offline_and_says_nothing(chromium: Browser, page_file: Path, scheme: str) -> None:
    page, seen = opened(chromium, page_file, color_scheme=scheme, viewport={"width": 1200, "height": 900})
    assert page.title() == "trained · learned · out"
    drawings = page.locator(".drawing svg")
    assert drawings.count() >= 12
    for i in range(drawings.count()):
        box = drawings.nth(i).bounding_box()
        assert box is not None and box["width"] > 300 and box["height"] > 60
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert seen == []


def test_keyboard_alone_reaches_sections_and_numbers(chromium: Browser, page_file: Path) -> None:
    page, seen = opened(chromium, page_file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("Tab")
    target, name = page.evaluate("[document.activeElement.hash, document.activeElement.textContent]")
    page.keyboard.press("Enter")
    page.wait_for_function("scrollY > 0")
    heading = page.locator(f"{target} h2")
    box = heading.bounding_box()
    assert heading.inner_text() == name and box is not None and 0 <= box["y"] < 200
    details = page.locator("details").first
    assert not details.locator("table").is_visible()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.locator("table").is_visible()
    assert seen == []


def test_it_fits_a_phone_and_paper(chromium: Browser, page_file: Path) -> None:
    page, seen = opened(chromium, page_file, viewport={"width": 380, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible() and not page.locator("details").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert seen == []


def test_words_are_readable_on_their_ground(chromium: Browser, page_file: Path) -> None:
    """Contrast of at least 4.5 (WCAG AA) for all plain text, in light and dark."""
    script = """() => {
      const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
      const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (!c.endsWith(', 0)')) return c; } return 'rgb(255, 255, 255)'; };
      const low = [];
      for (const e of document.querySelectorAll('h1,h2,p,dt,dd,th,td,a,summary,figcaption,caption,span,code,li')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
        if (e.classList.contains('skip')) continue;
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push([e.tagName, e.className, e.textContent.slice(0, 30), ratio]);
      }
      return low; }"""
    for scheme in ("light", "dark"):
        page, _ = opened(chromium, page_file, color_scheme=scheme)
        assert page.evaluate(script) == []
