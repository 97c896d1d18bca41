"""Numbers, money, times and dates as the reader's language writes them."""

import re
from decimal import Decimal
from typing import Any

import pytest

from browser import Browser, View
from conftest import SignIn
from test_figures import month
from world import PREFIX, Town

MONTHS = {
    "en": "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept|Oct|Nov|Dec",
    "tr": "Oca|Şub|Mar|Nis|May|Haz|Tem|Ağu|Eyl|Eki|Kas|Ara",
}
COMPACT = {"en": r"\d{1,3}(\.\d{1,2})?[KM]", "tr": r"\d{1,3}(,\d{1,2})? (B|Mn)"}
SECOND = {"en": "s", "tr": "sn"}


def written(number: Any, decimals: int, language: str, trimmed: bool = False) -> str:
    """The number with so many decimals, in the manner of the language."""
    text = f"{Decimal(str(number)):,.{decimals}f}"
    if trimmed and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if language == "en" else text.translate(str.maketrans(",.", ".,"))


def duration(milliseconds: float | None, language: str) -> str:
    """In the unit that reads best; a dash where there is none."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{written(milliseconds, 0, language)} ms"
    seconds = Decimal(str(milliseconds)) / 1000
    return f"{written(seconds, 2, language, trimmed=True)} {SECOND[language]}"


@pytest.mark.parametrize("language", ["en", "tr"])
def test_figures_are_in_the_manner_of_the_language(
    language: str, town: Town, browser: Browser, sign_in: SignIn
) -> None:
    token = town.world.token(town.customer)
    usage = town.world.api(f"/api/v1/analytics/summary?from={month()}", token)["current"]
    limits = town.world.api("/api/v1/me", token)["limits"]
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/overview", View(language=language))
    rate = written(Decimal(str(usage["error_rate"])) * 100, 1, language, trimmed=True)
    expected = {
        "month-requests": written(usage["requests"], 0, language),
        "month-error-rate": f"{rate}%" if language == "en" else f"%{rate}",
        "month-latency": duration(usage["duration_ms"]["p50"], language),
        "monthly-tokens": written(limits["monthly"]["tokens"]["remaining"], 0, language),
    }
    shown = {name: browser.find(f"#{name}").text.split("\n")[0] for name in expected}
    assert {name: text.removesuffix(" left").removesuffix(" kaldı") for name, text in shown.items()} == expected
    budget = limits["monthly"]["budget"]["remaining"]
    assert browser.find("#monthly-budget").text.startswith(f"${written(budget, 2, language)}")
    assert re.fullmatch(COMPACT[language], browser.find("#month-tokens").text) or usage["total_tokens"] < 10_000


@pytest.mark.parametrize("language", ["en", "tr"])
def test_dates_name_the_month_and_times_have_24_hours(
    language: str, town: Town, browser: Browser, sign_in: SignIn
) -> None:
    sign_in(browser, town.customer)
    browser.open(f"{PREFIX}/logs", View(language=language))
    times = [element.text for element in browser.find_all("#calls-table td.t")]
    assert len(times) == 50
    pattern = re.compile(rf"\d{{1,2}} ({MONTHS[language]}) \d{{4}} ([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
    assert [text for text in times if not pattern.fullmatch(text)] == []
