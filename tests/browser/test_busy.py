"""What a busy server or browser may lose or bring late, and no visitor may notice: answers, clicks, addresses."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import open_window
from tests.browser.test_browser import open_view, settle, wait_for
from tests.browser.test_errors import lightbox, thumbnails
from tests.browser.test_present import count, open_show

# A component's clean-up is also called while it stays: Streamlit does so for an answer that the next one overtook on its way.
# So here every script that Streamlit hands to the browser has each call cleaned up after at once.
OVERTAKE = """
const Plain = Blob, start = /export default function ?(mount)?/
window.Blob = class extends Plain {
  constructor(parts, settings) {
    super(parts.map((part) => typeof part !== 'string' || !start.test(part) ? part : part.replace(start, 'function mount')
      + '\\nexport default (call) => { const clean = mount(call); Promise.resolve().then(clean); window.overtaken = true; return clean }'),
      settings)
  }
}
"""


@pytest.fixture
def overtaken(chromium, server):
    with open_window(chromium, server) as context:
        context.add_init_script(OVERTAKE)
        yield context.pages[0]
        assert context.pages[0].evaluate("window.overtaken")


def test_the_lightbox_turns_the_page_and_tags(overtaken: Page):
    page = overtaken
    open_view(page, "errors?per_page=50&sort=index")
    last = thumbnails(page).nth(49)
    index = last.get_attribute("data-index")
    last.click()
    expect(lightbox(page)).to_have_attribute("data-index", index)
    tags = lightbox(page).locator("input[name=tags]")
    tags.fill("blurred")
    tags.press("Enter")
    expect(page.locator("button.export")).to_have_text("Export tags (1)")
    tags.blur()
    page.keyboard.press("ArrowRight")
    expect(lightbox(page).locator("h2")).to_contain_text("51 of")


def test_slides_hear_the_keys(overtaken: Page):
    page = overtaken
    open_show(page)
    page.keyboard.press("ArrowRight")
    assert count(page)[0] == 2


def test_the_quiz_hears_the_keys(overtaken: Page):
    page = overtaken
    open_view(page, "quiz")
    expect(page.locator(".quiz .progress")).to_contain_text("Image 1 of 10")
    page.keyboard.press("1")
    expect(page.locator(".quiz .verdict")).to_contain_text("Answer:")


def test_it_still_ends_with_its_page(overtaken: Page):
    page = overtaken
    open_view(page, "quiz")
    expect(page.locator(".quiz .progress")).to_contain_text("Image 1 of 10")
    quiz = page.locator(".quiz").element_handle()
    assert quiz.evaluate("root => root.quiz.name")
    page.get_by_role("link", name="Errors", exact=True).first.click()
    expect(page.locator("h1").first).to_have_text("Errors")
    settle(page)
    assert quiz.evaluate("root => root.quiz") is None


def test_words_stay_explained(overtaken: Page):
    page = overtaken
    open_view(page, "evidence")
    settle(page)
    page.wait_for_function("CSS.highlights.get('glossary')?.size > 0")


# --- what is lost, late or quick -------------------------------------------------------------------------------------


def open_by_number(page: Page, index: int) -> None:
    page.get_by_label("Open image number").fill(str(index))
    page.get_by_label("Open image number").press("Enter")


def test_a_closing_that_the_server_never_heard_of_leaves_the_lightbox_alive(chromium, server):
    with open_window(chromium, server) as context:
        page, lost = context.pages[0], []

        def carry(route):
            to_server = route.connect_to_server()
            route.on_message(lambda message: lost.append(message) if lost == ["next"] else to_server.send(message))

        page.route_web_socket("**/_stcore/stream", carry)
        open_view(page, "embedding?image=17")
        expect(lightbox(page)).to_have_attribute("data-whole", "true")
        expect(lightbox(page).locator(".looks h3")).to_be_visible()
        expect(lightbox(page).get_by_text("The models look …")).to_have_count(0)  # it asks for nothing more
        settle(page)
        lost.append("next")
        page.keyboard.press("Escape")
        expect(lightbox(page)).to_have_count(0)
        wait_for(page, lambda: len(lost) == 2)
        lost.clear()
        page.get_by_test_id("stMain").get_by_role("radio", name="ResNet18").click()
        expect(page).to_have_url(re.compile("model=resnet18"))
        expect(page).not_to_have_url(re.compile("image="))
        open_by_number(page, 18)
        expect(lightbox(page)).to_have_attribute("data-index", "18")


def test_a_closed_image_opens_again_only_when_asked_for(chromium, server):
    """By its number, in an address, or by its thumbnail; not by a click whose message left before the closing was answered."""
    with open_window(chromium, server) as context:
        page, held, late, routes = context.pages[0], [], [], []

        def carry(route):
            to_server = route.connect_to_server()
            to_server.on_message(lambda message: held.append(message) if late or held else route.send(message))
            routes.append(route)

        page.route_web_socket("**/_stcore/stream", carry)
        open_view(page, "embedding?image=17")
        expect(lightbox(page)).to_have_attribute("data-whole", "true")
        settle(page)
        late.append(True)
        page.keyboard.press("Escape")
        page.get_by_test_id("stMain").get_by_role("radio", name="ResNet18").click()
        seen = -1
        while not held or len(held) > seen:  # until the server has said all
            seen = len(held)
            page.wait_for_timeout(1000)
        late.clear()
        while held:  # what comes meanwhile waits behind
            routes[0].send(held[0])
            page.wait_for_timeout(50)
            held.pop(0)
        page.wait_for_timeout(500)
        settle(page)
        expect(lightbox(page)).to_have_count(0)
        expect(page).not_to_have_url(re.compile("image="))
        box = page.get_by_label("Open image number")
        expect(box).to_have_value("")
        open_by_number(page, 17)
        expect(lightbox(page)).to_have_attribute("data-index", "17")


def test_a_number_that_no_image_has_is_refused(page: Page):
    open_view(page, "embedding")
    box = page.get_by_label("Open image number")
    open_by_number(page, 10_000_000)
    assert box.evaluate("box => box.validationMessage")
    expect(lightbox(page)).to_have_count(0)
    expect(page.get_by_text("Open image number")).to_be_visible()


def test_a_closed_image_does_not_come_back_into_the_address(page: Page):
    open_view(page, "errors?image=17")
    expect(lightbox(page)).to_have_attribute("data-index", "17")
    page.keyboard.press("Escape")
    expect(lightbox(page)).to_have_count(0)
    settle(page)
    page.get_by_role("button", name="true cat, predicted dog:").press("Enter")
    expect(page).to_have_url(re.compile("true=cat"))
    settle(page)
    assert "image=" not in page.url


def test_two_chips_clicked_at_once_both_go(page: Page):
    open_view(page, "errors?true=cat&predicted=dog")
    chips = page.get_by_role("button", name=re.compile("remove the filter (true|predicted)"))
    expect(chips).to_have_count(2)
    page.locator(".chips").evaluate("chips => { for (const chip of [...chips.querySelectorAll('.chip')].slice(-2)) chip.click() }")
    expect(page).not_to_have_url(re.compile("true=|predicted="))
    settle(page)
    expect(chips).to_have_count(0)


def test_the_lightbox_stays_where_it_is_when_the_page_says_more(page: Page):
    open_view(page, "rescued")
    dialog = page.locator("dialog[data-ready]").element_handle()
    page.get_by_role("combobox", name="Images shown").click()
    page.get_by_role("option").nth(3).click()
    expect(page.get_by_role("link", name="The same images, with every filter")).to_be_visible()
    settle(page)
    assert dialog.evaluate("dialog => dialog.isConnected")


def test_a_slide_added_in_another_tab_survives_a_choice_in_this_one(page: Page):
    page.goto("/present")
    expect(page.locator(".deck .slide").first).to_be_visible()
    page.evaluate(
        "localStorage.deck = JSON.stringify({ chosen: null, added: [{ id: 'added-1', title: 'New', text: '', layout: 'text' }] })"
    )
    page.locator(".deck .slide input[type=checkbox]").last.click()
    assert page.evaluate("JSON.parse(localStorage.deck).added.map((slide) => slide.id)") == ["added-1"]
    page.reload()
    expect(page.locator(".deck .slide[data-id=added-1]")).to_be_attached()


def test_a_quiz_that_starts_anew_leaves_the_focus_to_the_menu(page: Page):
    open_view(page, "quiz")
    other = page.get_by_test_id("stMain").get_by_role("radio", name="ResNet18")
    other.click()
    expect(other).to_be_checked()
    settle(page)
    expect(page.locator(".quiz .progress")).to_contain_text("Image 1 of 10")
    assert not page.locator(".quiz").evaluate("quiz => quiz === quiz.getRootNode().activeElement")
