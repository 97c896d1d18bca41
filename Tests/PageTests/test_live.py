"""What happens shows on an open page without a reload."""

import time

import pytest

from browser import Browser, View
from conftest import SignIn
from events import Call
from world import PREFIX, Town, User, eventually

# The pause between two answers grows with the time that one takes.
SECONDS = 20


def call(user: User, model: str) -> Call:
    """A call that has just ended."""
    return Call(user.key, user.id, time.time() - 1, model=model, cost="0.125", seconds=0.5)


@pytest.mark.parametrize(
    ("path", "is_operators"),
    [("/overview", False), ("/logs", False), ("/operator", True), ("/operator/logs", True)],
)
def test_a_new_log_shows(path: str, is_operators: bool, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.operator if is_operators else town.customer)
    browser.open(PREFIX + path, View())
    browser.driver.execute_script("window.isSame = true")
    before = browser.find("main").text
    model = f"live-{time.time_ns()}"
    town.world.store([call(town.customer, model)])
    if not path.endswith("logs"):
        eventually("a figure changes", lambda: browser.find("main").text != before, within=SECONDS)
    else:
        eventually("the log is there", lambda: model in browser.find("main").text, within=SECONDS)
    assert browser.driver.execute_script("return window.isSame"), "the page was loaded again"
    assert [*browser.traffic().faults(), *browser.violations()] == []


def test_a_customer_gets_no_news_of_others(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/logs", View())
    other, own = f"other-{time.time_ns()}", f"own-{time.time_ns()}"
    town.world.store([call(town.others[0], other)])
    town.world.store([call(town.customer, own)])
    eventually("the own log is there", lambda: own in browser.find("main").text, within=SECONDS)
    assert other not in browser.driver.page_source
