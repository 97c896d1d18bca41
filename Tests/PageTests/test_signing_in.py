"""Both ways to sign in, signing out, and who sees what."""

import pytest

from browser import Browser, View
from conftest import SignIn
from laravel import COOKIE
from world import PASSWORD, PREFIX, Town

TOKENS = "SELECT count(*) FROM personal_access_tokens WHERE tokenable_id = %s AND name = 'dashboard'"


def test_a_visitor_is_led_to_the_form_and_back(town: Town, browser: Browser) -> None:
    browser.open("/")
    assert browser.path.startswith(f"{PREFIX}/sign-in")
    browser.open(f"{PREFIX}/overview?a=b")
    assert browser.path.startswith(f"{PREFIX}/sign-in?next=")
    browser.sign_in(town.others[1].email, PASSWORD)
    assert browser.path == f"{PREFIX}/overview?a=b"


def test_the_form_signs_in_and_the_button_signs_out(town: Town, browser: Browser) -> None:
    user = town.others[2]
    before = town.world.value(TOKENS, user.id)
    browser.open(f"{PREFIX}/sign-in")
    browser.sign_in(user.email, PASSWORD)
    assert browser.path == f"{PREFIX}/overview"
    cookie = browser.cookie("codexflow_session")
    assert cookie is not None
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"], cookie["secure"]) == (True, "Strict", "/", False)
    assert town.world.value(TOKENS, user.id) == before + 1
    browser.follow(f"form[action='{PREFIX}/sign-out'] button")
    assert browser.path == f"{PREFIX}/sign-in"
    assert browser.cookie("codexflow_session") is None
    assert town.world.value(TOKENS, user.id) == before
    browser.set_cookie("codexflow_session", cookie["value"])
    browser.open(f"{PREFIX}/overview")
    assert browser.path.startswith(f"{PREFIX}/sign-in"), "the token is still good"


def test_the_session_of_laravel_signs_in_silently(town: Town, browser: Browser) -> None:
    for user, home in ((town.customer, "/overview"), (town.operator, "/operator")):
        browser.set_cookie(COOKIE, town.world.session(user).cookie())
        browser.open("/")
        assert browser.path == PREFIX + home
        assert user.name in browser.texts()
        assert not browser.find_all(f"form[action='{PREFIX}/sign-out']"), "only Laravel can end its session"


@pytest.mark.parametrize(
    ("name", "password", "problem"),
    [("customer", "wrong", "sign_in_wrong"), ("nobody", PASSWORD, "sign_in_wrong"),
     ("suspended", PASSWORD, "sign_in_suspended")],
)  # fmt: skip
def test_who_may_not_sign_in_reads_why(
    name: str, password: str, problem: str, town: Town, browser: Browser, words: dict[str, dict[str, str]]
) -> None:
    emails = {"customer": town.others[0].email, "nobody": "nobody@example.com", "suspended": town.suspended.email}
    for language in ("en", "tr"):
        browser.look(View(language=language))
        browser.open(f"{PREFIX}/sign-in")
        browser.sign_in(emails[name], password)
        assert words[problem][language] in browser.texts()
        assert browser.cookie("codexflow_session") is None
        assert browser.find("input[name=email]").get_attribute("value") == emails[name]
        assert not browser.find("input[name=password]").get_attribute("value")


def test_a_user_who_is_suspended_is_signed_out(town: Town, browser: Browser, sign_in: SignIn) -> None:
    user = town.world.make_user("Soon suspended", "soon@example.com")
    sign_in(browser, user)
    assert browser.open(f"{PREFIX}/overview").status == 200
    town.world.rows("UPDATE users SET status = 'suspended' WHERE id = %s", user.id)
    browser.open(f"{PREFIX}/overview")
    assert browser.path.startswith(f"{PREFIX}/sign-in")


def test_a_changed_password_ends_the_session(town: Town, browser: Browser, sign_in: SignIn) -> None:
    user = town.world.make_user("Changes", "changes@example.com")
    sign_in(browser, user)
    town.world.rows("UPDATE users SET password = 'changed' WHERE id = %s", user.id)
    browser.open(f"{PREFIX}/overview")
    assert browser.path.startswith(f"{PREFIX}/sign-in")


def test_the_switch_changes_the_language_and_stays(town: Town, browser: Browser) -> None:
    browser.open(f"{PREFIX}/sign-in")
    assert browser.language == "en"
    browser.follow("a[hreflang=tr]")
    assert (browser.language, browser.path) == ("tr", f"{PREFIX}/sign-in")
    browser.open(f"{PREFIX}/sign-in")
    assert browser.language == "tr"
    browser.follow("a[hreflang=en]")
    assert browser.language == "en"


def test_a_choice_keeps_the_query(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/overview?model=%C4%B1%26%3D&model=b")
    browser.follow("a[hreflang=tr]")
    browser.follow("footer form button")
    assert (browser.language, browser.path) == ("tr", f"{PREFIX}/overview?model=%C4%B1%26%3D&model=b")


def test_an_address_that_is_no_page_says_what_to_do(
    town: Town, browser: Browser, sign_in: SignIn, words: dict[str, dict[str, str]]
) -> None:
    for language in ("en", "tr"):
        browser.look(View(language=language))
        visit = browser.open(f"{PREFIX}/nothing")
        assert list(visit.faults(expected=404)) == []
        texts = browser.texts()
        assert words["error_404"][language] in texts
        assert len([text for text in texts if "no such page" in text]) == (2 if language == "en" else 0)
