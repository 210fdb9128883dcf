"""The page in a real Chromium: labelling by keyboard, reloads, two tabs, undo, overruling, hostile texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from reward.review.room import Room
from reward.store import LabelStore
from tests.reward.review.browsing import WITHIN_MS, chromium, press, ready
from tests.reward.review.conftest import HOSTILE, JUDGE
from tests.reward.review.serving import served

INTRUSION = """(hostile) => {
    document.body.insertAdjacentHTML('beforeend', hostile + '<img src="http://192.0.2.1/leak.png">');
    const script = document.createElement('script');
    script.textContent = 'window.pwned = 3';
    document.body.append(script);
}"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = chromium(playwright)
        yield opened
        opened.close()


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Callable[[str], Page]]:
    """Opens tabs of one browser profile; whatever a page complains about fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WITHIN_MS)
    complaints: list[str] = []

    def open_tab(address: str) -> Page:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(address)
        ready(page)
        return page

    yield open_tab
    context.close()
    # So the browser calls a late answer that is refused, and a server that is away.
    assert not [text for text in complaints if not text.startswith("Failed to load resource")]


def answered(store: LabelStore) -> list[str]:
    return [outcome for (outcome,) in store.rows("SELECT outcome FROM answers WHERE judge LIKE 'human:%'")]


def in_sight(page: Page) -> int:
    return int(page.evaluate("window.armchair.item.place.position"))


def test_twenty_pairs_are_labelled_by_keyboard_and_a_reload_loses_nothing(
    make: Callable[..., Room], store: LabelStore, tabs: Callable[[str], Page]
) -> None:
    keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "Space"] * 5
    with served(make(pairs=20)) as address:
        page = tabs(address)
        expect(page.locator("#goal")).to_have_text(
            "The goal is to open the drawer. Which picture shows it achieved better?"
        )
        for k, key in enumerate(keys):
            expect(page.locator("#count")).to_have_text(f"{k} / 20")
            assert page.locator("#pictures img").count() == 2
            if k == 9:
                before = in_sight(page)
                page.reload()
                ready(page)
                assert in_sight(page) == before
                expect(page.locator("#count")).to_have_text("9 / 20")
            press(page, key)
        expect(page.locator("#empty b")).to_have_text("All answered")
        page.reload()
        ready(page)
        expect(page.locator("#empty b")).to_have_text("All answered")
    asked = [
        store.rows("SELECT outcome FROM answers WHERE key=?", (pair.key,))[0][0]
        for pair in store.drawn("human")
    ]
    names = {"ArrowLeft": "first", "ArrowRight": "second", "ArrowUp": "tie", "Space": "unsure"}
    assert len(asked) == 20
    by_content = dict(zip((pair.key for pair in store.drawn("human")), (names[k] for k in keys), strict=True))
    assert asked == [by_content[pair.key] for pair in store.drawn("human")]


def test_two_tabs_at_once_share_the_work_without_double_answers(
    make: Callable[..., Room], store: LabelStore, tabs: Callable[[str], Page]
) -> None:
    with served(make(pairs=10)) as address:
        one, two = tabs(address), tabs(address)
        seen: list[int] = []
        while one.locator("#stage").is_visible() or two.locator("#stage").is_visible():
            for page in (one, two):
                if page.locator("#stage").is_visible():
                    seen.append(in_sight(page))
                    press(page, "ArrowLeft")
        assert sorted(seen) == list(range(10)), "each was in sight once"
    assert store.rows("SELECT COUNT(*), COUNT(DISTINCT position) FROM acts") == [(10, 10)]
    assert store.rows("SELECT COUNT(DISTINCT tab) FROM acts") == [(2,)]


def test_an_answer_that_comes_too_late_is_told_and_undo_brings_a_pair_back(
    make: Callable[..., Room], store: LabelStore, tabs: Callable[[str], Page]
) -> None:
    with served(make(pairs=4)) as address:
        page = tabs(address)
        first = in_sight(page)
        with store.transaction() as db:
            # Somebody merged in an answer to the pair in sight.
            db.execute(
                "UPDATE ballots SET key='theirs' WHERE position=? AND labels='human'", (in_sight(page),)
            )
            db.execute(
                "INSERT INTO answers (key, first_sha256, second_sha256, judge, prompt_version, settings, "
                "state, outcome, text, calls, cost_usd) VALUES ('theirs', 'a', 'b', 'human:ben', 'p', '{}', "
                "'answered', 'tie', '', 0, 0)"
            )
        press(page, "ArrowLeft")
        expect(page.locator("#note")).to_have_text(
            "this was answered by ben in the meantime; that answer stays."
        )
        expect(page.locator("#count")).to_have_text("1 / 4 · 0 by you")
        second = in_sight(page)
        assert second != first
        press(page, "ArrowLeft")
        page.reload()
        ready(page)
        press(page, "Backspace")
        assert in_sight(page) == second, "undo reaches over a reload"
        expect(page.locator("#count")).to_have_text("1 / 4 · 0 by you")
        press(page, "ArrowRight")
        assert answered(store).count("second") == 1
        page.locator("#person").fill("cleo")
        page.keyboard.press("Enter")
        ready(page)
        press(page, "ArrowUp")
        assert ("human:cleo",) in store.rows("SELECT judge FROM answers")


def test_an_answer_given_while_the_server_is_away_arrives_after_a_reload(
    make: Callable[..., Room], store: LabelStore, tabs: Callable[[str], Page]
) -> None:
    with served(make(pairs=4)) as address:
        page = tabs(address)
        page.route("**/api/answer", lambda route: route.abort())
        page.keyboard.press("ArrowRight")
        expect(page.locator("#note")).to_have_text("the server cannot be reached; trying again …")
        assert answered(store) == []
        page.unroute("**/api/answer")
        page.reload()
        ready(page)
        expect(page.locator("#count")).to_have_text("1 / 4")
    assert answered(store) == ["second"]


def test_a_judges_answers_are_looked_through_and_overruled_and_their_text_never_runs(
    make: Callable[..., Room],
    judged_set: Callable[..., str],
    store: LabelStore,
    tabs: Callable[[str], Page],
) -> None:
    judged_set(12)
    with served(make()) as address:
        page = tabs(address)
        expect(page.locator("nav [aria-current]")).to_have_text("Judge")
        expect(page.locator("[data-filter=unsure]")).to_have_text("unsure 2")
        page.locator("[data-filter=malformed]").click()
        ready(page)
        expect(page.locator("#count")).to_have_text("1 / 2")
        expect(page.locator("#said p").first).to_contain_text(HOSTILE)
        press(page, "ArrowRight")
        expect(page.locator("#said article.person h3")).to_have_text("anna: right")
        expect(page.locator("#said article.bad h3")).to_contain_text(f"{JUDGE}: could not be read")
        expect(page.locator("figure.person")).to_have_attribute("data-side", "second")
        expect(page.locator("[data-filter=overruled]")).to_have_text("overruled 1")
        press(page, "j")
        expect(page.locator("#count")).to_have_text("2 / 2")
        press(page, "Space")
        expect(page.locator("[data-filter=overruled]")).to_have_text("overruled 2")
        press(page, "u")
        expect(page.locator("[data-filter=overruled]")).to_have_text("overruled 1")
        page.locator("[data-view=figures]").click()
        ready(page)
        expect(page.locator("#figures")).to_contain_text("Cost so far: 3.00 USD, 24 calls")
        expect(page.locator("#figures")).to_contain_text("1 overruled")
        assert page.evaluate("window.pwned") is None
        assert page.locator("main script, main img[src=x]").count() == 0
    assert store.rows("SELECT COUNT(*) FROM overrulings") == [(1,)]


def test_the_policy_of_the_page_stops_a_script_that_got_in(
    make: Callable[..., Room], browser: Browser
) -> None:
    page = browser.new_page()
    with served(make()) as address:
        page.goto(address)
        ready(page)
        page.evaluate(INTRUSION, HOSTILE)
        page.wait_for_function("() => [...document.images].every((image) => image.complete)")
        assert page.evaluate("window.pwned") is None
        page.close()
