"""What a visitor does: clicks a cell, filters errors, follows a link; and what the pages look like to a browser."""

import io
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from core import results, summaries
from core.config import CLASSES, ROOT

expect.set_options(timeout=60_000)  # a loaded machine is slow, not wrong
IDLE = """() => new Promise((done) => {
  const idle = (next) => requestIdleCallback(next, { timeout: 1000 })  // a starved browser never says that it is idle
  idle(() => setTimeout(() => idle(done), 20))
})"""
ANSWERED = """() => {
  const now = performance.now(), { asked, ended } = window  // of conftest.WATCH: what was sent is not at once said to run
  return document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'
    && (ended > asked ? now - ended > 100 : now - asked > 5000)  // a short run's begin and end may be drawn as one
}"""
DRAWN = """() => !document.querySelector('[data-testid=stSkeleton]')
  && [...document.querySelectorAll('.js-plotly-plot')].every((plot) => plot.querySelector('.main-svg'))"""
VIEWS = ("", *sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("*.py") if path.stem != "overview"))


def open_view(page: Page, path: str) -> None:
    page.goto(f"/{path}")
    expect(page.locator("h1").first).to_be_visible()
    settle(page)


def settle(page: Page) -> None:
    """Wait until the server has nothing left to send and all of it is drawn."""
    page.evaluate(IDLE)  # the browser has sent what was clicked
    page.wait_for_function(ANSWERED)
    page.wait_for_function(DRAWN)


def wait_for(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until something holds of which the browser itself knows nothing, at most a minute."""
    for _ in range(600):
        if holds():
            return
        page.wait_for_timeout(100)
    pytest.fail("it never came to hold")


def shown_images(page: Page) -> set[int]:
    """Indices in the gallery."""
    return {int(button.get_attribute("data-index")) for button in page.locator("button[data-index]").all()}


def click_cell(page: Page, true: str, predicted: str) -> None:
    """Click the middle of a matrix cell, as drawn."""
    x, y = page.locator(".js-plotly-plot").first.evaluate(
        """(plot, [x, y]) => {
            const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout
            return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)]
        }""",
        [predicted, true],
    )
    page.mouse.click(x, y)
    expect(page).to_have_url(re.compile(f"true={true}&predicted={predicted}|predicted={predicted}&true={true}"))
    settle(page)


@pytest.fixture(scope="module")
def predictions(shown_results) -> pd.DataFrame:
    return summaries.per_image(results.load_run(shown_results / "imagenet-96-seed0"))


@pytest.mark.parametrize(("true", "predicted"), [("cat", "dog"), ("truck", "automobile"), ("dog", "cat")])
def test_a_click_on_a_cell_shows_exactly_its_images(page, predictions, true, predicted):
    open_view(page, "confusion")
    click_cell(page, true, predicted)
    wanted = predictions[(predictions["label"] == CLASSES.index(true)) & (predictions["fusion_predicted"] == CLASSES.index(predicted))]
    expect(page.locator("button[data-index]")).to_have_count(len(wanted))
    assert shown_images(page) == set(wanted["index"])
    assert f"true={true}" in page.url and f"predicted={predicted}" in page.url


def test_a_click_follows_another_click_and_survives_normalising(page, predictions):
    open_view(page, "confusion")
    click_cell(page, "cat", "dog")
    click_cell(page, "ship", "airplane")
    page.get_by_role("radio", name="true", exact=True).or_(page.get_by_role("button", name="true", exact=True)).first.click()
    settle(page)
    wanted = predictions[(predictions["label"] == 8) & (predictions["fusion_predicted"] == 0)]
    assert shown_images(page) == set(wanted["index"])


def test_a_deep_link_restores_the_view(page, predictions):
    open_view(page, "errors?model=ResNet18&outcome=model+wrong&true=frog&sort=highest+loss+first&per_page=200&image=17")
    wanted = predictions[(predictions["label"] == 6) & ~predictions["resnet18_correct"]]
    gallery = page.locator("button[data-index]")
    expect(gallery.first).to_be_visible()
    shown = [int(button.get_attribute("data-index")) for button in gallery.all()]
    assert shown[: len(wanted)] == list(wanted.sort_values("resnet18_loss", ascending=False, kind="stable")["index"])
    expect(page.get_by_role("dialog").get_by_text(f"True class: {CLASSES[predictions['label'][17]]}")).to_be_visible()


def test_choosing_a_class_filters_the_errors(page, predictions):
    open_view(page, "errors?per_page=200")
    page.get_by_label("True class").first.click()
    page.get_by_role("option", name="deer").first.click()
    page.keyboard.press("Escape")
    settle(page)
    wanted = predictions[(predictions["label"] == 4) & ~predictions["fusion_correct"]]
    expect(page.locator("button[data-index]")).to_have_count(len(wanted))
    assert shown_images(page) == set(wanted["index"])
    expect(page).to_have_url(re.compile("true=deer"))


def test_the_selection_downloads_as_csv(page, predictions):
    open_view(page, "errors?model=MobileNetV2&true=bird")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV of this selection").click()
    table = pd.read_csv(io.BytesIO(download.value.path().read_bytes()))
    wanted = predictions[(predictions["label"] == 2) & ~predictions["mobilenet_v2_correct"]]
    assert set(table["test_image"]) == set(wanted["index"]) and set(table["true_class"]) == {"bird"}


def too_wide(page: Page) -> float:
    """Pixels by which a page is wider than its window."""
    expect(page.locator("[data-testid=stException]")).to_have_count(0)
    return page.evaluate("Math.max(0, document.querySelector('[data-testid=stMain]').scrollWidth - innerWidth)")


def cut_texts(page: Page) -> list[str]:
    """What of the charts' titles and labels hangs out of its chart, or lies in its legend."""
    return page.evaluate("""() => [...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => {
      const box = plot.getBoundingClientRect(), legend = plot.querySelector('.legend')?.getBoundingClientRect()
      return [...plot.querySelectorAll('.gtitle, .bartext, .xtick text, .ytick text, .xtitle')].filter((text) => {
        const r = text.getBoundingClientRect()
        const meets = legend && r.bottom > legend.top + 1 && r.top < legend.bottom - 1 && r.right > legend.left && r.left < legend.right
        return r.width && (meets || r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1)
      }).map((text) => text.textContent)
    })""")


def check_digits(page: Page) -> None:
    """Those of a matrix are no wider than their cells."""
    wide, cell = page.evaluate("""() => {
      const plot = document.querySelector('.js-plotly-plot'), { xaxis } = plot._fullLayout
      const digits = [...plot.querySelectorAll('.textpoint text')]
      return [Math.max(...digits.map((text) => text.getBoundingClientRect().width)), xaxis._length / 10]
    }""")
    assert 0 < wide < cell, f"digits {wide} px wide in cells of {cell} px"


def serious_faults(page: Page) -> list[str]:
    """By axe-core's rules: contrast, names of controls, order of headings and the like."""
    faults = [fault for fault in Axe().run(page).response["violations"] if fault["impact"] in ("serious", "critical")]
    return [f"{fault['id']}: {node['html'][:200]}" for fault in faults for node in fault["nodes"]]


def walk(page: Page) -> Iterator[str]:
    """Every view, by the sidebar's links: a third of the time that opening each anew takes."""
    open_view(page, "glossary")
    sidebar, opener = page.get_by_test_id("stSidebar"), page.get_by_test_id("stExpandSidebarButton")
    links = sidebar.locator("a[href]")
    paths = [urlsplit(link.get_attribute("href")).path.strip("/") for link in links.all()]
    assert sorted(paths) == sorted(VIEWS)
    telephone = opener.is_visible()
    for link, path in zip(links.all(), paths, strict=True):
        if telephone:
            opener.click()
        link.click()
        expect(page).to_have_url(re.compile(rf"//[^/]+/{path}(\?|$)"))
        if telephone:
            expect(sidebar).to_have_attribute("data-collapsed", "true")
        expect(page.locator("h1").first).to_be_visible()
        settle(page)
        yield path or "overview"


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1440, "light"), (1440, "dark")])  # no width hangs on a colour
def test_every_view_fits_its_window_and_can_be_read(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    for view in walk(page):
        assert (too_wide(page), cut_texts(page)) == (0, []), view
        assert width == 400 or serious_faults(page) == [], view
        if view == "confusion":
            check_digits(page)
    for view in ("errors?image=17", "confusion?true=cat&predicted=dog") if width > 400 else ():
        open_view(page, view)
        assert serious_faults(page) == [], view


def test_links_and_marks_follow_a_theme_that_is_switched_on_the_page(page):
    open_view(page, "")
    link = page.get_by_test_id("stMain").get_by_test_id("stPageLink-NavLink").first.locator("p")
    light = link.evaluate("link => getComputedStyle(link).color")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("([link, light]) => getComputedStyle(link).color !== light", arg=[link.element_handle(), light])
    settle(page)
    assert serious_faults(page) == []


def test_a_script_in_the_url_stays_text(page):
    page.once("dialog", lambda dialog: pytest.fail("a script from the URL ran"))
    open_view(
        page, "errors?true=%3Cscript%3Ealert(1)%3C/script%3E&image=%3Cimg%20src=x%20onerror=alert(1)%3E&run=%3Csvg%20onload=alert(1)%3E"
    )
    expect(page.locator("button[data-index]").first).to_be_visible()


def test_the_report_opens_offline_with_its_charts_and_numbers(page, chromium, shown_results, tmp_path):
    open_view(page, "report")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)
    context = chromium.new_context(offline=True)
    asked = []
    context.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    report = context.new_page()
    report.goto(path.as_uri())
    expect(report.locator(".main-svg").first).to_be_visible()
    assert report.locator(".js-plotly-plot").count() >= 8
    summary = summaries.per_model(results.load_run(shown_results / "imagenet-96-seed0")).set_index("model")
    assert f"{summary.loc['fusion', 'accuracy']:.2%}" in report.locator("body").inner_text()
    assert report.locator("img").evaluate_all("images => images.every(image => image.naturalWidth === 32)")
    report.set_viewport_size({"width": 1200, "height": 900})
    report.evaluate(  # as while printing: what is drawn by the end of the listeners is what the paper shows
        """() => {
          window.cut = null
          const wide = (place) => place.querySelector('.main-svg').getBoundingClientRect().width > place.parentElement.clientWidth + 1
          const look = () => [...document.querySelectorAll('.js-plotly-plot')].filter(wide).map((place) => place.id)
          matchMedia('print').addEventListener('change', ({ matches }) => { if (matches) window.cut = look() })
        }"""
    )
    report.pdf(format="A4")
    assert report.evaluate("window.cut") == []
    context.close()
    assert asked == []


def test_one_choice_costs_one_history_entry_and_back_comes_back_to_it(page, predictions):
    """Also from another page: the filter, the model and the image come back."""
    open_view(page, "errors?outcome=model+wrong&true=cat&true=dog")
    entries = page.evaluate("history.length")
    page.get_by_role("link", name="Confusion").click()
    expect(page.locator("h1").first).to_have_text("Confusion")
    settle(page)
    assert page.evaluate("history.length") == entries + 1
    assert "Confusion · imagenet-96-seed0" in page.title()
    page.go_back()
    expect(page.locator("h1").first).to_contain_text("Errors")
    settle(page)
    wanted = predictions[predictions["label"].isin([3, 5]) & ~predictions["fusion_correct"]]
    expect(page.get_by_text(f"{len(wanted):,} of {len(predictions):,} test images").first).to_be_visible()


def test_the_sidebars_link_to_the_open_page_takes_back_its_filters(page):
    """From the address too: else the next click would bring them back."""
    open_view(page, "errors?true=cat")
    page.get_by_test_id("stSidebar").get_by_role("link", name="Errors", exact=True).click()
    expect(page).not_to_have_url(re.compile("true="))
    settle(page)
    page.get_by_test_id("stSidebar").get_by_role("button", name="ResNet18").click()
    expect(page).to_have_url(re.compile("models="))
    expect(page).not_to_have_url(re.compile("true=|anew="))


def test_on_a_telephone_the_sidebar_closes_when_another_page_opens(page):
    page.set_viewport_size({"width": 400, "height": 900})
    open_view(page, "errors")
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_role("link", name="Confusion").click()
    expect(page.locator("h1").first).to_have_text("Confusion")
    expect(page.get_by_test_id("stSidebar")).to_have_attribute("data-collapsed", "true")


def test_the_confusion_matrix_plays_its_epochs_up_to_the_chosen_one(page):
    open_view(page, "training?epoch=3")
    title = page.locator(".st-key-epoch_confusion .gtitle")
    expect(title).to_contain_text("epoch 3?")
    page.evaluate("""() => {  // what is shown for a moment is not missed, however busy the machine
      const chart = document.querySelector('.st-key-epoch_confusion')
      window.epochs = ''
      new MutationObserver(() => {
        const epoch = chart.querySelector('.gtitle')?.textContent.match(/epoch (\\d)/)?.[1]
        if (epoch && !window.epochs.endsWith(epoch)) window.epochs += epoch
      }).observe(chart, { subtree: true, childList: true, characterData: true, attributes: true })
    }""")
    page.locator(".st-key-epoch_confusion").get_by_text("Play from epoch 1").click()
    page.wait_for_function("window.epochs.endsWith('123')")
