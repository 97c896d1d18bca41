"""Names, models, tags and errors that look like markup are text on every page, and change nothing around them."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

import hostile
from browser import Browser, View
from conftest import SignIn
from world import PREFIX, Town

# What of a hostile text must be read on a page. Controls of direction have a visible sign instead.
SHOWN = {hostile.REVERSED: "gnp.exe"}


# Pages of all users, which show each of the texts.
OF_ALL_USERS = (
    "/operator",
    "/operator/users?search=hostile",
    f"/operator/logs?model={quote(hostile.WORD)}",
    "/operator/plans",
    "/operator/requests",
    "/operator/quarantine",
    "/operator/audit?subject=user_limits",
)

# What somebody writes into an address: `{}` is hostile.
ADDRESSES = (
    *("/sign-in?next={}", "/nothing/{}", "/logs/{}", "/overview?done={}", "/overview?language={}"),
    *("/logs?model={}", "/logs?from={}", "/logs?sort={}", "/logs?cursor={}"),
    *("/operator/logs?user_id={}", "/operator/users?search={}", "/operator/users?sort={}", "/operator/users/{}"),
    *("/operator/plans?model={}", "/operator/plans?done={}", "/operator/requests?cursor={}"),
    *("/operator/quarantine?reason={}", "/operator/quarantine/{}", "/operator/audit?subject_id={}"),
)


def require_text(browser: Browser, *expected: str) -> None:
    """The page shows each text, obeys none of it, and has no fault of layout."""
    texts = browser.texts()
    assert not any(control in text for text in texts for control in "\u202e\u2067"), "a text changes the direction"
    # In JSON a text has signs before its quotation marks.
    texts += [text.replace("\\", "") for text in texts if "\\" in text]
    for text in expected:
        shown = SHOWN.get(text, text)
        assert any(shown in seen for seen in texts), f"{browser.path} does not show {shown}"
    require_no_attack(browser)


def require_no_attack(browser: Browser) -> None:
    """No text has become an element, or a script that ran."""
    assert browser.driver.execute_script("return window.attacked") is None
    assert not browser.find_all("main script, main img[src=x], main [onerror], main [onfocus]")
    assert not browser.find_all("a[href^='javascript:']")
    assert [*browser.violations(), *browser.layout_faults()] == []


def addresses(town: Town, number: int) -> Iterator[tuple[bool, str]]:
    """Where a text of `hostile.ALL` stands: whether for the operator, and the path."""
    user = town.hostile[number]
    text = hostile.ALL[number]
    logs = town.world.rows("SELECT id FROM api_logs WHERE user_id = %s AND model = %s", user.id, text)
    assert len(logs) == 2
    entry = "SELECT id FROM metering.quarantine WHERE reason <> 'implausible_cost' AND event->>'model' = %s"
    model = "SELECT id FROM models WHERE model_id = %s"
    yield True, f"/operator/users?search={user.email}"
    yield True, f"/operator/users/{user.id}"
    yield True, f"/operator/quarantine/{town.world.rows(entry, text)[0][0]}"
    yield True, f"/operator/plans?model={town.world.value(model, text)}"
    for [log] in logs:
        yield True, f"/operator/logs/{log}"
        yield False, f"/logs/{log}"
    for path in ("/overview", "/logs", "/key"):
        yield False, path


@pytest.mark.parametrize("text", hostile.ALL, ids=lambda text: repr(text)[:24])
def test_a_hostile_text_is_text(text: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    number = hostile.ALL.index(text)
    browser.look(View(width=320))
    for is_operators, path in addresses(town, number):
        sign_in(browser, town.operator if is_operators else town.hostile[number])
        visit = browser.open(PREFIX + path)
        assert list(visit.faults()) == [], path
        require_text(browser, text)


@pytest.mark.parametrize("path", OF_ALL_USERS)
def test_hostile_texts_of_all_users_are_text(path: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    browser.look(View(width=320))
    sign_in(browser, town.operator)
    assert list(browser.open(PREFIX + path).faults()) == []
    require_text(browser, *hostile.ALL)


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_hostile_address_is_text(path: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    browser.look(View(width=320))
    sign_in(browser, town.operator)
    texts = hostile.SCRIPT + hostile.IMAGE + hostile.ATTRIBUTE + hostile.TEMPLATE + hostile.REVERSED
    visit = browser.open(PREFIX + path.format(quote(texts, safe="")))
    assert list(visit.faults(expected=visit.status)) == []
    assert visit.status in (200, 400, 404, 422)
    require_no_attack(browser)
