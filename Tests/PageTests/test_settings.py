"""Pages under other settings of `admin-api`, and choices that a reader makes in an address."""

import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from urllib.parse import quote

import pytest

import hostile
from browser import Browser
from conftest import SignIn
from world import PASSWORD, PREFIX, Town


def status(address: str) -> int:
    """What a GET is answered, after redirects."""
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_pages_begin_where_the_setting_says(town: Town, make_browser: Callable[..., Browser]) -> None:
    with closing(town.world.start_admin(ADMIN_PAGES_PREFIX="/usage/panel")) as admin:
        browser = make_browser(admin.url)
        browser.open("/")
        assert browser.path == "/usage/panel/sign-in?next="
        browser.sign_in(town.others[3].email, PASSWORD)
        assert browser.path == "/usage/panel/overview"
        assert browser.status_of_assets() == {200}
        assert not browser.find_all(f"[href^='{PREFIX}'], [src^='{PREFIX}'], [action^='{PREFIX}']")
        assert status(admin.url + PREFIX) == 404


def test_pages_can_be_switched_off(town: Town) -> None:
    with closing(town.world.start_admin(ADMIN_PAGES="off")) as admin:
        assert (status(admin.url + PREFIX), status(admin.url + "/")) == (404, 404)
        assert status(admin.url + "/openapi.json") == 200


def test_without_chart_js_pages_are_there_and_the_log_says_what_is_missing(
    town: Town, make_browser: Callable[..., Browser]
) -> None:
    with closing(town.world.start_admin(ADMIN_CHART_JS="/nowhere/chart.min.js")) as admin:
        assert "libjs-chart.js" in admin.log()
        browser = make_browser(admin.url)
        browser.open(f"{PREFIX}/sign-in")
        browser.sign_in(town.others[4].email, PASSWORD)
        visit = browser.open(f"{PREFIX}/overview")
        assert [*visit.faults(), *browser.violations()] == []
        assert not browser.find_all("canvas")
        for chart in browser.find_all(".chart"):
            assert browser.find(f"#{chart.get_attribute('data-table')}").is_displayed()


@pytest.mark.parametrize("zone", ["Nowhere/Land", "GMT+3", "EST5EDT", "../../etc/passwd", hostile.SCRIPT, "x" * 3000])
def test_a_zone_that_is_none_does_no_harm(zone: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/overview?timezone={quote(zone)}")
    visit = browser.open(f"{PREFIX}/overview")
    assert list(visit.faults()) == []
    assert browser.find("[name=timezone]").get_attribute("value") in ("UTC", zone)


def test_a_language_that_is_none_is_english(town: Town, browser: Browser) -> None:
    browser.open(f"{PREFIX}/sign-in?language=xx")
    assert browser.language == "en"


def test_a_page_forbids_what_it_does_not_need(town: Town) -> None:
    with urllib.request.urlopen(f"{town.world.url}{PREFIX}/sign-in", timeout=30) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"]
