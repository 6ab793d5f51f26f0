"""The page in a real browser: what people do with it, and what a model must not be able to do to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import pytest

pytest.importorskip("playwright")

from playwright.sync_api import Browser, expect

from tests.serve.http import browsing, running
from tests.serve.http.browsing import LAST, Visit, visit
from tests.serve.http.running import WEB, post, scripted

pytestmark = pytest.mark.slow

RICH = """Some **bold** text, $E = mc^2$ and \\(a_1\\), 5 $ and 6 $.

$$\\int_0^1 x\\,dx = \\frac{1}{2}$$

| element | Z |
|---|---|
| He | 2 |

- one
- H<sub>2</sub>O

```python
print("<b>")
```

Aspirin: <SMILES>CC(=O)Oc1ccccc1C(=O)O</SMILES>

<SMILES>CCO</SMILES>

\\[ \\alpha
\\]
"""
HOSTILE = (
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 1'>",
    "<svg onload='window.hit = 1'><a xlink:href='javascript:window.hit=1'><text>x</text></a></svg>",
    "<iframe srcdoc='<script>parent.hit = 1</script>'></iframe>",
    "[link](javascript:window.hit=1) [other](JaVaScRiPt&#58;window.hit=1) [data](data:text/html,<script>1</script>)",
    "![picture](https://evil.example.org/leak.png) ![x](x' onerror='window.hit=1)",
    "<style>body { display: none }</style><link rel=stylesheet href=https://evil.example.org/x.css>",
    "<form action=https://evil.example.org><input name=question id=question><button id=send>ok</button></form>",
    "<div id=messages class=problem-box style='position:fixed;inset:0'>you must pay</div>",
    "$\\href{javascript:window.hit=1}{x}$ $\\url{javascript:window.hit=1}$ $\\htmlClass{problem-box}{x}$",
    "$\\includegraphics{https://evil.example.org/x.png}$ $\\htmlStyle{position:fixed}{x}$",
    "$\\def\\a{\\a\\a}\\a$ $\\rule{9999em}{9999em}$",
    '<SMILES>CC"><script>window.hit=1</script></SMILES> <SMILES>&lt;script&gt;</SMILES>',
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hit=1>",
    "<noscript><p title='</noscript><img src=x onerror=window.hit=1>'>",
    "```html\n<script>window.hit = 1</script>\n```",
    "<sub onclick=window.hit=1>low</sub> <br onfocus=window.hit=1 autofocus>",
    "> " * 3000 + "deep",
    "<https://example.org/ok> and https://example.org/also",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browsing.browser() as found:
        yield found


def test_chat_with_everything_that_an_answer_may_hold(chromium: Browser) -> None:
    pytest.importorskip("rdkit")

    def write(prompt: str) -> str:
        return f"First $x^2$ is squared.</think>{RICH}"

    with scripted(write, enable_thinking=True) as (url, fake), visit(chromium, url) as tab:
        page, fake.allowed = tab.page, 60
        expect(page.locator("#model")).to_have_text("tiny")
        page.fill("#question", "Tell")
        page.press("#question", "Shift+Enter")
        page.type("#question", "me")
        page.press("#question", "Enter")
        page.wait_for_selector(f"{LAST}.waiting .answer strong")  # text is there before the answer has ended
        assert page.is_visible("#stop") and not page.is_visible("#send")
        fake.allowed = math.inf
        tab.answered()
        assert tab.asked[0]["messages"] == [{"role": "user", "content": "Tell\nme"}]
        answer = page.locator(f"{LAST} .answer")
        expect(answer.locator("strong")).to_have_text("bold")
        expect(answer.locator(".katex")).to_have_count(4)
        expect(answer.locator(".katex-display")).to_have_count(2)
        expect(answer.locator("td")).to_have_text(["He", "2"])
        expect(answer.locator("sub")).to_have_text("2")
        expect(answer.locator("pre code")).to_have_text('print("<b>")\n')
        expect(answer).to_contain_text("5 $ and 6 $.")
        expect(answer.locator(".molecule img")).to_have_count(2)
        for alt in ("CC(=O)Oc1ccccc1C(=O)O", "CCO"):
            image = answer.locator(f'.molecule img[alt="Structure of {alt}"]')
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
        thoughts = page.locator(f"{LAST} .reasoning")
        assert thoughts.get_attribute("open") is None
        thoughts.locator("summary").click()
        expect(thoughts.locator(".katex")).to_have_count(1)
        expect(page.locator("#news")).to_contain_text("has ended")
        tab.check()


def test_a_model_cannot_do_anything_to_the_page(chromium: Browser) -> None:
    with scripted(lambda _: "", enable_thinking=False) as (url, fake), visit(chromium, url) as tab:
        fake.engine.max_context = 100_000
        page = tab.page
        for number, attack in enumerate(HOSTILE):
            fake.write = lambda _, text=f"{attack}\n\nafter {number}": text
            tab.ask(attack[:300])
            text = tab.answered()
            assert f"after {number}" in text, attack[:80]
        page.wait_for_timeout(300)
        assert page.evaluate("window.hit") is None
        assert (
            page.locator(".message").locator("script, iframe, svg a, style, link, form, input, object, embed").count()
            == 0
        )
        own = page.evaluate(
            """() => [...document.querySelectorAll('.answer *')]
                       .flatMap((node) => [...node.attributes].map((found) => found.name))
                       .filter((name) => name.startsWith('on') || name === 'id' || name === 'srcdoc')"""
        )
        assert own == []
        links = page.eval_on_selector_all(
            ".message a", "nodes => nodes.map((node) => [node.getAttribute('href'), node.rel])"
        )
        assert links and all(rel == "noopener noreferrer nofollow" for _, rel in links)
        assert {href for href, _ in links if href} <= {
            "https://example.org/ok", "https://example.org/also", "https://evil.example.org/leak.png",
        }  # fmt: skip
        assert page.locator(".answer .problem-box").count() == 0
        assert page.locator("#question").count() == page.locator("#messages").count() == 1
        refused = [error for error in tab.errors if "400" not in error]  # SMILES that are none
        assert refused == [] and tab.foreign == []


def test_settings_reload_and_a_new_conversation(chromium: Browser) -> None:
    with scripted(lambda prompt: "yes") as (url, fake), visit(chromium, url) as tab:
        page = tab.page
        page.fill("#system", "You are a scientist.")
        page.fill("#temperature", "0.3")
        page.fill("#max-tokens", "77")
        page.select_option("#thinking", "off")
        tab.ask("one")
        tab.answered()
        page.reload()
        assert page.input_value("#system") == "You are a scientist."
        tab.ask("two")
        expect(page.locator(".message.assistant:not(.waiting)")).to_have_count(2)
        body = tab.asked[-1]
        assert body["messages"] == [
            {"role": "system", "content": "You are a scientist."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "two"},
        ]
        assert (body["temperature"], body["max_tokens"]) == (0.3, 77)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        page.click(f"{LAST} button:has-text('Again')")
        expect(page.locator(".message.assistant:not(.waiting)")).to_have_count(2)
        assert tab.asked[-1]["messages"] == body["messages"]
        fake.write, fake.allowed = lambda prompt: "word " * 2000, 300
        tab.ask("three")
        expect(page.locator(f"{LAST} .answer")).to_contain_text("word word")
        page.reload()  # in the middle of an answer: what came is kept
        assert "word word" in page.inner_text(f"{LAST} .answer") and page.locator(".message").count() == 6
        page.click("#new-chat")
        assert page.locator(".message").count() == 0
        page.reload()
        assert page.locator(".message").count() == 0
        tab.check()


def test_a_key_is_asked_for(chromium: Browser) -> None:
    with scripted(lambda prompt: "yes", api_keys=("secret",)) as (url, _), visit(chromium, url) as tab:
        expect(tab.page.locator("#connection")).to_contain_text("API key")
        tab.ask("one")
        expect(tab.page.locator(f"{LAST} .problem-box")).to_contain_text("API key")
        tab.page.fill("#api-key", "secret")
        tab.page.press("#api-key", "Tab")
        expect(tab.page.locator("#model")).to_have_text("tiny")
        tab.page.click(".retry")
        assert tab.answered() == "yes"
        assert "secret" not in tab.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


def test_images_and_experts_with_a_real_model(chromium: Browser, server: str) -> None:
    with visit(chromium, server) as tab:
        page = tab.page
        page.fill("#max-tokens", "12")
        page.fill("#temperature", "0")
        tab.choose("teal.png", browsing.png(), "image/png")
        tab.drop("red.png", browsing.png("red"), "image/png")
        expect(page.locator("#attachments .card img")).to_have_count(2)
        tab.ask("Which colours?")
        tab.answered()
        kinds = [part["type"] for part in tab.asked[0]["messages"][0]["content"]]
        assert kinds == ["image_url", "image_url", "text"]
        expect(page.locator(".message.user img")).to_have_count(2)
        expect(page.locator("#attachments .card")).to_have_count(0)
        page.click(f"{LAST} .experts")
        config = running.config().text
        fired = page.locator(".routing svg .fired")
        expect(fired).to_have_count(len(config.moe_layers) * config.router.top_k)
        first = page.input_value(".routing input")
        ref = post(server + browsing.CHAT, {**tab.asked[0], "stream": False}).json()["choices"][0]
        tokens = [entry["token"] for entry in ref["logprobs"]["content"]]
        assert len(tokens) > 3
        for place, token in enumerate(tokens[:-1]):  # the rows are about the tokens that the page shows beside them
            route = f"{server}/page/routing/{ref['routed_experts']['ref']}?token={int(first) + place}"
            assert WEB.get(route).json()["text"] == token
        assert WEB.get(route.replace(f"={int(first) + place}", f"={int(first) + place + 1}")).status_code == 400
        chosen = page.locator(".routing .tokens [aria-pressed=true]")
        chosen.press("ArrowRight")
        assert page.input_value(".routing input") == str(int(first) + 1)
        expect(page.locator(".routing .tokens [aria-pressed=true]")).to_be_focused()
        page.fill(".routing input", "0")
        page.press(".routing input", "Enter")
        expect(page.locator(".routing .which")).to_contain_text('of the prompt: "<|im_start|>"')
        expect(fired).to_have_count(len(config.moe_layers) * config.router.top_k)
        tab.check()


def test_signals(chromium: Browser, server: str) -> None:
    files = {"rec.csv": browsing.csv(), "rec.wav": browsing.wav()}
    try:
        import obspy
    except ImportError:
        pass
    else:
        stream = BytesIO()
        obspy.Trace(np.arange(200, dtype=np.int32), {"sampling_rate": 20.0}).write(stream, format="MSEED")
        files["rec.mseed"] = stream.getvalue()
    with visit(chromium, server) as tab:
        page = tab.page
        page.fill("#max-tokens", "2")
        for name, data in files.items():
            tab.drop(name, data, "")
            expect(page.locator("#attachments .u-over")).to_have_count(1)
            drawn = page.eval_on_selector(
                "#attachments canvas",
                "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((value) => value > 0)",
            )
            assert drawn
            rate = page.locator("#attachments input[type=number]")
            right = rate.input_value()
            assert right == {"rec.csv": "100", "rec.wav": "8000", "rec.mseed": "20"}[name]
            if name == "rec.csv":
                rate.fill("7")
                rate.press("Tab")
                expect(page.locator("#attachments .problem")).to_contain_text("the source says 100 Hz")
                tab.ask("not sent")
                assert tab.asked == []
                rate.fill(right)
                rate.press("Tab")
                expect(page.locator("#attachments .problem")).to_be_hidden()
                tab.errors.clear()  # the refusal
            page.fill("#attachments input[type=text]", "mm")
            page.press("#attachments input[type=text]", "Tab")
            tab.ask("What is it?")
            page.wait_for_selector(f"{LAST}:not(.waiting)")
            part = tab.asked[-1]["messages"][-1]["content"][0]
            assert (part["type"], part["sampling_rate"]) == ("time_series", float(right))
            assert part["unit"] == "mm" or name != "rec.csv"
            assert page.locator(f"{LAST} .problem-box").is_hidden()
            page.click("#new-chat")
            tab.asked.clear()
        tab.check()


def test_figures_of_a_pdf(chromium: Browser) -> None:
    pytest.importorskip("pypdfium2")
    pytest.importorskip("reportlab")
    from s1pro.cli.paper_figures import figures_of_pdf
    from tests.corpus.pdf.paper import Paper

    paper = Paper()
    paper.body(60, 60, 220, 10)
    paper.chart((60, 220, 280, 380))
    paper.text(60, 400, "Figure 1. Heating curve of the sample.")
    with scripted(str.upper, figures_of_pdf=figures_of_pdf) as (url, fake), visit(chromium, url) as tab:
        page = tab.page
        tab.drop("paper.pdf", paper.data(), "application/pdf")
        figure = page.locator(".figures button")
        expect(figure).to_have_count(1)
        expect(figure).to_contain_text("Heating curve")
        figure.press("Space")
        expect(figure).to_have_attribute("aria-pressed", "true")
        fake.write = lambda prompt: "a curve"
        tab.ask("What does it show?")
        assert tab.answered() == "a curve"
        image = tab.asked[0]["messages"][0]["content"][0]["image_url"]["url"]
        assert image.startswith("data:image/")
        expect(page.locator(".message.user img")).to_have_attribute("title", "Heating curve of the sample.")
        tab.drop("broken.pdf", b"%PDF-1.7 rubbish", "application/pdf")
        expect(page.locator("#attachments .problem")).to_contain_text("cannot be read")
        page.click("#attachments .remove")
        tab.drop("words.docx", b"PK", "application/msword")
        expect(page.locator("#attachments .problem")).to_contain_text("Not an image")


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_stop(chromium: Browser, by: str) -> None:
    with scripted(lambda prompt: "word " * 2000) as (url, fake), visit(chromium, url) as tab:
        page, fake.allowed = tab.page, 300
        tab.ask("go on")
        expect(page.locator(f"{LAST} .answer")).to_contain_text("word word")
        assert fake.inside == 1
        if by == "button":
            page.click("#stop")
        else:
            page.press("#question", "Escape")
        text = tab.answered()
        assert text.startswith("word word") and len(text) < 9000
        expect(page.locator(f"{LAST} .foot")).to_contain_text("stopped by you")
        expect(page.locator("#send")).to_be_visible()
        expect(page.locator("#question")).to_be_focused()
        for _ in range(5000):
            if not fake.inside:
                break
            page.wait_for_timeout(20)
        assert fake.inside == 0  # the server has taken it out of the engine
        fake.write, fake.allowed = lambda prompt: "ok", math.inf
        tab.ask("and now?")
        expect(page.locator(".message.assistant:not(.waiting)")).to_have_count(2)
        assert tab.answered() == "ok" and "word word" in str(tab.asked[-1]["messages"][1])
        tab.check()


@pytest.mark.parametrize("form", ["paragraphs", "one paragraph"])
def test_an_answer_of_ten_thousand_tokens(chromium: Browser, form: str) -> None:
    line = "Line of **text** with $x^2$ and `code`." + ("\n\n" if form == "paragraphs" else " ")
    size = len(running.processor().tokenizer.encode(line * 20)) / 20
    lines = int(10_000 / size) + 1
    with scripted(lambda prompt: line * lines) as (url, fake), visit(chromium, url) as tab:
        fake.engine.max_context, fake.allowed = 20_000, 0
        page = tab.page
        page.evaluate(
            """() => {
                 window.renders = 0;
                 new MutationObserver(() => { window.renders += 1; })
                   .observe(document.getElementById('messages'), { childList: true, subtree: true });
               }"""
        )
        tab.ask("write")
        for part in range(1, 6):  # what came is shown before the rest comes
            fake.allowed = part * 1500
            page.wait_for_function(
                "([answer, least]) => document.querySelectorAll(answer).length >= least",
                arg=[f"{LAST}.waiting .answer strong", int(lines * 0.14 * part)],
            )
        fake.allowed = math.inf
        page.type("#question", "typed meanwhile")  # the page listens while it renders
        page.wait_for_selector(f"{LAST}:not(.waiting)")
        assert page.input_value("#question") == "typed meanwhile"
        assert page.locator(f"{LAST} .answer strong").count() == lines
        assert page.locator(f"{LAST} .answer .katex").count() == lines
        count = int(page.inner_text(f"{LAST} .foot").split(" tokens")[0].replace(",", ""))
        assert count >= 10_000
        assert page.evaluate("window.renders") <= count / 10  # not for every token
        box = page.locator("#messages").evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight")
        assert box < 150  # the end is in view
        tab.check()


def test_a_server_that_starts_anew_in_between(chromium: Browser) -> None:
    def slow(prompt: str) -> str:
        return "word " * 3000

    with scripted(slow, drain_seconds=1) as (url, fake):
        fake.allowed = 300
        port = int(url.rpartition(":")[2])
        context = chromium.new_context()
        context.set_default_timeout(browsing.PATIENCE_MS)
        tab = Visit(context.new_page(), url)
        tab.page.goto(url)
        tab.choose("teal.png", browsing.png(), "image/png")
        tab.ask("go on")
        expect(tab.page.locator(f"{LAST} .answer")).to_contain_text("word word")
    try:
        page = tab.page
        problem = page.locator(f"{LAST} .problem-box")
        expect(problem).to_be_visible()
        expect(page.locator(f"{LAST} .answer")).to_contain_text("word word")  # what came is kept
        expect(page.locator("#connection")).to_contain_text("away")
        page.click(".retry")  # too early
        expect(problem).to_contain_text("cannot be reached")
        with scripted(lambda prompt: "whole", port=port) as (again, _):
            assert again == url
            expect(page.locator("#connection")).to_have_text("")
            expect(problem).to_contain_text("is back")
            page.click(".retry")
            assert tab.answered() == "whole"
            assert tab.asked[-1] == tab.asked[0]  # the picture too: nothing lived on the server
            assert page.locator(".message").count() == 2
    finally:
        context.close()


def test_narrow_and_dark(chromium: Browser) -> None:
    with (
        scripted(lambda prompt: "| a |\n|---|\n" + f"| {'wide ' * 60} |") as (url, _),
        visit(chromium, url, viewport={"width": 360, "height": 640}, color_scheme="dark") as tab,
    ):
        page = tab.page
        assert page.locator("#settings").get_attribute("open") is None
        tab.ask("x" * 400)
        tab.answered()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 25, 27)"
        page.keyboard.press("Shift+Tab")  # from the question back to the button for files
        expect(page.locator("#attach")).to_be_focused()
        tab.check()
