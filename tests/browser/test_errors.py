"""Errors by class in a real Chromium: the lightbox, the keyboard, filters and how fast they answer."""

import json
import re

import pandas as pd
import pytest
from playwright.sync_api import Locator, Page, expect

from core import results, summaries
from core.config import CLASSES, TRIO
from tests.browser.test_browser import open_view, settle, shown_images


@pytest.fixture(scope="module")
def predictions(shown_results) -> pd.DataFrame:
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
    index = index_of(low)
    place = page.locator(f"button[data-index='{index}']")
    before = place.bounding_box()["y"]  # on the screen: what is drawn above may grow meanwhile
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
    expect(place).to_be_focused()
    assert abs(place.bounding_box()["y"] - before) < 3


def test_an_open_image_stays_in_sight_while_the_server_answers(page):
    """What the server draws above it must not move it: Streamlit hides what moves until it has its new place."""
    page.add_init_script(
        """const show = HTMLDialogElement.prototype.showModal
        HTMLDialogElement.prototype.showModal = function () {
          show.call(this)
          window.hidden = 0
          const look = () => { window.hidden += !this.checkVisibility(); if (this.open) requestAnimationFrame(look) }
          look()
        }"""
    )
    for _ in range(3):
        open_view(page, "errors")
        thumbnails(page).first.click()
        expect(lightbox(page).locator(".bars h3")).to_have_count(4)
        settle(page)
        assert page.evaluate("window.hidden") == 0


def test_arrows_walk_through_the_whole_selection_and_no_press_is_lost(page, predictions):
    open_view(page, "errors?per_page=50&sort=index")
    wrong = predictions[~predictions["fusion_correct"]]["index"].tolist()
    thumbnails(page).nth(46).click()
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[46]))
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[49]))
    page.keyboard.press("ArrowRight")  # the next page
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[50]))
    expect(lightbox(page).locator("h2")).to_contain_text(f"51 of {len(wrong)}")
    page.keyboard.press("ArrowLeft")
    expect(lightbox(page)).to_have_attribute("data-index", str(wrong[49]))
    expect(lightbox(page).locator(".said")).to_contain_text(f"True class: {CLASSES[predictions['label'][wrong[49]]]}")


def test_the_browsers_own_keys_are_left_to_it(page):
    open_view(page, "errors")
    thumbnails(page).nth(1).click()
    index = lightbox(page).get_attribute("data-index")
    for key in ("altKey", "metaKey"):  # Back, which closes the image
        pressed = "key => dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', [key]: true, cancelable: true }))"
        assert page.evaluate(pressed, key)
    expect(lightbox(page)).to_have_attribute("data-index", index)


def test_a_link_with_an_image_opens_it_and_a_nearest_image_follows(page, predictions):
    open_view(page, "errors?image=17")
    expect(lightbox(page)).to_contain_text(f"True class: {CLASSES[predictions['label'][17]]}")
    nearest = lightbox(page).locator(".nearest button").first
    other = nearest.get_attribute("aria-label").split(":")[0]
    nearest.click()
    expect(lightbox(page).locator("h2")).to_have_text(other.capitalize())
    assert lightbox(page).get_by_role("link", name="Why?").get_attribute("href").startswith(f"attributions?image={other.split()[1]}")


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


GALLERY = """() => {
    const roots = [...document.querySelectorAll('*')].flatMap((one) => one.shadowRoot ?? [])
    return roots.map((root) => root.querySelector('.grid')).find(Boolean)
}"""


def test_a_gallery_that_is_drawn_anew_keeps_its_place_and_its_arrows(page):
    """Streamlit may put another element in its place, which speaks before the old one leaves, and takes the focus away."""
    open_view(page, "errors")
    first, second = index_of(thumbnails(page).nth(0)), index_of(thumbnails(page).nth(1))
    thumbnails(page).nth(0).click()
    expect(lightbox(page)).to_have_attribute("data-index", first)
    settle(page)
    grid = page.evaluate_handle(GALLERY)
    grid.evaluate("grid => document.dispatchEvent(new CustomEvent('gallery-gone', { detail: { key: 'gallery_page', grid } }))")
    page.keyboard.press("ArrowRight")
    expect(lightbox(page)).to_have_attribute("data-index", second)
    page.keyboard.press("Escape")
    settle(page)
    expect(thumbnails(page).nth(1)).to_be_focused()
    grid.evaluate("grid => grid.querySelector(':focus').blur()")
    page.evaluate("document.dispatchEvent(new CustomEvent('gallery-call'))")
    expect(thumbnails(page).nth(1)).to_be_focused()
    page.keyboard.press("Shift")  # the visitor goes on: nothing is given back any more
    grid.evaluate("grid => grid.querySelector(':focus').blur()")
    page.evaluate("document.dispatchEvent(new CustomEvent('gallery-call'))")
    assert page.evaluate("document.activeElement === document.body")


def test_the_lightbox_opens_and_steps_without_waiting_for_the_server(page):
    """Within the click's own turn of the browser's loop, so in no measurable time however slow the server."""
    open_view(page, "errors")
    first, second = index_of(thumbnails(page).nth(0)), index_of(thumbnails(page).nth(1))
    expect(page.locator("dialog[data-ready]")).to_be_attached()
    shown = page.evaluate(
        """() => {
            const roots = [...document.querySelectorAll('*')].flatMap((one) => one.shadowRoot ?? [])
            const dialog = roots.map((root) => root.querySelector('dialog')).find(Boolean)
            const shown = []
            roots.map((root) => root.querySelector('button[data-index]')).find(Boolean).click()
            shown.push([dialog.open, dialog.dataset.index, dialog.querySelector('.large').style.backgroundImage.startsWith('url("blob:')])
            dialog.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true, composed: true }))
            shown.push([dialog.open, dialog.dataset.index, dialog.querySelector('.said').textContent.length > 0])
            return shown
        }"""
    )
    assert shown == [[True, first, True], [True, second, True]]


def chip(page: Page, text: str) -> Locator:
    return page.get_by_role("button", name=f"remove the filter {text}")


def total(page: Page) -> Locator:
    return page.locator("p", has_text="of 10,000 test images")


def test_a_cell_of_the_matrix_filters_and_chips_take_it_back(page, predictions):
    open_view(page, "errors?per_page=200")
    wrong = predictions[~predictions["fusion_correct"]]
    cell = wrong[(wrong["label"] == 3) & (wrong["fusion_predicted"] == 5)]
    button = page.get_by_role("button", name="true cat, predicted dog:")
    button.press("Enter")
    expect(total(page)).to_contain_text(f"{len(cell):,} of")
    expect(button).to_be_focused()  # the matrix was drawn anew
    expect(chip(page, "true class cat")).to_be_visible()
    expect(thumbnails(page)).to_have_count(len(cell))
    assert shown_images(page) == set(cell["index"])
    settle(page)
    assert "true=cat" in page.url and "predicted=dog" in page.url
    chip(page, "predicted dog").press("Enter")
    expect(total(page)).to_contain_text(f"{(wrong['label'] == 3).sum():,} of")
    expect(page.get_by_role("button", name="reset all filters")).to_be_focused()  # it stands where the chip was
    page.get_by_role("button", name="reset all filters").click()
    expect(total(page)).to_contain_text(f"{len(wrong):,} of")
    settle(page)
    assert "true=" not in page.url


def test_a_cell_of_the_diagonal_shows_as_many_images_as_it_says(page, predictions):
    open_view(page, "errors?model=resnet18&outcome=any+wrong")
    some_wrong = ~predictions[[f"{model}_correct" for model in TRIO]].all(axis=1)
    cats = int((some_wrong & predictions["resnet18_correct"] & (predictions["label"] == 3)).sum())
    page.get_by_role("button", name=f"true cat, predicted cat: {cats:,}").click()
    expect(total(page)).to_contain_text(f"{cats:,} of")
    settle(page)
    assert "outcome=any+wrong" in page.url


def test_a_class_recall_shows_its_misses_and_a_precision_its_false_positives(page, predictions):
    open_view(page, "errors?model=resnet18")
    page.get_by_role("button", name="recall of bird").click()
    misses = (predictions["label"] == 2) & (predictions["resnet18_predicted"] != 2)
    expect(total(page)).to_contain_text(f"{misses.sum():,} of")
    settle(page)  # the matrix comes after the total
    page.get_by_role("button", name="precision of frog").click()
    alarms = (predictions["label"] != 6) & (predictions["resnet18_predicted"] == 6)
    expect(total(page)).to_contain_text(f"{alarms.sum():,} of")


def test_counts_stand_in_the_menus_and_a_link_restores_two_models_and_groups(page, predictions):
    open_view(page, "errors?true=cat&beside=resnet18&grouped=true")
    expect(page.get_by_text("called dog:")).to_have_count(2)
    wrong = predictions[~predictions["fusion_correct"]]
    page.get_by_label("True class").first.click()
    expect(page.get_by_role("option", name=f"dog {(wrong['label'] == 5).sum()}")).to_be_visible()


SHEET = """async (thumb) => {
    const url = getComputedStyle(thumb).backgroundImage.slice(5, -2), image = new Image()
    image.src = url
    await image.decode()
    return [url, image.naturalWidth]
}"""


def test_thumbnails_are_cut_from_a_sheet_under_a_short_address(page):
    """The style of each holds the address: as a data URI it cost a second and more to work out for two hundred."""
    open_view(page, "errors")
    first, width = thumbnails(page).first.locator(".thumb").evaluate(SHEET)
    page.get_by_role("button", name="true cat, predicted dog:").click()
    expect(chip(page, "true class cat")).to_be_visible()
    settle(page)
    second, again = thumbnails(page).first.locator(".thumb").evaluate(SHEET)
    assert width == again == 20 * 32 and first != second and max(len(first), len(second)) < 100


def test_a_filter_is_one_step_of_the_history_an_open_image_another_and_back_undoes_the_last(page, predictions):
    open_view(page, "errors")
    expect(thumbnails(page).first).to_be_visible()
    before = page.evaluate("history.length")
    page.get_by_role("button", name="true cat, predicted dog:").click()
    expect(chip(page, "true class cat")).to_be_visible()
    settle(page)
    for leave in (page.go_back, lambda: page.keyboard.press("Escape")):
        thumbnails(page).first.click()
        settle(page)
        page.keyboard.press("ArrowRight")
        settle(page)
        expect(lightbox(page)).to_be_visible()
        assert page.evaluate("history.length") == before + 2
        leave()
        expect(lightbox(page)).to_be_hidden()
        expect(chip(page, "true class cat")).to_be_visible()
        settle(page)
        assert "image=" not in page.url
    page.wait_for_function("!history.state?.lightbox")  # the closing's own step back is done
    page.go_back()
    expect(chip(page, "true class cat")).to_have_count(0)


def test_the_way_to_attributions_takes_the_filter_along(page):
    open_view(page, "errors?true=cat&predicted=dog")
    thumbnails(page).first.click()
    why = lightbox(page).get_by_role("link", name="Why? See its attributions")
    expect(why).to_have_attribute("href", re.compile(r"^(?=.*[?&]image=\d+)(?=.*[?&]true=cat)(?=.*[?&]predicted=dog)attributions\?"))


def test_the_link_is_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_view(page, "errors?true=frog")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert "true=frog" in page.evaluate("navigator.clipboard.readText()")


def test_tags_stay_in_the_browser_filter_and_travel_as_json_and_csv(page, tmp_path):
    open_view(page, "errors")
    index = index_of(thumbnails(page).nth(2))
    thumbnails(page).nth(2).click()
    lightbox(page).get_by_label("Your tags").fill("blurred, odd")
    lightbox(page).get_by_label("Note").fill("two animals")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    export = page.get_by_role("button", name="Export tags (1)")
    with page.expect_download() as download:
        export.click()
    saved = tmp_path / "tags.json"
    download.value.save_as(saved)
    assert json.loads(saved.read_text(encoding="utf-8")) == {index: {"tags": ["blurred", "odd"], "note": "two animals"}}
    settle(page)
    open_view(page, "errors?tags=odd&outcome=everything")  # kept from visit to visit
    expect(total(page)).to_contain_text("1 of")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV of this selection").click()
    table = pd.read_csv(download.value.path())
    assert table[["test_image", "your_tags", "your_note"]].to_numpy().tolist() == [[int(index), "blurred; odd", "two animals"]]
    assert "tags-odd" in download.value.suggested_filename
    page.evaluate("localStorage.clear()")
    open_view(page, "errors")
    page.locator("input[type=file][accept*=json]").set_input_files(saved)
    expect(page.get_by_text("Read the tags of 1 image.")).to_be_visible()
    theirs = json.dumps({index: {"tags": ["odd", "theirs"], "note": "their note"}}).encode()
    for _ in range(2):  # what one has of the same image stays, and the same file adds nothing the second time
        page.locator("input[type=file][accept*=json]").set_input_files({"name": "y.json", "mimeType": "application/json", "buffer": theirs})
        expect(page.get_by_text("Read the tags of 1 image.")).to_be_visible()
        page.wait_for_function("localStorage['image-tags'].includes('theirs')")
        kept = json.loads(page.evaluate("localStorage['image-tags']"))
        assert kept == {index: {"tags": ["blurred", "odd", "theirs"], "note": "two animals / their note"}}
    page.locator("input[type=file][accept*=json]").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": b'{"<img>": 3, "7": {"tags": "no"}}'}
    )
    expect(page.get_by_text("This file holds no tags")).to_be_visible()


def test_a_tag_that_was_typed_is_kept_when_the_image_closes(page):
    open_view(page, "errors?image=17")
    lightbox(page).get_by_label("Your tags").fill("blurred")
    page.keyboard.press("Escape")
    page.wait_for_function('localStorage[\'image-tags\'] === \'{"17":{"tags":["blurred"],"note":""}}\'')


def test_a_weak_slice_leads_to_its_errors(page):
    open_view(page, "errors?show=weak+slices&search_by=class&search_by=brightness")
    table = page.locator("[data-testid=stDataFrame] canvas").first
    expect(table.locator("[role=gridcell]").first).to_be_attached()  # it is filled
    settle(page)
    box = table.bounding_box()
    page.mouse.click(box["x"] + 80, box["y"] + 52)  # its first row
    expect(page.get_by_role("button", name="remove the filter").nth(1)).to_be_visible()
    expect(thumbnails(page).first).to_be_visible()


def test_on_a_telephone_the_filters_are_folded_and_images_stand_on_the_first_screen(page):
    page.set_viewport_size({"width": 400, "height": 850})
    open_view(page, "errors?true=cat")
    assert thumbnails(page).first.bounding_box()["y"] < 850
    expect(page.get_by_label("True class").first).to_be_hidden()
    fold = page.get_by_role("button", name="filters", exact=True)
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_label("True class").first).to_be_visible()
