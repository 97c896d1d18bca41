"""What the tests share: one town, one browser that runs scripts and one that does not."""

import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from browser import Browser
from world import ROOT, Town, from_environment

FAILURES = ROOT / ".local/pages-failed"
_open: list[Browser] = []


def _start(base: str, directory: Path, javascript: bool = True) -> Browser:
    browser = Browser(base, Path(os.environ["TEST_AXE"]).read_text(), directory, javascript)
    _open.append(browser)
    return browser


def _close(browser: Browser) -> None:
    _open.remove(browser)
    browser.close()


@pytest.fixture
def make_browser(tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Starts a browser for one test, on the site with this address."""
    started: list[Browser] = []

    def start(base: str, javascript: bool = True) -> Browser:
        started.append(_start(base, tmp_path / f"profile{len(started)}", javascript))
        return started[-1]

    yield start
    for browser in started:
        _close(browser)


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The services, with users and traffic."""
    world = from_environment(tmp_path_factory.mktemp("world"))
    yield Town(world)
    world.close()


@pytest.fixture(scope="session")
def shared_browser(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    browser = _start(town.world.url, tmp_path_factory.mktemp("profile"))
    yield browser
    _close(browser)


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """The browser, signed out."""
    shared_browser.forget_cookies()
    return shared_browser


@pytest.fixture(scope="session")
def shared_plain_browser(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser without JavaScript for all tests."""
    browser = _start(town.world.url, tmp_path_factory.mktemp("plain"), javascript=False)
    yield browser
    _close(browser)


@pytest.fixture
def plain_browser(shared_plain_browser: Browser) -> Browser:
    """The browser without JavaScript, signed out."""
    shared_plain_browser.forget_cookies()
    return shared_plain_browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps a picture of what each open browser shows when a test fails."""
    report = yield
    if report.when == "call" and report.failed:
        for number, browser in enumerate(_open):
            name = re.sub(r"[^\w.-]+", "-", item.name)
            browser.screenshot(FAILURES / f"{name}-{number}.png")
    return report
