"""Each page, as each reader sees it in both languages, on narrow and wide screens, in light and dark."""

import re

import pytest

import hostile
from browser import Browser, View
from conftest import SignIn
from pages import READINGS, Case, Page, cases, person
from world import PREFIX, Town

KILOBYTE = 1000


def untranslated(texts: list[str], language: str, words: dict[str, dict[str, str]]) -> list[str]:
    """Names of the dictionary, and words of the other language, that a page shows."""
    names = {name for name in words if "_" in name}
    own = {text[language] for text in words.values()} | {words["other_language"][language]}
    other = {text["tr" if language == "en" else "en"] for text in words.values()} - own
    return [f"not translated: {text}" for text in texts if text in names or text in other]


# Numbers in the manner of the other language, and what a program calls its values.
FOREIGN = {
    "en": re.compile(r"%\d|\$[\d.]*\d,\d{1,2}(?!\d)|\d (Mn|B|sn)\b"),
    "tr": re.compile(r"\d%|\$[\d,]*\d\.\d{1,2}(?!\d)|\$0\.\d|\d[MK]\b|\d s\b"),
}
PROGRAM = re.compile(r"\b(AdminAPI|HTTPSupport|Optional|NaN|undefined|null)\b")


def unreadable(texts: list[str], language: str) -> list[str]:
    """Texts with a number that readers of the language would take for another, or with words of a program."""
    faults = [f"a number in the other manner: {text}" for text in texts if FOREIGN[language].search(text)]
    return faults + [f"words of a program: {text}" for text in texts if PROGRAM.search(text)]


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_a_page_has_no_fault(
    case: Case, town: Town, shared_browser: Browser, sign_in: SignIn, words: dict[str, dict[str, str]]
) -> None:
    browser, address = shared_browser, case.page.address(town)
    sign_in(browser, person(town, case.role))
    visit = browser.traffic() if browser.shows(address, case.view) else browser.open(address, case.view)
    browser.look(case.view)
    faults = [
        *visit.faults(case.page.status),
        *browser.violations(),
        *browser.layout_faults(),
        *browser.accessibility_faults(),
    ]
    texts = browser.texts()
    faults += browser.document_faults()
    faults += [f"text of a template: {text}" for text in texts if "{{" in text.replace(hostile.TEMPLATE, "")]
    faults += untranslated(texts, case.view.language, words)
    faults += unreadable(browser.texts(":not([lang=en], pre, code)"), case.view.language)
    assert not faults, "\n".join([f"{case}:", *faults])


@pytest.mark.parametrize(("page", "role"), READINGS, ids=str)
def test_a_page_weighs_little(page: Page, role: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, person(town, role))
    browser.command("Network.clearBrowserCache")
    visit = browser.open(page.address(town))
    assert 0 < visit.bytes < 150 * KILOBYTE, f"{page} {role}: {visit.bytes} bytes"


@pytest.mark.parametrize(("page", "role"), READINGS, ids=str)
def test_a_page_prints_what_it_says(page: Page, role: str, town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, person(town, role))
    visit = browser.open(page.address(town), View(width=1440, media="print"))
    assert [*visit.faults(page.status), *browser.violations()] == []
    assert browser.find("h1").is_displayed()
    assert not any(element.is_displayed() for element in browser.find_all("nav, footer button"))
    background = browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"


def test_nothing_moves_where_motion_is_reduced(town: Town, browser: Browser, sign_in: SignIn) -> None:
    sign_in(browser, town.customer)
    for motion in ("reduce", "no-preference"):
        visit = browser.open(f"{PREFIX}/overview", View(motion=motion))
        assert list(visit.faults()) == []
    moving = "return document.getAnimations().filter(one => one.playState === 'running').length"
    assert browser.driver.execute_script(moving) == 0
