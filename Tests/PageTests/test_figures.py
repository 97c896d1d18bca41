"""The figures of a page are those of the API, to the last digit."""

import datetime
from decimal import Decimal
from typing import Any

from browser import Browser
from conftest import SignIn
from world import PREFIX, Town


def figures(browser: Browser) -> dict[str, str]:
    """Each figure of the page by its name or id."""
    script = "return [...document.querySelectorAll('[data-value]')].map(e => [e.dataset.name || e.id, e.dataset.value])"
    return dict(browser.driver.execute_script(script))


def require_equal(shown: dict[str, str], expected: dict[str, Any]) -> None:
    """Each expected figure is on the page."""
    missing = expected.keys() - shown.keys()
    assert not missing, f"the page does not name {sorted(missing)}, only {sorted(shown)}"
    wrong = {
        name: (shown[name], value) for name, value in expected.items() if Decimal(shown[name]) != Decimal(str(value))
    }
    assert not wrong, f"page and API differ: {wrong}"


def month() -> str:
    """The first day of the month by UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-01")


def test_a_customers_overview_has_the_figures_of_the_api(town: Town, browser: Browser, sign_in: SignIn) -> None:
    token = town.world.token(town.customer)
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/overview")
    summary = town.world.api(f"/api/v1/analytics/summary?from={month()}", token)["current"]
    limits = town.world.api("/api/v1/me", token)["limits"]
    expected = {
        "month-cost": summary["cost"],
        "month-tokens": summary["total_tokens"],
        "month-requests": summary["requests"],
        "month-error-rate": summary["error_rate"],
        "month-latency": summary["duration_ms"]["p50"],
    }
    for window in ("daily", "monthly"):
        for amount in ("tokens", "requests"):
            expected[f"{window}-{amount}"] = limits[window][amount]["remaining"]
    require_equal(figures(browser), expected)


def test_an_operators_overview_has_the_figures_of_the_api(town: Town, browser: Browser, sign_in: SignIn) -> None:
    token = town.world.token(town.operator)
    sign_in(browser, town.operator)
    browser.open(f"{PREFIX}/operator")
    total = town.world.api("/api/v1/admin/totals", token)
    expected = {
        "quarantine-open": town.world.value("SELECT count(*) FROM metering.quarantine WHERE resolved_at IS NULL")
    }
    for part, figure in (("month", "cost"), ("month", "requests"), ("today", "cost"), ("today", "requests")):
        expected[f"{part}-{figure}"] = total[part][figure]
    require_equal(figures(browser), expected)
