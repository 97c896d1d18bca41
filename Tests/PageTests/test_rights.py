"""What a customer may not do, and what a form without its token may not do: nothing changes."""

from typing import Any

import pytest

from browser import Browser
from conftest import SignIn
from pages import CUSTOMER, READERS, READINGS, person
from world import PREFIX, Town

# The path and the fields of each form that changes something.
FORMS = """
return [...document.querySelectorAll('form[method=post]')].map(form =>
    [new URL(form.action).pathname, Object.fromEntries(new FormData(form))]);
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


def forms(browser: Browser, town: Town, role: str) -> dict[str, dict[str, Any]]:
    """Each form of the pages of this role: its path, and the fields as the page has filled them in."""
    found: dict[str, dict[str, Any]] = {}
    for page in [page for page, reader in READINGS if reader == role]:
        browser.open(page.address(town))
        found |= {path: fields for path, fields in browser.driver.execute_script(FORMS)}
    return found


def cookies_of(browser: Browser) -> str:
    """The header `Cookie` of the browser."""
    cookie = browser.cookie("codexflow_session")
    assert cookie is not None
    return f"codexflow_session={cookie['value']}"


@pytest.mark.parametrize("role", READERS)
def test_a_form_needs_the_token_of_its_reader(role: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.newcomer)
    foreign = forms(browser, town, CUSTOMER)[f"{PREFIX}/sign-out"]["_token"]
    sign_in(browser, person(town, role))
    found = forms(browser, town, role)
    assert f"{PREFIX}/sign-out" in found
    before = town.world.value(STATE)
    for path, fields in found.items():
        right = fields.pop("_token")
        for wrong in (None, "", foreign, right[:-2] + ("00" if right[-2:] != "00" else "11")):
            token = {} if wrong is None else {"_token": wrong}
            answer = town.world.post(path, {**fields, **token}, cookies_of(browser))
            assert answer.status == 419, f"{path} with the token {wrong}"
    assert town.world.value(STATE) == before
    browser.open(f"{PREFIX}/overview")
    assert browser.path == f"{PREFIX}/overview", "somebody was signed out"


def test_signing_in_needs_the_token_of_this_browser(town: Town, browser: Browser) -> None:
    browser.open(f"{PREFIX}/sign-in")
    [[path, fields]] = browser.driver.execute_script(FORMS)
    fields |= {"email": town.customer.email, "password": "x"}
    assert town.world.post(path, fields, "").status == 419
