"""A visitor's own image: why one is refused stands on the page; and who leaves long work does not keep the next visitor waiting."""

import base64
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageStat
from playwright.sync_api import Browser, BrowserContext, Page, WebSocketRoute, expect

from core import results, summaries
from tests.browser.conftest import open_tab, open_window, serve
from tests.browser.test_browser import settle, wait_for
from tests.fake_run import make_run, ship_weights


@pytest.fixture(scope="module")
def weighted_results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weighted") / "results"
    ship_weights(make_run(folder, "imagenet-96-seed0"))
    return folder


@pytest.fixture(scope="module")
def weighted(weighted_results, tmp_path_factory) -> Iterator[str]:
    """The address of a dashboard whose run ships weights."""
    with serve(weighted_results, tmp_path_factory.mktemp("weighted-server") / "log") as address:
        yield address


@pytest.fixture(scope="module")
def weighted_window(chromium: Browser, weighted: str) -> Iterator[BrowserContext]:
    with open_window(chromium, weighted) as context:
        yield context


@pytest.fixture
def tab(weighted_window: BrowserContext, weighted: str) -> Iterator[Page]:
    with open_tab(weighted_window, weighted) as page:
        yield page


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(page: Page, name: str, data: bytes) -> None:
    page.locator("input[type=file]").first.set_input_files({"name": name, "mimeType": "image/png", "buffer": data})
    settle(page)


def upload_picture(page: Page, data: bytes) -> None:
    """And wait until its script hears the visitor, which it does as soon as it has set the images."""
    upload(page, "mine.png", data)
    for image in (".whole img", "img.seen"):
        expect(page.locator(image)).not_to_have_js_property("naturalWidth", 0)
    settle(page)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("large.png", bytes(6_000_000), "File must be 5.0MB or smaller"),
        ("notes.txt", b"no image", "files are not allowed"),
        ("torn.png", png((40, 40))[:60], "damaged or incomplete"),
    ],
)
def test_why_an_upload_is_refused_can_be_read(tab, name, data, reason):
    """Streamlit itself shows a red icon, and tells screen readers alone."""
    tab.goto("/try_image")
    upload(tab, name, data)
    said = tab.get_by_text(re.compile(reason)).last
    expect(said).to_be_visible()
    box = said.bounding_box()
    assert box["width"] > 100 and box["height"] > 10


def halves() -> bytes:
    """A picture of 120×60 pixels, its left half black and its right half white."""
    picture = Image.new("RGB", (120, 60))
    picture.paste((255, 255, 255), (60, 0, 120, 60))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def brightness(page: Page) -> float:
    """Of what the models see, 0 to 255."""
    source = page.locator("img.seen").get_attribute("src")
    return ImageStat.Stat(Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))).mean[0]


def test_a_square_is_dragged_drawn_and_moved_by_keys(tab):
    """And what the models see is what is in it."""
    tab.goto("/try_image")
    upload_picture(tab, halves())
    square, whole = tab.locator(".crop"), tab.locator(".whole").bounding_box()
    box = square.bounding_box()  # at first the middle of the picture
    assert box["width"] == pytest.approx(box["height"], abs=2) and box["height"] == pytest.approx(whole["height"], abs=2)
    assert box["x"] - whole["x"] == pytest.approx((whole["width"] - box["width"]) / 2, abs=2)
    assert brightness(tab) == pytest.approx(127, abs=5)

    def drag(start: tuple[float, float], end: tuple[float, float]) -> dict:
        seen = tab.locator("img.seen").get_attribute("src")
        for act, (x, y) in ((tab.mouse.down, start), (tab.mouse.up, end)):
            tab.mouse.move(whole["x"] + x * whole["width"], whole["y"] + y * whole["height"], steps=4)
            act()
        expect(tab.locator("img.seen")).not_to_have_attribute("src", seen)  # the server may hear of it after it was last idle
        settle(tab)
        return square.bounding_box()

    box = drag((0.5, 0.5), (0.1, 0.5))
    assert box["x"] == pytest.approx(whole["x"], abs=2) and brightness(tab) < 5
    box = drag((0.6, 0.1), (0.7, 0.3))  # outside it: a new square between two points
    assert box["width"] == pytest.approx(whole["width"] / 10, abs=3) and box["x"] == pytest.approx(whole["x"] + 0.6 * whole["width"], abs=3)
    assert brightness(tab) > 250
    tab.mouse.move(whole["x"] + 5, whole["y"] + 5)
    tab.mouse.down()
    tab.mouse.move(whole["x"] + 90, whole["y"] + 60, steps=4)
    assert square.bounding_box() != box
    tab.locator(".whole").dispatch_event("pointercancel")  # a finger's, which scrolls the page
    tab.mouse.up()
    assert square.bounding_box() == box
    square.focus()
    for _ in range(40):
        tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("+")
    wait_for(tab, lambda: brightness(tab) < 5)  # the server may hear of the way there too
    moved = square.bounding_box()
    assert moved["x"] < box["x"] - 0.3 * whole["width"] and moved["width"] > box["width"]


LOSE = """
const send = WebSocket.prototype.send
window.sent = 0
WebSocket.prototype.send = function (message) {
  if (window.lose) window.lost = !(window.lose = false)
  else { window.sent += 1; send.call(this, message) }
}
"""


def test_a_crop_that_the_server_never_heard_of_is_not_told_to_the_next_page(chromium, weighted):
    with open_window(chromium, weighted) as context:
        page = context.pages[0]
        context.add_init_script(LOSE)
        page.goto("/try_image")
        upload_picture(page, halves())
        page.locator(".crop").focus()
        page.evaluate("window.lose = true")
        page.keyboard.press("ArrowRight")
        page.wait_for_function("window.lost")
        page.get_by_role("link", name="Glossary", exact=True).first.click()
        expect(page.locator("h1").first).to_have_text("Glossary")
        settle(page)
        before = page.evaluate("window.sent")
        page.wait_for_timeout(5000)  # in which it would have been told twice
        assert page.evaluate("window.sent") == before


def test_who_leaves_the_checks_keeps_nobody_waiting(tab, weighted):
    tab.goto("/try_image?image=3")  # the models are loaded
    settle(tab)
    expect(tab.get_by_text("The three likeliest classes").first).to_be_visible()
    leaving = tab.context.new_page()
    leaving.goto("/attributions?image=17&methods=occlusion&checked=occlusion&check=true")
    expect(leaving.get_by_text("1 of 4: randomising the weights")).to_be_visible()
    leaving.close()
    start = time.perf_counter()
    tab.goto("/attributions?image=18&methods=occlusion&checked=occlusion&check=true")
    expect(tab.get_by_text("2 of 4: nudging the pixels")).to_be_visible()  # its own checks go on at once, not after those left
    tab.goto("/try_image?image=4")
    expect(tab.get_by_role("figure", name="The three likeliest classes")).to_be_visible()
    expect(tab.get_by_text("True class:")).to_be_visible()
    assert time.perf_counter() - start < 120


def test_two_quick_steps_are_two_though_the_browser_knows_of_none(chromium, weighted, weighted_results):
    """What the server answers is held back until the second click is sent."""
    wrong = summaries.per_image(results.load_run(weighted_results / "imagenet-96-seed0")).query("not fusion_correct")["index"].tolist()
    with open_window(chromium, weighted) as context:
        page, late, held = context.pages[0], [], []

        def carry(route: WebSocketRoute) -> None:
            late.append(route.send)
            server = route.connect_to_server()
            server.on_message(lambda message: held.append(message) if len(late) > 1 else route.send(message))

        page.route_web_socket(re.compile("_stcore/stream"), carry)
        page.goto("/attributions?sort=index")
        number, onward = page.get_by_label("Image", exact=True), page.get_by_role("button", name=re.compile("^Next of"))
        expect(number).to_have_value(str(wrong[0]))
        settle(page)
        late.append(None)
        for _ in range(2):
            onward.click()
            page.wait_for_timeout(1500)  # the server is done, the browser has not heard
        late.pop()
        for message in held:
            late[0](message)
        expect(number).to_have_value(str(wrong[2]))
