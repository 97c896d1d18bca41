"""Who has no mouse reaches everything, and sees where they are."""

import pytest
from selenium.webdriver import ActionChains, Keys

from browser import Browser, View
from conftest import SignIn
from pages import READINGS, Page, person
from world import PREFIX, Town

# Marks each control that a reader could use, and counts them.
CONTROLS = """
const kinds = 'a[href], button, input:not([type=hidden]), select, textarea, summary';
const all = [...document.querySelectorAll(kinds)].filter(
    element => element.checkVisibility() && !element.disabled && element.tabIndex >= 0);
all.forEach((element, number) => element.dataset.control = number);
return all.map(element => element.outerHTML.slice(0, 120).toWellFormed());
"""

# The control that has the focus, and whether one sees it.
FOCUS = """
const element = document.activeElement, style = getComputedStyle(element);
const box = element.getBoundingClientRect();
const isOutlined = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
const isOnScreen = box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight;
return [element.dataset.control ?? null, isOutlined && isOnScreen, element.outerHTML.slice(0, 120).toWellFormed()];
"""


def press_tab(browser: Browser) -> None:
    ActionChains(browser.driver, duration=0).send_keys(Keys.TAB).perform()


@pytest.mark.parametrize("width", [320, 1440])
@pytest.mark.parametrize(("page", "role"), READINGS, ids=str)
def test_every_control_is_reached(
    page: Page, role: str, width: int, town: Town, browser: Browser, sign_in: SignIn
) -> None:
    sign_in(browser, person(town, role))
    browser.open(page.address(town), View(width=width))
    controls = browser.driver.execute_script(CONTROLS)
    reached, faults = set(), []
    # A field of date has several stops, and a box that scrolls has one.
    for step in range(4 * len(controls) + 20):
        press_tab(browser)
        number, is_seen, element = browser.driver.execute_script(FOCUS)
        if step == 0:
            assert 'href="#main"' in element, f"the first stop is {element}"
        if number is None:
            continue
        if not is_seen:
            faults.append(f"the focus is not seen on {element}")
        reached.add(int(number))
        if len(reached) == len(controls):
            break
    faults += [f"no Tab leads to {controls[missing]}" for missing in set(range(len(controls))) - reached]
    assert not faults, "\n".join([f"{page} {role} {width}:", *faults])


def test_the_first_link_leads_to_the_content(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/overview", View())
    press_tab(browser)
    ActionChains(browser.driver, duration=0).send_keys(Keys.ENTER).perform()
    assert browser.driver.execute_script("return document.activeElement.id") == "main"
