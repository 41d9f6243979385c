"""Presenting in a real browser: every slide fits and can be read, no key is lost, leaving is safe, the file needs nothing."""

import re

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from core import results, summaries
from core.config import CLASSES, ROOT
from dashboard.glossary import explain
from tests.browser.conftest import open_tab, open_window, serve
from tests.browser.test_browser import settle

expect.set_options(timeout=60_000)  # a loaded machine is slow, not wrong
MEASURE = """() => {
  const face = document.querySelector('.deck .now .face'), scale = face.getBoundingClientRect().width / face.offsetWidth
  const shown = (node) => node.getClientRects().length > 0 && node.textContent.trim() !== ''
  const size = (node) => parseFloat(getComputedStyle(node).fontSize)
  const inside = [...face.querySelectorAll('h2, .said *, .shown :not(.chart *), footer')].filter(shown)
  const box = face.getBoundingClientRect()
  const chart = face.querySelector('.chart')
  const drawn = chart ? chart.querySelector('.js-plotly-plot').getBoundingClientRect() : null
  const enlarged = drawn ? drawn.width / chart.querySelector('.js-plotly-plot').offsetWidth : 0
  const said = [...face.querySelectorAll('.said :is(p, li)')].filter(shown)
  const labels = chart ? [...chart.querySelectorAll('.xtick text, .ytick text, .xtitle, .ytitle, .legendtext')] : []
  return {
    id: document.querySelector('.deck .now').dataset.id,
    hanging: [...face.querySelectorAll('.body, .said, .shown')].filter((part) =>
      part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1).map((part) => part.className),
    outside: inside.filter((node) => { const r = node.getBoundingClientRect()
      return r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1 })
      .map((node) => node.outerHTML.slice(0, 80)),
    window: [box.left, box.top, box.right <= innerWidth + 1, box.bottom <= innerHeight + 1],
    body: Math.min(...said.map((node) => size(node) * scale)),
    labels: Math.min(...labels.map((node) => size(node) * enlarged)),
    chart: drawn && [drawn.width / box.width, drawn.height / box.height],
  }
}"""


def open_show(page: Page, address: str = "present?step=1") -> None:
    page.goto(f"/{address}")
    expect(page.locator(".deck[data-mode=show]")).to_be_visible()


def count(page: Page) -> tuple[int, int]:
    """The slide on show, and of how many."""
    at, of = page.locator(".deck .count").inner_text().split("/")
    return int(at), int(of)


def all_ids(page: Page) -> list[str]:
    page.goto("/present")
    expect(page.locator(".deck .slide").first).to_be_visible()
    return page.locator(".deck .slide").evaluate_all("slides => slides.map(slide => slide.dataset.id)")


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1280, 720), (1024, 768)])
def test_every_slide_fits_and_can_be_read(page, width, height):
    read_every_slide(page, width, height)


def test_every_slide_of_the_shipped_results_fits_and_can_be_read(chromium, tmp_path):
    """Their claims and limits have more to say than made-up ones."""
    with serve(ROOT / "results", tmp_path / "log") as address, open_window(chromium, address) as window, open_tab(window, address) as page:
        for size in ((1920, 1080), (1024, 768)):
            read_every_slide(page, *size)


def read_every_slide(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    ids = all_ids(page)
    open_show(page, f"present?step=1&slides={','.join(ids)}")
    for name in ids:
        expect(page.locator(".deck .now")).to_have_attribute("data-id", name)
        if page.locator(".deck .now .chart").count():
            expect(page.locator(".deck .now .chart .main-svg").first).to_be_visible()
        measured = page.evaluate(MEASURE)
        assert measured["hanging"] == measured["outside"] == [], measured
        assert measured["window"] == [0, 0, True, True], measured
        if width == 1920:
            assert measured["body"] is None or measured["body"] >= 24, measured
            assert measured["labels"] is None or measured["labels"] >= 18, measured
        if measured["chart"]:
            assert measured["chart"][0] >= 0.5 and measured["chart"][1] >= 0.55, measured
        page.keyboard.press("ArrowRight")


def test_no_key_is_lost(page):
    open_show(page)
    _, last = count(page)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert count(page)[0] == 5
    for key, at in (("PageUp", 4), ("PageDown", 5), ("Space", 6), ("Shift+Space", 5), ("Home", 1), ("ArrowLeft", 1), ("End", last)):
        page.keyboard.press(key)
        assert count(page)[0] == at, key
    assert f"step={last}" in page.url


@pytest.mark.parametrize("how", ["Escape", "O, Escape", "the button"])
def test_leaving_from_any_slide_shows_the_overview_with_the_sidebar(page, how):
    open_show(page, "present?step=3")
    if how == "the button":
        page.get_by_role("button", name="Leave the show (Esc)").click()
    else:
        for key in how.split(", "):
            page.keyboard.press(key)
    expect(page.locator(".deck[data-mode=overview]")).to_be_visible()
    assert "step=" not in page.url
    page.locator("[data-testid=stSidebar]").get_by_role("link", name="Evidence").click()
    expect(page.locator("h1").first).to_have_text("Evidence")
    expect(page.locator("[data-testid=stException]")).to_have_count(0)


def test_the_overview_of_the_show_chooses_by_arrows_and_opens_by_o_or_enter(page):
    open_show(page, "present?step=3")
    page.keyboard.press("o")
    expect(page.locator(".deck[data-mode=grid]")).to_be_visible()
    columns = len(page.locator(".deck .slides").evaluate("list => getComputedStyle(list).gridTemplateColumns").split())
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("o")
    expect(page.locator(".deck[data-mode=show]")).to_be_visible()
    assert count(page)[0] == 2 + columns
    page.keyboard.press("o")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".deck[data-mode=show]")).to_be_visible()
    assert count(page)[0] == 2


CUT = """() => { // what of the slide on show no scrolling brings into sight
  const body = document.querySelector('.deck .now .body'), frame = body.getBoundingClientRect()
  const parts = [...body.querySelectorAll('*')].filter((node) => node.getClientRects().length && !node.closest('.chart'))
  const clipped = [...body.querySelectorAll('.said, .shown')].filter((part) =>
    part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1).map((part) => part.className)
  const aside = parts.filter((node) => node.getBoundingClientRect().right > frame.right + 1).map((node) => node.outerHTML.slice(0, 80))
  const words = [...body.querySelectorAll('figure')].map((node) => {
    const range = document.createRange()
    range.selectNodeContents(node)
    return range.getBoundingClientRect()
  })
  const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
  const met = words.some((a, i) => words.slice(i + 1).some((b) => meet(a, b)))
  return [clipped, aside, met]
}"""


def test_on_a_telephone_nothing_of_a_slide_is_cut(page):
    page.set_viewport_size({"width": 400, "height": 850})
    ids = all_ids(page)
    stages = page.locator(".deck [data-id=models] .stage").evaluate_all(
        "stages => stages.map(stage => stage.getBoundingClientRect().right)"
    )
    frame = page.locator(".deck [data-id=models] .frame").bounding_box()
    assert stages == sorted(stages) and stages[-1] <= frame["x"] + frame["width"]
    open_show(page, f"present?step=1&slides={','.join(ids)}")
    for name in ids:
        expect(page.locator(".deck .now")).to_have_attribute("data-id", name)
        assert page.evaluate(CUT) == [[], [], False], name
        if name == "models":
            page.locator(".deck .now .stage").last.scroll_into_view_if_needed()
            box = page.locator(".deck .now .stage").last.bounding_box()
            assert box["y"] + box["height"] <= page.locator(".deck .now footer").bounding_box()["y"]
        page.keyboard.press("ArrowRight")


def test_the_quiz_asks_on_one_screen_of_a_telephone(page):
    page.set_viewport_size({"width": 400, "height": 850})
    page.goto("/quiz")
    expect(page.locator(".quiz .choices button")).to_have_count(10)
    assert page.locator(".quiz").bounding_box()["height"] <= 700


@pytest.mark.parametrize("step", ["0", "-1", "x", "%3Cb%3E", ""])
def test_a_nonsense_step_opens_the_first_slide(page, step):
    open_show(page, f"present?step={step}")
    assert count(page)[0] == 1


def test_a_step_survives_reloading_and_one_too_far_is_the_last(page):
    open_show(page, "present?step=4")
    page.reload()
    expect(page.locator(".deck[data-mode=show]")).to_be_visible()
    assert count(page)[0] == 4
    open_show(page, "present?step=999")
    assert count(page)[0] == count(page)[1]


def test_notes_black_screen_and_full_screen_by_key(page):
    open_show(page, "present?step=2")
    notes = page.locator(".deck .notes")
    expect(notes).to_be_hidden()
    page.keyboard.press("n")
    expect(notes).to_contain_text("baselines")
    expect(notes).to_contain_text("Next:")
    measured = page.evaluate(MEASURE)
    assert measured["hanging"] == measured["outside"] == []
    with page.expect_popup() as popup:
        page.get_by_role("button", name="Speaker notes in a window").press("Enter")
    expect(popup.value.locator("aside")).to_contain_text("baselines")
    expect(notes).to_have_count(0)
    popup.value.keyboard.press("ArrowRight")
    assert count(page)[0] == 3
    with popup.value.expect_event("close"):
        page.keyboard.press("n")
    expect(notes).to_be_hidden()
    page.keyboard.press("n")
    with page.expect_popup() as popup:
        page.get_by_role("button", name="Speaker notes in a window").press("Enter")
    with popup.value.expect_event("close"):  # notes of a slide that is no longer shown would stay in it
        page.reload()
    expect(page.locator(".deck[data-mode=show]")).to_be_visible()
    page.keyboard.press("b")
    expect(page.locator(".deck.black")).to_have_count(1)
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement?.classList.contains('deck')")


def test_the_deck_is_chosen_ordered_shared_and_kept(page):
    ids = all_ids(page)
    usual = page.locator(".deck .slide:not(.out)").count()
    page.locator(f".deck [data-id={ids[0]}] input").uncheck()
    page.locator(f".deck [data-id={ids[-1]}] input").check()
    page.locator(f".deck [data-id={ids[-1]}] .up").click()
    address = page.url
    chosen = page.locator(".deck .slide:not(.out)").evaluate_all("slides => slides.map(slide => slide.dataset.id)")
    assert len(chosen) == usual and chosen[-2] == ids[-1] and ids[0] not in chosen
    page.locator(f".deck [data-id={chosen[2]}] .open").click()
    assert count(page) == (3, usual)
    page.evaluate("localStorage.clear()")
    page.goto(address)  # a link holds the deck without the browser's memory
    expect(page.locator(".deck .slide:not(.out)")).to_have_count(usual)
    assert page.locator(".deck .slide:not(.out)").evaluate_all("slides => slides.map(slide => slide.dataset.id)") == chosen
    page.get_by_role("button", name="Back to the usual slides").click()
    assert "slides=" not in page.url and page.locator(".deck .slide").evaluate_all("all => all.map(one => one.dataset.id)") == ids


def test_a_shared_deck_stays_in_the_address_and_one_of_another_run_in_the_memory(page):
    chosen = page.locator(".deck .slide:not(.out)")
    page.goto("/present?slides=answer,question")
    expect(chosen).to_have_count(2)
    page.get_by_test_id("stSidebar").get_by_role("button", name="MobileNetV2").click()  # the page is drawn anew
    page.wait_for_url(re.compile("models="))
    settle(page)
    expect(chosen).to_have_count(2)
    page.wait_for_url(re.compile("slides=answer%2Cquestion"))
    expect(page.locator(".deck .slide.out .number").first).to_have_text("")
    page.evaluate("localStorage.deck = JSON.stringify({ chosen: ['answer', 'of-another-run', 'question'], added: [] })")
    page.goto("/present")
    expect(chosen).to_have_count(2)
    page.locator(".deck [data-id=limits] input").check()
    expect(chosen).to_have_count(3)
    assert page.evaluate("JSON.parse(localStorage.deck).chosen") == ["answer", "question", "limits", "of-another-run"]
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # only the file prints a slide a page
    assert "scale(1)" not in page.locator(".deck .face").first.get_attribute("style")


def test_another_order_of_the_usual_slides_is_kept_until_reset(page):
    ids = all_ids(page)
    page.locator(f".deck [data-id={ids[1]}] .down").click()
    moved = [ids[0], ids[2], ids[1], *ids[3:]]
    shown = page.locator(".deck .slide")
    assert shown.evaluate_all("all => all.map(one => one.dataset.id)") == moved and "slides=" in page.url
    page.goto("/present")  # the browser remembers
    expect(shown.nth(1)).to_have_attribute("data-id", ids[2])
    page.get_by_role("button", name="Back to the usual slides").click()
    assert shown.evaluate_all("all => all.map(one => one.dataset.id)") == ids and "slides=" not in page.url


def test_the_deck_as_a_file_opens_offline_and_prints_a_page_a_slide(page, chromium, tmp_path):
    held = []
    page.route(re.compile("PlotlyChart"), lambda route: held.append(route))
    page.goto("/embedding")
    page.get_by_role("button", name="To deck").click()  # before its chart is drawn
    assert held
    for route in held:
        route.continue_()
    page.unroute_all()
    expect(page.get_by_role("button", name="In the deck ✓")).to_be_visible()
    all_ids(page)
    usual = page.locator(".deck .slide:not(.out)").count()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the chosen slides").click()
    assert download.value.suggested_filename == "imagenet-96-seed0-deck.html"
    path = tmp_path / "deck.html"
    download.value.save_as(path)
    context = chromium.new_context(offline=True, viewport={"width": 1280, "height": 720})
    asked, errors = [], []
    context.on("request", lambda request: asked.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    deck = context.new_page()
    deck.on("pageerror", lambda error: errors.append(str(error)))
    deck.goto(path.as_uri())
    expect(deck.locator(".deck[data-mode=show]")).to_be_visible()
    assert count(deck) == (1, usual)
    deck.keyboard.press("End")
    assert count(deck)[0] == usual
    expect(deck.locator(".deck .now .gl-canvas-focus")).to_be_attached()  # the chart of points, drawn by compiled code
    expect(deck.get_by_text("WebGL is not supported")).to_have_count(0)
    deck.keyboard.press("Escape")
    expect(deck.locator(".deck .slide")).to_have_count(usual)
    pdf = deck.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == usual
    sizes = {tuple(map(float, box.split()[2:])) for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", pdf)}
    assert sizes == {(1440, 810)}  # points: 16 to 9
    context.close()
    assert asked == errors == []


def test_a_theme_that_is_switched_in_the_show_leaves_the_slides_whole(page):
    """The switch mounts the script anew with the same slides, whose boxes are then empty."""
    page.goto("/present?step=3")
    expect(page.locator(".deck .now .main-svg").first).to_be_visible()
    title = page.locator(".deck .now h2")
    before = title.evaluate("title => [title.textContent, getComputedStyle(title).fontSize]")
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".deck")).to_have_css("background-color", "rgb(18, 23, 26)")
    expect(page.locator(".deck .now .main-svg").first).to_be_visible()
    settle(page)
    expect(page.locator(".deck .now .main-svg").first).to_be_visible()
    assert title.evaluate("title => [title.textContent, getComputedStyle(title).fontSize]") == before


@pytest.mark.parametrize("foreign", ["{", "5", '{"added": 3, "chosen": "all"}'])
def test_what_another_program_left_in_the_browser_is_no_deck(page, foreign):
    page.goto("/present")
    usual = all_ids(page)
    page.evaluate("text => localStorage.setItem('deck', text)", foreign)
    page.goto("/present")
    assert all_ids(page) == usual
    page.locator(".deck .slide .down").first.click()
    assert page.evaluate("JSON.parse(localStorage.deck).chosen")[:2] == [usual[1], usual[0]]


def test_a_slide_that_another_tab_deleted_stays_deleted(page):
    page.goto("/calibration")
    page.get_by_role("button", name="To deck").first.click()
    expect(page.get_by_role("button", name="In the deck ✓")).to_be_visible()
    page.goto("/present")
    expect(page.locator(".deck .forget")).to_have_count(1)
    with page.context.expect_page() as other:
        page.evaluate("window.open('/present')")
    other.value.locator(".deck .forget").click()
    page.locator(".deck .slide .down").first.click()
    assert page.evaluate("JSON.parse(localStorage.deck).added") == []


def test_a_round_of_the_quiz_by_keyboard_scores_the_class_the_models_and_people(page, shown_results):
    predictions = summaries.per_image(results.load_run(shown_results / "imagenet-96-seed0"))
    page.goto("/quiz?difficulty=hard")
    picture = page.locator(".quiz img")
    expect(picture).to_have_attribute("alt", re.compile("test image"))
    asked, own = [], 0
    for i in range(10):
        asked.append(int(re.search(r"test image (\d+)", picture.get_attribute("alt"))[1]))
        label = int(predictions["label"][asked[-1]])
        guess = label if i % 2 else (label + 1) % 10
        own += guess == label
        page.keyboard.press(str((guess + 1) % 10))
        expect(page.locator(".quiz .verdict")).to_have_text(
            f"Answer: {CLASSES[label]}. The class said {CLASSES[guess]}: {'✓' if guess == label else '✗'}"
        )
        page.keyboard.press("Space")
    expect(page.locator(".quiz h3")).to_have_text("Who was correct how often?")
    scores = dict(row.inner_text().split("\t")[:2] for row in page.locator(".quiz tr").all())
    assert scores["The class"] == f"{own} of 10" and own == 5
    for model, shown in (("resnet18", "ResNet18"), ("mobilenet_v2", "MobileNetV2"), ("fusion", "Fusion")):
        assert scores[shown] == f"{predictions.loc[asked, f'{model}_correct'].sum()} of 10"
    assert not predictions.loc[asked, [f"{model}_correct" for model in ("resnet18", "mobilenet_v2", "fusion")]].all(axis=1).any()
    fusion = page.locator(".quiz tr").filter(has_text="Fusion")
    expect(fusion).to_contain_text(f"{predictions['fusion_correct'].mean():.2%}".replace("%", " %"))
    expect(page.locator(".quiz .talk")).to_contain_text(
        "picked: each of them at least one model predicts wrongly. So a score is no accuracy"
    )
    page.keyboard.press("r")
    expect(page.locator(".quiz h3")).to_have_text("What is it?")
    assert int(re.search(r"test image (\d+)", picture.get_attribute("alt"))[1]) not in asked


def test_the_class_votes_on_a_models_prediction(page, shown_results):
    predictions = summaries.per_image(results.load_run(shown_results / "imagenet-96-seed0"))
    page.goto("/quiz?ask=model&model=resnet18")
    picture = page.locator(".quiz img")
    expect(picture).to_have_attribute("alt", re.compile("test image"))
    row = predictions.loc[int(re.search(r"test image (\d+)", picture.get_attribute("alt"))[1])]
    expect(page.locator(".quiz h3")).to_have_text(f"ResNet18 predicts {CLASSES[row['resnet18_predicted']]}. Is it correct?")
    page.keyboard.press("y")
    expect(page.locator(".quiz .verdict")).to_have_text(
        f"Answer: {CLASSES[row['label']]}. The class said yes: {'✓' if row['resnet18_correct'] else '✗'}"
    )
    menu = page.get_by_test_id("stMain").get_by_role("radio", name="ResNet18")
    menu.focus()
    page.keyboard.press("ArrowRight")  # the menu's own
    expect(page.locator(".quiz .verdict")).to_be_visible()
    expect(page.get_by_test_id("stMain").get_by_role("radio", name="MobileNetV2")).to_be_focused()


def open_charts(page: Page, view: str) -> None:
    page.goto(f"/{view}")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    settle(page)  # else the first button may be another chart's
    expect(page.get_by_role("button", name="SVG").first).to_be_visible()


def test_a_chart_downloads_as_16_to_9_with_title_caption_and_run(page):
    open_charts(page, "training")
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").first.click()
    assert download.value.suggested_filename == "imagenet-96-seed0-does-the-loss-keep-falling-on-images-not-trained-on.png"
    with Image.open(download.value.path()) as image:
        width, height = image.size
    assert width >= 1600 and width * 9 == height * 16
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").first.click()
    svg = download.value.path().read_text(encoding="utf-8")
    words = re.sub(r"<[^>]+>", " ", svg)
    assert "Does the loss keep falling" in words and "images are augmented" in words and "imagenet-96-seed0" in words
    assert re.search(r'width="960" height="540"', svg)


def crossing_words(page: Page, charts: str) -> list[list[str]]:
    """Which words of the charts there meet others of the same chart."""
    pairs = """charts => charts.flatMap((chart) => {
      const words = [...chart.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()])
      const across = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
      const meet = (a, b) => across(a, b) && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1
      return words.flatMap(([text, box], i) => words.slice(i + 1).filter(([, other]) => meet(box, other)).map(([other]) => [text, other]))
    })"""
    return page.locator(charts).evaluate_all(pairs)


def test_the_marks_of_epochs_meet_no_other_words_in_a_picture_nor_on_a_slide(page):
    """Two stand above the plot, where a picture has its caption: they need room on every way out of the page."""
    open_charts(page, "training")
    with page.expect_download() as download:
        page.get_by_role("button", name="SVG").first.click()
    page.get_by_role("button", name="To deck").first.click()
    expect(page.get_by_role("button", name="In the deck ✓")).to_be_visible()
    slides = len(all_ids(page))
    open_show(page, f"present?step={slides}")
    expect(page.locator(".deck .now .main-svg").first).to_be_visible()
    assert "64 ◂ ▸ 96 px" in page.locator(".deck .now .chart").inner_text()
    assert crossing_words(page, ".deck .now .chart .js-plotly-plot") == []
    page.set_content(download.value.path().read_text(encoding="utf-8"))
    assert page.get_by_text("64 ◂ ▸ 96 px").count() == 1
    assert crossing_words(page, "body > svg") == []


def test_long_titles_of_axes_are_broken_on_a_slide(page):
    """Beside the words of a slide an axis is shorter than on its page."""
    open_charts(page, "training")
    page.get_by_role("button", name="To deck").nth(4).click()
    expect(page.get_by_role("button", name="In the deck ✓")).to_be_visible()
    slides = len(all_ids(page))
    open_show(page, f"present?step={slides}")
    chart, title = (page.locator(f".deck .now .chart {part}").bounding_box() for part in (".main-svg >> nth=0", ".ytitle"))
    assert title["y"] >= chart["y"] and title["y"] + title["height"] <= chart["y"] + chart["height"]
    assert page.locator(".deck .now .chart .ytitle tspan").count() > 1


def test_a_chart_whose_key_holds_a_dash_downloads_too(page):
    """Streamlit writes other characters than letters and digits otherwise into a page than into a key."""
    open_charts(page, "errors?show=curves+of+a+class")
    for button in page.get_by_role("button", name="SVG").all():
        with page.expect_download() as download:
            button.click()
        assert "<svg" in download.value.path().read_text(encoding="utf-8")


def test_charts_and_images_of_other_pages_join_the_deck_and_can_be_taken_out(page, shown_results):
    open_charts(page, "confusion")
    page.get_by_role("button", name="To deck").first.click()
    expect(page.get_by_role("button", name="In the deck ✓")).to_be_visible()
    page.goto("/errors?true=cat")
    page.get_by_role("button", name="Add to deck").click()
    expect(page.get_by_role("button", name="In the deck ✓")).to_be_visible()
    airplane = int(results.load_test_images(shown_results).labels.tolist().index(0))
    page.goto(f"/errors?image={airplane}")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Add to deck").click()
    expect(dialog.get_by_role("button", name="In the deck ✓")).to_be_visible()
    all_ids(page)
    added = page.locator(".deck .slide:has(.forget)")
    expect(added).to_have_count(3)
    added.locator(".open").nth(2).click()
    expect(page.locator(".deck .now h2")).to_contain_text(f"Test image {airplane}: an airplane?")
    expect(page.locator(".deck .now")).to_contain_text("MobileNetV2: ")
    assert page.evaluate(MEASURE)["hanging"] == []
    page.keyboard.press("Escape")
    added.locator(".forget").last.click()
    added.locator(".open").last.click()
    expect(page.locator(".deck .now h2")).to_contain_text("cat")
    assert page.locator(".deck .now .cards img").evaluate_all("images => images.every(image => image.naturalWidth === 32)")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".deck .now h2")).to_contain_text("Fusion take for what")
    expect(page.locator(".deck .now .main-svg").first).to_be_visible()
    assert page.evaluate(MEASURE)["hanging"] == []
    page.emulate_media(color_scheme="dark")
    page.reload()  # its marks are in a light page's colours, and so is its ground
    expect(page.locator(".deck .now .main-svg").first).to_have_css("background-color", "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="light")
    page.reload()
    expect(page.locator(".deck .now .main-svg").first).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".deck .forget").first.click()
    expect(added).to_have_count(1)
    page.reload()
    expect(added).to_have_count(1)
    page.locator(".deck .slide .down").first.click()  # an order of one's own is kept
    with page.context.expect_page() as other:
        page.evaluate("window.open('/errors?image=18')")
    dialog = other.value.get_by_role("dialog")
    dialog.get_by_role("button", name="Add to deck").click()
    expect(dialog.get_by_role("button", name="In the deck ✓")).to_be_visible()
    page.locator(".deck .slide .down").nth(2).click()  # here nobody has heard of it yet
    page.goto("/present")
    expect(added).to_have_count(2)
    expect(added.last.locator("input")).to_be_checked()


def test_a_word_of_statistics_is_explained_under_the_pointer(page):
    open_charts(page, "calibration")
    page.wait_for_function("CSS.highlights.get('glossary')?.size > 1")
    place = page.evaluate("""() => {
      const text = (one) => one.startContainer.data.slice(one.startOffset, one.endOffset)
      const marked = [...CSS.highlights.get('glossary')].find((one) => text(one) === 'AURC')
      const range = document.createRange()
      range.setStart(marked.startContainer, marked.startOffset)
      range.setEnd(marked.endContainer, marked.endOffset)
      marked.startContainer.parentElement.scrollIntoView({ block: 'center' })
      const box = range.getBoundingClientRect()
      return [box.left + box.width / 2, box.top + box.height / 2]
    }""")
    page.mouse.move(*place)
    expect(page.locator(".glossary-tip.shown")).to_have_text(f"AURC: {explain('AURC')}")
    page.mouse.move(5, 5)
    expect(page.locator(".glossary-tip.shown")).to_have_count(0)
