"""Addresses: one spelling, old ones understood, and every link that a page offers shows what it says in a fresh session."""

import subprocess
import sys
from unittest.mock import MagicMock
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from core.config import ROOT
from dashboard import address
from tests.dashboard.conftest import VIEWS, component, open_page


def links(app: AppTest) -> dict[str, tuple[str, dict[str, list[str]]]]:
    """What a page's own links lead to: label -> view, parameters."""
    found = (element.proto for element in app.main.get("page_link"))
    return {link.label: (link.page, parse_qs(link.query_string)) for link in found}


def images(app: AppTest) -> list[int]:
    return [item["index"] for item in component(app, "image_gallery")["items"]]


@pytest.mark.parametrize("model", ["resnet18", "ResNet18"])
@pytest.mark.parametrize("keys", [("true", "predicted"), ("true_class", "predicted_class")])
def test_labels_and_former_keys_are_understood_and_written_as_folders(model, keys, visit):
    app = visit("confusion", model=model, **dict(zip(keys, ("cat", "dog"), strict=True)))
    assert any("that ResNet18 calls **dog**" in block.value for block in app.markdown)
    assert {key: app.query_params[key] for key in ("model", "true", "predicted")} == {
        "model": "resnet18",
        "true": "cat",
        "predicted": "dog",
    }
    assert "true_class" not in app.query_params


def test_all_of_them_are_the_same_images_in_a_fresh_session(visit):
    here = visit("confusion", model="mobilenet_v2", true="cat", predicted="dog", run="imagenet-96-seed1")
    view, query = links(here)["All of them, with every filter"]
    assert view == "errors" and query["run"] == ["imagenet-96-seed1"] and query["model"] == ["mobilenet_v2"]
    assert images(open_page(view, **query, per_page="200")) == images(here) != []


def test_the_way_back_restores_what_was_seen(visit):
    view, query = links(visit("confusion", model="resnet18", true="cat", predicted="dog"))["All of them, with every filter"]
    there = open_page(view, **query)
    view, query = links(there)["← Back to Confusion"]
    again = open_page(view, **query)
    assert view == "confusion" and any("that ResNet18 calls **dog**" in block.value for block in again.markdown)


def test_the_way_back_knows_a_choice_set_back_to_its_default(visit):
    app = visit("rescued", reference="resnet18", flow="broken", true_class="cat")
    assert "flow=broken" in links(app)["The same images, with every filter"][1]["from"][0]
    app.selectbox(key="flow").set_value("rescued").run()
    app.multiselect(key="true").set_value([]).run()
    way = parse_qs(links(app)["The same images, with every filter"][1]["from"][0].partition("?")[2])
    assert way == {"reference": ["resnet18"]}


def test_the_way_back_knows_what_is_chosen_further_down(visit):
    app = visit("rescued", reference="resnet18", per_page="50")
    app.number_input(key="page").set_value(2).run()
    assert "page=2" in links(app)["The same images, with every filter"][1]["from"][0]
    app = visit("evidence")
    app.segmented_control(key="against").set_value("mobilenet_v2").run()
    assert all("against=mobilenet_v2" in links(app)[label][1]["from"][0] for label in ("Robustness", "Calibration"))


@pytest.mark.parametrize("view", VIEWS)
def test_every_link_takes_the_run_along(view, visit):
    """In the sidebar, and on the page."""
    app = visit(view, run="imagenet-96-seed1")
    for link in [element.proto for element in app.get("page_link")]:
        assert parse_qs(link.query_string)["run"] == ["imagenet-96-seed1"], link.label
        assert link.page != view or link in [element.proto for element in app.sidebar.get("page_link")], (
            f"{link.label} leads to its own page"
        )


def test_a_run_that_is_not_here_is_not_replaced_without_a_word(visit):
    said = [warning.value for warning in visit("overview", run="renamed <b>").sidebar.warning]
    assert said == ["The run that the address names is not here: this is another."]
    assert not visit("overview", run="imagenet-96-seed1").sidebar.warning


@pytest.mark.parametrize("way", ["//evil.example", "errors/../../x?run=1", "nothing?x=1", "errors"])
def test_a_way_back_that_names_no_page_is_not_offered(way, visit):
    app = visit("confusion", **{"from": way})
    assert all(view in VIEWS for view, _ in links(app).values())


def test_protection_holds_from_any_folder(tmp_path):
    """Without its settings a server would listen to all addresses, collect statistics and show its errors."""
    code = (
        "import sys; from streamlit import config; config._main_script_path = sys.argv[1]; config.get_config_options(force_reparse=True)\n"
        "names = ('server.address', 'server.enableXsrfProtection', 'server.maxUploadSize', 'browser.gatherUsageStats',"
        " 'client.showErrorDetails')\n"
        "print([config.get_option(name) for name in names])"
    )
    home = str(ROOT / "dashboard" / "Home.py")
    done = subprocess.run([sys.executable, "-c", code, home], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['localhost', True, 5, False, 'none']"


def test_a_slow_browsers_former_address_does_not_undo_a_choice_until_it_has_sent_the_new_one(monkeypatch):
    old, new, clock = {"true": ["cat"]}, {"true": ["dog"]}, [100.0]
    kept = address.Memory(page="errors", query=new, replaced={"true=cat": 100.0}, followed=False)
    monkeypatch.setattr(address, "memory", lambda: kept)
    monkeypatch.setattr(address.time, "monotonic", lambda: clock[0])
    followed = []
    for seconds, sent in ((20, old), (1, new), (1, old)):  # still on its way; arrived; a link back to the former one
        clock[0] += seconds
        monkeypatch.setattr(address, "read_address", lambda sent=sent: sent)
        address.start("errors")
        followed.append(kept.followed)
        kept.query = new
    assert followed == [False, False, True]


def test_the_way_back_opens_an_image_only_for_a_link_that_is_about_it(visit):
    """It may be closed by then, which the page's other links do not hear of."""
    way = links(visit("confusion", model="resnet18", true="cat", predicted="dog", image="17"))
    assert "image=17" in way["Why? See its attributions"][1]["from"][0]
    others = [query["from"][0] for label, (_, query) in way.items() if "from" in query and not label.startswith("Why?")]
    assert others and all("true=cat" in one and "image=" not in one for one in others)


def test_the_sidebars_link_to_the_open_page_resets_it_at_once(visit):
    app = visit("errors", run="imagenet-96-seed1")
    app.multiselect(key="true").set_value(["cat"]).run()
    assert app.query_params["true"] == "cat"
    (link,) = (one.proto for one in app.sidebar.get("page_link") if one.proto.label == "Errors")
    app.query_params.clear()
    for key, texts in parse_qs(link.query_string).items():  # a click; the browser's own address stays as it is
        app.query_params[key] = texts
    app.run()
    assert app.multiselect(key="true").value == [] and dict(app.query_params) == {"run": "imagenet-96-seed1"}  # which the browser is told
    app.query_params["true"] = "cat"  # a message that left before it heard
    app.multiselect(key="true").set_value(["dog"]).run()
    assert app.multiselect(key="true").value == ["dog"]


@pytest.mark.parametrize(
    ("click", "first", "second"),
    [
        ("elsewhere", "cat", "dog"),
        ("on the first", "dog", "dog"),
        ("that changes the second", "cat", "cat"),
        ("seen by the page", "cat", "cat"),
    ],
)
def test_a_link_is_followed_to_its_end_though_a_click_comes_while_the_page_is_drawn(state, monkeypatch, click, first, second):
    """The run gives way after the first of two menus; what the visitor clicked counts, and what the link said of the rest."""
    sent = {"a": ["cat"], "b": ["dog"]}
    monkeypatch.setattr(address, "read_address", lambda: dict(sent))
    params = MagicMock(get_all=lambda key: sent.get(key, []), from_dict=sent.update, __contains__=lambda _, key: key in sent)
    monkeypatch.setattr(address.st, "query_params", params)

    def draw(key: str) -> object:
        return address.pick(lambda *_, key, **__: state[key], "", ["all", "cat", "dog"], key=key, default="all")

    state |= {"a": "all", "b": "all"}
    address.start("errors")
    assert draw("a") == "cat"
    if click == "on the first":
        state["a"] = "dog"
    elif click == "that changes the second":
        address.choose("b", "cat")
    address.start("errors")
    if click == "seen by the page":
        address.choose("b", "cat")
    assert [draw("a"), draw("b")] == [first, second]
    address.finish()
    state["b"] = "all"
    address.start("errors")
    assert draw("b") == "all"  # the link has been followed


def test_after_a_page_that_ended_in_an_error_the_widgets_count(state, monkeypatch):
    monkeypatch.setattr(address, "read_address", lambda: {"a": ["cat"]})
    address.start("errors")
    address.stop()
    state["a"] = "dog"
    address.start("errors")
    assert address.pick(lambda *_, key, **__: state[key], "", ["cat", "dog"], key="a", default="cat") == "dog"


@pytest.fixture
def state(monkeypatch) -> dict:
    """The session's state, of a visitor who followed no link; menus and sliders say what it holds."""
    kept, state = address.Memory(followed=False), {}
    monkeypatch.setattr(address, "memory", lambda: kept)
    monkeypatch.setattr(address.st, "session_state", state)
    for name in ("slider", "toggle"):
        monkeypatch.setattr(address.st, name, lambda *_, key, **__: state[key])
    return state


@pytest.mark.parametrize(("pick", "several"), [(address.pick, False), (address.pick_several, True)])
def test_a_choice_under_the_label_of_an_earlier_run_is_that_choice(pick, several, state):
    """The browser sends labels; one that the menu no longer has is handed on as it is."""
    start, wanted = (["all"], ["some"]) if several else ("all", "some")
    state["outcome"] = start

    def draw(count: int) -> object:
        names = f"{{}} {count}".format
        return pick(lambda *_, key, **__: state[key], "Outcome", ["all", "some"], key="outcome", default=start, names=names)

    assert draw(3) == draw(4) == start
    state["outcome"] = ["some 3"] if several else "some 3"
    assert draw(5) == draw(6) == wanted == state["outcome"]


@pytest.mark.parametrize("left", [None, "cat", ["cat"], 2.5, True, (0.0, 9.0)])
def test_what_another_page_left_under_a_key_is_no_choice(left, state):
    """A click that is still on its way when the next page begins draws a part of the former page with what the new one has."""
    widgets = {
        "some": lambda key: address.pick_several(lambda *_, **__: state[key], "", ["a"], key=key),
        "number": lambda key: address.pick_number("", 3, 9, key=key, default=4, widget=lambda *_, **__: state[key]),
        "range": lambda key: address.slide("", 0.0, 1.0, (0.0, 1.0), 0.1, key=key),
        "list": lambda key: address.keep(key, [], lambda texts: texts, lambda value: value, lambda value: set(value) <= {"a"}),
    }
    for key, draw in widgets.items():
        state[key] = left
        assert draw(key) == {"some": [], "number": 4, "range": (0.0, 1.0), "list": []}[key] == state[key]


def test_none_of_several_is_a_choice_that_a_link_brings(state, monkeypatch):
    def draw(key: str) -> object:
        chosen = address.pick_several(lambda *_, key, **__: state[key], "", ["a", "b"], key=key, default=["a"])
        address.write()
        return chosen

    state["methods"] = []
    assert draw("methods") == []
    assert address.st.query_params.get_all("methods") == ["none"]
    state["others"] = None
    address.st.query_params["others"] = "none"
    del state["others"]
    assert draw("others") == []


def test_where_the_address_stays_as_it_is_the_visitor_can_undo_what_was_chosen(state, monkeypatch):
    """Nothing tells then that the browser has heard."""
    monkeypatch.setattr(address, "read_address", dict)
    names = {"options": ["a", "b"], "key": "models", "default": ["a", "b"]}

    def draw() -> object:
        chosen = address.pick_several(lambda *_, key, **__: state[key], "", **names)
        address.write()
        return chosen

    state["models"] = ["a"]
    address.choose("models", ["a", "b"])  # all of another run, which is the default
    assert draw() == ["a", "b"]
    state["models"] = ["a"]
    assert address.latest("models") == ["a"]


def test_a_click_that_changes_a_menu_is_not_undone_by_what_the_browser_sent_before_it_heard(state, monkeypatch):
    sent: dict[str, list[str]] = {}
    monkeypatch.setattr(address, "read_address", lambda: sent)

    def draw() -> object:
        return address.pick(lambda *_, key, **__: state[key], "", ["all", "cat", "dog"], key="true", default="all")

    state["true"] = "all"
    assert draw() == "all"
    address.choose("true", "cat")  # a click on a cell; the answer, with true=cat in the address, is on its way
    assert draw() == "cat"
    state["true"] = "all"  # the next click reached the server with the menus as they were
    assert address.latest("true") == "cat" and draw() == "cat" == state["true"]
    sent["true"] = ["cat"]
    assert draw() == "cat"  # heard
    state["true"] = "all"
    assert draw() == "all"  # and so a choice
    sent.clear()
    assert draw() == "all"
