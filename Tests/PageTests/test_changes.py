"""What somebody changes in a page is in the database and, for an operator, in the audit log."""

import time
from dataclasses import dataclass

import pytest

from browser import Browser, View
from conftest import SignIn
from events import Call
from world import PREFIX, Town, User

AUDIT = """
SELECT action, subject_id, actor_id FROM metering.audit_log ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True)
class Change:
    """A form that an operator sends, and what is then in the database."""

    page: str
    form: str
    """Its id. In all texts, ``{user}`` stands for the id of a user who is there for the test."""
    fields: dict[str, str | bool]
    query: str
    result: str
    audit: str
    subject: str = "{user}"

    def __str__(self) -> str:
        return f"{self.audit} {' '.join(self.fields)}"


USER = "/operator/users/{user}"
LIMIT = "FROM metering.user_limits WHERE user_id = {user} AND period ="

CHANGES = (
    Change(USER, "access", {}, "SELECT status FROM users WHERE id = {user}", "suspended", "user.suspend"),
    Change(USER, "access", {}, "SELECT status FROM users WHERE id = {user}", "active", "user.activate"),
    Change(USER, "profile", {"plan": "starter"}, "SELECT plan FROM users WHERE id = {user}", "starter", "user.update"),
    Change(USER, "profile", {"name": "İpek Işık"}, "SELECT name FROM users WHERE id = {user}", "İpek Işık",
           "user.update"),
    Change(USER, "limits", {"daily_tokens": "12345"}, f"SELECT tokens {LIMIT} 'daily'", "12345", "user.limits"),
    Change(USER, "limits", {"monthly_budget": "7.50"}, f"SELECT trim_scale(budget) {LIMIT} 'monthly'", "7.5",
           "user.limits"),
    Change(USER, "limits", {"models": "gpt-4o\ngpt-4o-mini"},
           "SELECT array_to_string(models, ',') FROM metering.user_models WHERE user_id = {user}",
           "gpt-4o,gpt-4o-mini", "user.limits"),
    Change("/operator/plans", "plan-starter", {"daily_requests": "1001"},
           "SELECT requests FROM metering.plan_limits WHERE plan = 'starter' AND period = 'daily'", "1001",
           "plan.limits", "starter"),
    Change("/operator/plans", "free-form", {"model": "house-model"},
           "SELECT count(*) FROM metering.free_models WHERE model = 'house-model'", "1", "model.free", "house-model"),
    Change("/operator/plans", "model-form",
           {"name": "House", "model_id": "house-2", "cost_per_1k_tokens": "0.25", "availability": True},
           "SELECT trim_scale(cost_per_1k_tokens) FROM models WHERE model_id = 'house-2'", "0.25", "model.create", ""),
)  # fmt: skip


@pytest.fixture(scope="module")
def subject(town: Town) -> User:
    """Somebody who is changed."""
    return town.world.make_user("Somebody Else", "somebody@example.com")


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_operators_change_is_stored_and_recorded(
    change: Change, subject: User, town: Town, browser: Browser, sign_in: SignIn
) -> None:
    user = str(subject.id)
    sign_in(browser, town.operator)
    browser.open(PREFIX + change.page.format(user=user), View())
    browser.send(f"#{change.form}", change.fields)
    assert browser.find_all(".notice.good"), "the page does not say that it is done"
    assert str(town.world.value(change.query.format(user=user))) == change.result
    [[action, changed, actor]] = town.world.rows(AUDIT)
    assert (action, actor) == (change.audit, town.operator.id)
    assert change.subject.format(user=user) in ("", changed)
    browser.open(f"{PREFIX}/operator/audit")
    assert town.operator.name in browser.find("main tbody tr").text


def test_a_new_user_can_sign_in(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.operator)
    browser.open(f"{PREFIX}/operator/users", View())
    name, email = "Zeynep İğneci", "zeynep@example.com"
    browser.send("#create form", {"name": name, "email": email, "password": "a long password", "plan": "pro"})
    [[user, key]] = town.world.rows("SELECT id, api_key FROM users WHERE email = %s AND name = %s", email, name)
    assert key in browser.texts(), "the key is shown once"
    assert town.world.rows(AUDIT) == [("user.create", str(user), town.operator.id)]
    browser.forget_cookies()
    browser.open(f"{PREFIX}/sign-in")
    browser.sign_in(email, "a long password")
    assert browser.path == f"{PREFIX}/overview"


def test_a_customer_changes_the_key_and_sees_it_once(town: Town, browser: Browser, sign_in: SignIn) -> None:
    user = town.world.make_user("Rotates", "rotates@example.com")
    sign_in(browser, user)
    browser.open(f"{PREFIX}/key", View())
    assert user.key not in browser.driver.page_source
    browser.send(f"form[action='{PREFIX}/key/rotate']", {"confirm": True})
    key = town.world.value("SELECT api_key FROM users WHERE id = %s", user.id)
    assert key != user.key
    assert any(key in text for text in browser.texts())
    for example in ("#curl-text", "#python-text"):
        assert key in browser.find(example).text, "the examples work as they are"
    assert key not in browser.driver.current_url
    browser.open(f"{PREFIX}/key")
    assert key not in browser.driver.page_source


def test_a_models_price_is_changed(town: Town, browser: Browser, sign_in: SignIn) -> None:
    town.world.rows("INSERT INTO models (name, model_id, cost_per_1k_tokens) VALUES ('Priced', 'priced-1', 0.000375)")
    model = town.world.value("SELECT id FROM models WHERE model_id = 'priced-1'")
    sign_in(browser, town.operator)
    browser.open(f"{PREFIX}/operator/plans", View(language="tr"))
    assert "$0,000375" in browser.find("#models-table").text
    browser.follow(f"#models-table a[href*='model={model}#']")
    assert browser.find("#model-form [name=name]").get_attribute("value") == "Priced"
    browser.send("#model-form", {"cost_per_1k_tokens": "1234.5", "description": "Pahalı"})
    assert browser.find_all(".notice.good")
    assert "$1.234,50" in browser.find("#models-table").text
    query = "SELECT name, trim_scale(cost_per_1k_tokens)::text, description, availability FROM models WHERE id = %s"
    assert town.world.rows(query, model) == [("Priced", "1234.5", "Pahalı", True)]
    prices = """
        SELECT action, subject_id, actor_id,
               (before->>'cost_per_1k_tokens')::float, (after->>'cost_per_1k_tokens')::float
        FROM metering.audit_log ORDER BY id DESC LIMIT 1
    """
    assert town.world.rows(prices) == [("model.update", str(model), town.operator.id, 0.000375, 1234.5)]


@pytest.mark.parametrize("answer", ["granted", "refused"])
def test_a_wish_for_more_is_answered(answer: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    user = town.world.make_user(f"Wishes {answer}", f"wishes-{answer}@example.com")
    wish = {"period": "monthly", "reason": f"To be {answer}"}
    town.world.api("/api/rate-limits/request-increase", town.world.token(user), wish)
    request = town.world.value("SELECT id FROM metering.limit_requests WHERE user_id = %s", user.id)
    sign_in(browser, town.operator)
    browser.open(f"{PREFIX}/operator/requests", View())
    browser.send(f"#request-{request}", {"note": f"It is {answer}."}, button=answer)
    stored = town.world.rows("SELECT answer, note FROM metering.limit_requests WHERE id = %s", request)
    assert stored == [(answer, f"It is {answer}.")]
    assert town.world.rows(AUDIT) == [("limit_request.answer", str(request), town.operator.id)]


def test_quarantined_events_are_discarded_after_a_dry_run(town: Town, browser: Browser, sign_in: SignIn) -> None:
    customer = town.customer
    call = Call(customer.key, customer.id, time.time() - 60, cost="2e9")
    assert town.world.send([call.event()])["quarantined"] == 1
    entry = town.world.value("SELECT id::text FROM metering.quarantine ORDER BY received_at DESC LIMIT 1")
    resolution = "SELECT resolution FROM metering.quarantine WHERE id = %s"
    sign_in(browser, town.operator)
    browser.open(f"{PREFIX}/operator/quarantine/{entry}", View())
    browser.send("main form.actions", {}, button="discard")
    assert town.world.value(resolution, entry) is None, "the first step must be a dry run"
    browser.send("#confirm", {})
    assert town.world.value(resolution, entry) == "discarded"
    assert town.world.rows(AUDIT)[0][0] == "quarantine.discard"


def test_an_event_of_a_key_that_nobody_had_is_replayed(town: Town, browser: Browser, sign_in: SignIn) -> None:
    key = f"cf_late_{time.time_ns()}"
    assert town.world.refuse({"user_id": key, "model": "late", "cost": 0.5}) == 404
    entry = town.world.value("SELECT id::text FROM metering.quarantine ORDER BY received_at DESC LIMIT 1")
    user = town.world.make_user("Late", "late@example.com")
    town.world.rows("UPDATE users SET api_key = %s WHERE id = %s", key, user.id)
    town.world.wait_for_keys()
    logs = "SELECT count(*) FROM api_logs WHERE user_id = %s"
    sign_in(browser, town.operator)
    browser.open(f"{PREFIX}/operator/quarantine/{entry}", View())
    browser.send("main form.actions", {}, button="replay")
    browser.follow("form:has([name=answered_404]) button")
    assert town.world.value(logs, user.id) == 0, "the first step must be a dry run"
    browser.send("#confirm", {})
    assert browser.find_all(".notice.good")
    assert town.world.value(logs, user.id) == 1
    assert town.world.rows(AUDIT)[0][0] == "quarantine.replay"


def test_a_change_that_breaks_a_rule_says_which(subject: User, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.operator)
    for language in ("en", "tr"):
        browser.open(f"{PREFIX}/operator/users", View(language=language))
        before = town.world.value("SELECT count(*) FROM users")
        browser.send("#create form", {"name": "Twice", "email": subject.email, "password": "a long password"})
        assert town.world.value("SELECT count(*) FROM users") == before
        assert browser.find_all("[role=alert]")
        assert browser.find("#create [name=name]").get_attribute("value") == "Twice"
