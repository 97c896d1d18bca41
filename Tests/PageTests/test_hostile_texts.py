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


AMONG_OTHERS = [
    ("/operator/requests", hostile.IMAGE),
    (f"/operator/logs?model={quote(hostile.WORD)}", hostile.WORD),
]


def require_text(browser: Browser, expected: str) -> None:
    """The page shows the text, obeys none of it, and has no fault of layout."""
    assert browser.driver.execute_script("return window.attacked") is None
    texts = browser.texts()
    assert not any(control in text for text in texts for control in "\u202e\u2067"), "a text changes the direction"
    shown = SHOWN.get(expected, expected)
    assert any(shown in text for text in texts), f"{browser.path} does not show {shown}"
    assert not browser.find_all("main script, main img[src=x], main [onerror], main [onfocus]")
    assert not browser.find_all("a[href^='javascript:']")
    assert [*browser.violations(), *browser.layout_faults()] == []


def addresses(town: Town, number: int) -> Iterator[tuple[bool, str]]:
    """Where a text of `hostile.ALL` stands: whether for the operator, and the path."""
    user = town.hostile[number]
    text = hostile.ALL[number]
    logs = town.world.rows("SELECT id FROM api_logs WHERE user_id = %s AND model = %s", user.id, text)
    assert len(logs) == 2
    yield True, f"/operator/users?search={user.email}"
    yield True, f"/operator/users/{user.id}"
    for [log] in logs:
        yield True, f"/operator/logs/{log}"
        yield False, f"/logs/{log}"
    for path in ("/overview", "/logs"):
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


@pytest.mark.parametrize(
    ("path", "text"),
    AMONG_OTHERS,
)
def test_a_hostile_text_among_those_of_all_users_is_text(
    path: str, text: str, town: Town, browser: Browser, sign_in: SignIn
) -> None:
    browser.look(View(width=320))
    sign_in(browser, town.operator)
    assert list(browser.open(PREFIX + path).faults()) == []
    require_text(browser, text)


def test_a_hostile_query_is_text(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.operator)
    for path in ("/operator/users?search=", "/operator/logs?model=", "/logs?model=", "/sign-in?next="):
        for text in (hostile.SCRIPT, hostile.IMAGE, hostile.TEMPLATE):
            browser.open(PREFIX + path + quote(text))
            assert browser.driver.execute_script("return window.attacked") is None
            assert not browser.find_all("main script, main img[src=x]")
