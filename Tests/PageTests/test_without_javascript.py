"""A browser that runs no script: every page says the same, and every form works."""

import pytest

from browser import Browser
from conftest import SignIn
from pages import READINGS, Page, person
from world import PASSWORD, PREFIX, Town


@pytest.mark.parametrize(("page", "role"), READINGS, ids=str)
def test_a_page_says_everything(
    page: Page, role: str, town: Town, browser: Browser, plain_browser: Browser, sign_in: SignIn
) -> None:
    sign_in(browser, person(town, role))
    browser.open(page.address(town))
    headings = [element.text for element in browser.find_all("h1, h2, h3")]
    sign_in(plain_browser, person(town, role))
    visit = plain_browser.open(page.address(town))
    assert list(visit.faults(page.status)) == []
    assert [element.text for element in plain_browser.find_all("h1, h2, h3")] == headings
    for chart in plain_browser.find_all(".chart"):
        table = plain_browser.find(f"#{chart.get_attribute('data-table')}")
        assert table.is_displayed(), f"{page} {role}: the numbers of {chart.get_attribute('id')} are hidden"
    assert not any(element.is_displayed() for element in plain_browser.find_all(".only-script"))


def test_signing_in_and_out_works(town: Town, plain_browser: Browser) -> None:
    plain_browser.open(f"{PREFIX}/overview")
    plain_browser.sign_in(town.others[5].email, PASSWORD)
    assert plain_browser.path == f"{PREFIX}/overview"
    plain_browser.follow(f"form[action='{PREFIX}/sign-out'] button")
    assert plain_browser.path == f"{PREFIX}/sign-in"


def test_the_time_zone_can_be_changed(town: Town, plain_browser: Browser, sign_in: SignIn) -> None:
    sign_in(plain_browser, town.customer)
    plain_browser.open(f"{PREFIX}/overview")
    field = plain_browser.find("input[name=timezone]")
    field.clear()
    field.send_keys("Asia/Tokyo")
    plain_browser.follow("input[name=timezone] ~ button, label:has(input[name=timezone]) ~ button")
    assert plain_browser.find("input[name=timezone]").get_attribute("value") == "Asia/Tokyo"
