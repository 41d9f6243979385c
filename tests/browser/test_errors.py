"""Errors by class in a real Chromium: the lightbox, the keyboard, filters and how fast they answer."""

import time

import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, expect

from core import results, summaries
from core.config import CLASSES
from tests.browser.test_browser import open_view, settle


@pytest.fixture(scope="module")
def answers(shown_results) -> pd.DataFrame:
    return summaries.per_image(results.load_run(shown_results / "imagenet-96-seed0"))


def thumbnails(page: Page) -> Locator:
    gallery = page.locator("button[data-index]")
    expect(gallery.first).to_be_visible()
    return gallery


def index_of(thumbnail: Locator) -> str:
    return thumbnail.get_attribute("data-index")


def lightbox(page: Page) -> Locator:
    return page.locator("dialog[open]")


def test_a_click_opens_the_image_large_wherever_it_lies_and_esc_returns_to_the_same_place(page):
    open_view(page, "errors")
    low = thumbnails(page).nth(80)
    low.scroll_into_view_if_needed()
    before = page.locator("[data-testid=stMain]").evaluate("main => main.scrollTop")
    index = index_of(low)
    low.click()
    box = lightbox(page).locator(".large").bounding_box()
    assert box["width"] >= 480 and box["height"] >= 480
    assert box["y"] >= 0 and box["y"] + box["height"] <= 900
    expect(lightbox(page).locator(".bars h3")).to_have_count(4)
    expect(lightbox(page).locator(".nearest button")).to_have_count(6)
    settle(page)
    assert f"image={index}" in page.url
    page.keyboard.press("Escape")
    expect(lightbox(page)).to_have_count(0)
    settle(page)
    assert "image=" not in page.url
    assert page.locator("[data-testid=stMain]").evaluate("main => main.scrollTop") == before
    expect(page.locator(f"button[data-index='{index}']")).to_be_focused()


def test_arrows_walk_through_the_whole_selection_and_no_press_is_lost(page, answers):
    open_view(page, "errors?per_page=50&sort=index")
    wrong = answers[~answers["fusion_correct"]]["index"].tolist()
    thumbnails(page).nth(46).click()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[49]))
    page.keyboard.press("ArrowRight")  # the next page
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[50]))
    expect(lightbox(page).locator("h2")).to_contain_text(f"51 of {len(wrong)}")
    page.keyboard.press("ArrowLeft")
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[49]))
    expect(lightbox(page).locator(".said")).to_contain_text(f"True class: {CLASSES[answers['label'][wrong[49]]]}")


def test_a_link_with_an_image_opens_it_and_a_nearest_image_follows(page, answers):
    open_view(page, "errors?image=17")
    expect(lightbox(page)).to_contain_text(f"True class: {CLASSES[answers['label'][17]]}")
    nearest = lightbox(page).locator(".nearest button").first
    other = nearest.get_attribute("aria-label").split(":")[0]
    nearest.click()
    expect(lightbox(page).locator("h2")).to_have_text(other.capitalize())
    assert lightbox(page).get_by_role("link", name="Why?").get_attribute("href").endswith(f"image={other.split()[1]}")


def test_the_lightbox_fits_a_telephone(page):
    page.set_viewport_size({"width": 400, "height": 800})
    open_view(page, "errors")
    thumbnails(page).nth(5).click()
    expect(lightbox(page).locator(".bars h3")).to_have_count(4)
    assert lightbox(page).evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth && dialog.getBoundingClientRect().width <= 400")
    assert lightbox(page).locator(".large").bounding_box()["width"] >= 360


def test_one_tab_leads_to_the_images_and_arrows_move_among_them(page):
    open_view(page, "errors")
    gallery = thumbnails(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the images")).to_be_focused()
    page.keyboard.press("Enter")
    expect(gallery.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(gallery.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    here = page.locator("button[data-index]:focus")
    above, below = gallery.nth(1).bounding_box(), here.bounding_box()
    assert below["x"] == pytest.approx(above["x"], abs=1) and below["y"] > above["y"]
    index = index_of(here)
    page.keyboard.press("Enter")
    expect(lightbox(page)).to_have_attribute("data-index", index)
    settle(page)
    page.keyboard.press("Escape")
    settle(page)
    expect(page.locator(f"button[data-index='{index}']")).to_be_focused()
    page.keyboard.press("Tab")  # one stop for all of them
    expect(page.locator("button[data-index]:focus")).to_have_count(0)


def median_seconds(act, times: int = 10) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        act()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[times // 2]


def test_the_lightbox_answers_at_once(page):
    open_view(page, "errors")
    thumbnails(page).first.focus()

    def open_and_close() -> None:
        page.keyboard.press("Enter")
        expect(lightbox(page)).to_be_visible()
        page.keyboard.press("Escape")
        expect(lightbox(page)).to_have_count(0)

    assert median_seconds(open_and_close) < 0.3
    page.keyboard.press("Enter")

    def step() -> None:
        before = index_of(lightbox(page))
        page.keyboard.press("ArrowRight")
        expect(lightbox(page)).not_to_have_attribute("data-index", before)

    assert median_seconds(step) < 0.15
