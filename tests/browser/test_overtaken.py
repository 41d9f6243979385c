"""A component's clean-up is also called while it stays: Streamlit does so for an answer that the next one overtook on its way."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import open_window
from tests.browser.test_browser import open_view, settle
from tests.browser.test_errors import lightbox, thumbnails
from tests.browser.test_present import count, open_show

# Every script that Streamlit hands to the browser, with each call cleaned up after at once.
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
def page(chromium, server):
    with open_window(chromium, server) as context:
        context.add_init_script(OVERTAKE)
        yield context.pages[0]
        assert context.pages[0].evaluate("window.overtaken")


def test_the_lightbox_turns_the_page_and_tags(page: Page):
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


def test_slides_hear_the_keys(page: Page):
    open_show(page)
    page.keyboard.press("ArrowRight")
    assert count(page)[0] == 2


def test_the_quiz_hears_the_keys(page: Page):
    open_view(page, "quiz")
    expect(page.locator(".quiz .progress")).to_contain_text("Image 1 of 10")
    page.keyboard.press("1")
    expect(page.locator(".quiz .verdict")).to_contain_text("Answer:")


def test_it_still_ends_with_its_page(page: Page):
    open_view(page, "quiz")
    expect(page.locator(".quiz .progress")).to_contain_text("Image 1 of 10")
    quiz = page.locator(".quiz").element_handle()
    assert quiz.evaluate("root => root.quiz.name")
    page.get_by_role("link", name="Errors", exact=True).first.click()
    expect(page.locator("h1").first).to_have_text("Errors")
    settle(page)
    assert quiz.evaluate("root => root.quiz") is None


def test_words_stay_explained(page: Page):
    open_view(page, "evidence")
    settle(page)
    page.wait_for_function("CSS.highlights.get('glossary')?.size > 0")
