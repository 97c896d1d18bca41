"""What the tests share: one town, one browser that runs scripts and one that does not."""

import json
import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from browser import Browser, View
from world import PASSWORD, PREFIX, ROOT, Town, User, from_environment

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
    with closing(from_environment(tmp_path_factory.mktemp("world"))) as world:
        yield Town(world)


@pytest.fixture(scope="session")
def shared_browser(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    browser = _start(town.world.url, tmp_path_factory.mktemp("profile"))
    yield browser
    _close(browser)


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """The browser, signed out, with a common screen and in English."""
    shared_browser.forget_cookies()
    shared_browser.look(View())
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
    shared_plain_browser.look(View())
    return shared_plain_browser


SignIn = Callable[[Browser, User | None], None]


@pytest.fixture(scope="session")
def sign_in() -> SignIn:
    """Signs a user in to a browser: by the form the first time, then by the cookie that it gave. Nobody signs out."""
    cookies: dict[int, str] = {}

    def sign_in(browser: Browser, user: User | None) -> None:
        if user is None:
            browser.forget_cookies()
            return
        if user.id not in cookies:
            browser.forget_cookies()
            browser.open(f"{PREFIX}/sign-in")
            browser.sign_in(user.email, PASSWORD)
            cookie = browser.cookie("codexflow_session")
            assert cookie is not None, f"{user.email} could not sign in"
            cookies[user.id] = cookie["value"]
        browser.set_cookie("codexflow_session", cookies[user.id])

    return sign_in


@pytest.fixture(scope="session")
def words() -> dict[str, dict[str, str]]:
    """The dictionary of the pages: a name, and its words in each language."""
    texts: dict[str, dict[str, str]] = {}
    for file in sorted((ROOT / "Sources/AdminAPI/Pages/Resources/texts").glob("*.json")):
        texts |= json.loads(file.read_text())
    return texts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keeps a picture of what each open browser shows when a test fails."""
    report = yield
    if report.when == "call" and report.failed:
        for number, browser in enumerate(_open):
            name = re.sub(r"[^\w.-]+", "-", item.name)
            browser.screenshot(FAILURES / f"{name}-{number}.png")
    return report
