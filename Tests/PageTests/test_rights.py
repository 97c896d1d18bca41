"""What a customer may not do, and what a form without its token may not do: nothing changes."""

from typing import Any

import pytest

from browser import Browser
from conftest import SignIn
from pages import CUSTOMER, OPERATOR, OPERATORS, READERS, READINGS, Page, person
from world import PREFIX, Town

# The path and the fields of each form that changes something.
FORMS = """
return [...document.querySelectorAll('form[method=post]')].map(form =>
    [form.getAttribute('action'), Object.fromEntries(new FormData(form))]);
"""

# What a form could change.
STATE = """
SELECT md5(concat_ws('/',
    (SELECT string_agg(u::text, ',' ORDER BY u.id) FROM users u),
    (SELECT string_agg(m::text, ',' ORDER BY m.id) FROM models m),
    (SELECT string_agg(p::text, ',' ORDER BY p.plan, p.period) FROM metering.plan_limits p),
    (SELECT string_agg(l::text, ',' ORDER BY l.user_id, l.period) FROM metering.user_limits l),
    (SELECT string_agg(m::text, ',' ORDER BY m::text) FROM metering.user_models m),
    (SELECT string_agg(f::text, ',' ORDER BY f::text) FROM metering.free_models f),
    (SELECT string_agg(r::text, ',' ORDER BY r.id) FROM metering.limit_requests r),
    (SELECT string_agg(concat_ws(' ', q.id, q.resolution), ',' ORDER BY q.id) FROM metering.quarantine q),
    (SELECT count(*) FROM metering.audit_log),
    (SELECT string_agg(t.id::text, ',' ORDER BY t.id) FROM personal_access_tokens t)))
"""


def forms(browser: Browser, town: Town, role: str) -> list[tuple[str, dict[str, Any]]]:
    """Each kind of form of the pages of this role: its path, and the fields as the page has filled them in."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for page in [page for page, reader in READINGS if reader == role]:
        browser.open(page.address(town))
        for path, fields in browser.driver.execute_script(FORMS):
            found[f"{path} {sorted(fields)}"] = (path, fields)
    return list(found.values())


def token_of(found: list[tuple[str, dict[str, Any]]]) -> str:
    """The token that the reader's forms have."""
    return next(str(fields["_token"]) for path, fields in found if path == f"{PREFIX}/sign-out")


def cookies_of(browser: Browser) -> str:
    """The header `Cookie` of the browser."""
    cookie = browser.cookie("codexflow_session")
    assert cookie is not None
    return f"codexflow_session={cookie['value']}"


@pytest.mark.parametrize("page", OPERATORS, ids=str)
def test_a_customer_is_refused_what_is_an_operators(
    page: Page, town: Town, browser: Browser, sign_in: SignIn, words: dict[str, dict[str, str]]
) -> None:
    sign_in(browser, town.customer)
    visit = browser.open(page.address(town))
    assert list(visit.faults(expected=403)) == []
    assert words["error_403"]["en"] in browser.texts()
    assert not browser.find_all(f"nav a[href^='{PREFIX}/operator']")


def test_a_customer_cannot_send_an_operators_form(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.operator)
    operators = [form for form in forms(browser, town, OPERATOR) if form[0].startswith(f"{PREFIX}/operator")]
    assert len(operators) > 5
    sign_in(browser, town.customer)
    token = token_of(forms(browser, town, CUSTOMER))
    before = town.world.value(STATE)
    for path, fields in operators:
        answer = town.world.post(path, {**fields, "_token": token}, cookies_of(browser))
        assert answer.status == 403, path
    assert town.world.value(STATE) == before


@pytest.mark.parametrize("role", READERS)
def test_a_form_needs_the_token_of_its_reader(role: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.newcomer)
    foreign = token_of(forms(browser, town, CUSTOMER))
    sign_in(browser, person(town, role))
    found = forms(browser, town, role)
    assert len(found) > 1
    before = town.world.value(STATE)
    for path, fields in found:
        right = fields.pop("_token")
        for wrong in (None, "", foreign, right[:-2] + ("00" if right[-2:] != "00" else "11")):
            token = {} if wrong is None else {"_token": wrong}
            answer = town.world.post(path, {**fields, **token}, cookies_of(browser))
            assert answer.status == 419, f"{path} with the token {wrong}"
    assert town.world.value(STATE) == before
    browser.open(f"{PREFIX}/overview")
    assert browser.path == f"{PREFIX}/overview", "somebody was signed out"


def test_a_customer_sees_no_log_of_somebody_else(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.newcomer)
    assert browser.open(f"{PREFIX}/logs/{town.log}").status == 404


def test_signing_in_needs_the_token_of_this_browser(town: Town, browser: Browser) -> None:
    browser.open(f"{PREFIX}/sign-in")
    [[path, fields]] = browser.driver.execute_script(FORMS)
    fields |= {"email": town.customer.email, "password": "x"}
    assert town.world.post(path, fields, "").status == 419
