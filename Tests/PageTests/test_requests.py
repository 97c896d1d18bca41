"""A customer asks for higher limits, an operator grants or refuses and sets them, and the customer sees it."""

import pytest

import hostile
from browser import Browser, View
from conftest import SignIn
from world import PREFIX, Town

REASON = "Kampanya haftası: günde 4.000 açıklama, İzmir'deki mağaza için"
WISHES = "SELECT id, period, reason FROM metering.limit_requests WHERE user_id = %s ORDER BY id"
AUDIT = "SELECT action, subject_id, actor_id FROM metering.audit_log ORDER BY id DESC LIMIT 2"
LIMIT = "SELECT tokens FROM metering.user_limits WHERE user_id = %s AND period = 'monthly'"


def test_a_customer_asks_and_gets_more(
    town: Town, browser: Browser, plain_browser: Browser, sign_in: SignIn, words: dict[str, dict[str, str]]
) -> None:
    user = town.world.make_user("Asks", "asks@example.com", "starter")
    customer, operator = plain_browser, browser
    sign_in(customer, user)
    customer.open(f"{PREFIX}/overview", View(language="tr"))
    before = int(customer.find("#monthly-tokens").get_attribute("data-value") or "")
    customer.send("#more-limits form", {"period": "monthly", "reason": REASON})
    assert customer.find_all(".notice.good")
    [[request, period, reason]] = town.world.rows(WISHES, user.id)
    assert (period, reason) == ("monthly", REASON)
    assert words["answer_open"]["tr"] in customer.find("#more-limits table").text

    sign_in(operator, town.operator)
    operator.open(f"{PREFIX}/operator/requests", View())
    assert REASON in operator.find(f"#request-{request}").text
    operator.send(f"#request-{request}", {"note": "Ay sonuna kadar."}, button="granted")
    operator.follow(".notice.good a")
    assert operator.path == f"{PREFIX}/operator/users/{user.id}"
    operator.send("#limits", {"monthly_tokens": str(before + 500_000)})
    assert town.world.value(LIMIT, user.id) == before + 500_000
    assert town.world.rows(AUDIT) == [
        ("user.limits", str(user.id), town.operator.id),
        ("limit_request.answer", str(request), town.operator.id),
    ]

    customer.open(f"{PREFIX}/overview")
    table = customer.find("#more-limits table").text
    assert words["answer_granted"]["tr"] in table and "Ay sonuna kadar." in table
    assert customer.find("#monthly-tokens").get_attribute("data-value") == str(before + 500_000)
    assert customer.find("#monthly-tokens").text.startswith(f"{before + 500_000:,}".replace(",", "."))


def test_a_second_wish_for_the_same_limit_replaces_the_first(town: Town, browser: Browser, sign_in: SignIn) -> None:
    user = town.world.make_user("Asks twice", "twice@example.com")
    sign_in(browser, user)
    for reason in ("The first", "The second"):
        browser.open(f"{PREFIX}/overview", View())
        browser.send("#more-limits form", {"period": "daily", "reason": reason})
    assert [row[1:] for row in town.world.rows(WISHES, user.id)] == [("daily", "The second")]
    assert len(browser.find_all("#more-limits tbody tr")) == 1


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_wish_that_breaks_a_rule_keeps_what_was_typed(
    language: str, town: Town, browser: Browser, sign_in: SignIn, words: dict[str, dict[str, str]]
) -> None:
    user = town.others[1]
    sign_in(browser, user)
    browser.open(f"{PREFIX}/overview", View(language=language))
    long = hostile.WORD * 3
    browser.driver.execute_script("document.querySelector('#reason').removeAttribute('maxlength')")
    browser.send("#more-limits form", {"reason": long})
    assert browser.find("#more-limits [role=alert]").text == words["form_refused"][language]
    assert browser.find("#reason").get_attribute("value") == long
    assert town.world.rows(WISHES, user.id) == []
