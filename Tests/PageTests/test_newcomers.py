"""Before the first call, a page shows how to make it; then the figures come by themselves."""

import time

import pytest

from browser import Browser, View
from conftest import SignIn
from events import Call
from test_live import SECONDS
from world import PREFIX, Town, eventually


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_newcomer_reads_how_to_call(language: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.newcomer)
    view = View(language=language, width=320)
    assert list(browser.open(f"{PREFIX}/overview", view).faults()) == []
    begin = town.newcomer.key[:7]
    for example in ("#curl-text", "#python-text"):
        text = browser.find(example).text
        assert "/v1" in text and begin in text and town.newcomer.key not in text
    assert browser.find(f"main a[href='{PREFIX}/key']").is_displayed()
    assert browser.find("#monthly-tokens").get_attribute("data-value") == "1000000"
    assert not browser.find_all("#month-cost, canvas")
    assert [*browser.violations(), *browser.layout_faults(), *browser.accessibility_faults()] == []
    assert list(browser.open(f"{PREFIX}/logs", view).faults()) == []
    assert browser.find(f"main a[href='{PREFIX}/key']").is_displayed()
    assert not browser.find_all("#calls-table")


def test_the_first_call_appears_on_the_open_page(town: Town, browser: Browser, sign_in: SignIn) -> None:
    user = town.world.make_user("First call", "first@example.com", "starter")
    town.world.wait_for_keys()
    sign_in(browser, user)
    browser.open(f"{PREFIX}/overview", View())
    town.world.store([Call(user.key, user.id, time.time() - 1, cost="1.25", seconds=0.5)])
    eventually("the figures are there", lambda: browser.find_all("#month-cost"), within=SECONDS)
    assert browser.find("#month-cost").get_attribute("data-value") == "1.25"
    assert not browser.find_all("#curl-text")
    assert [*browser.traffic().faults(), *browser.violations()] == []
