"""Chromium without a window, and what it sees of a page: answers, requests, faults and sizes."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select
from selenium.webdriver.support.wait import WebDriverWait

# No name is resolved, so that neither a page nor Chromium itself can reach another host.
OPTIONS = (
    *("--headless=new", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    *("--disable-domain-reliability", "--no-pings", "--disable-features=OptimizationHints,MediaRouter,Translate"),
)

# What stands in each document before its own scripts.
WITNESS = """
window.violations = [];
addEventListener('securitypolicyviolation', event =>
    violations.push(`${event.effectiveDirective} refused ${event.blockedURI} at ${event.sourceFile}`));
"""

# What reaches over the right edge, except what lies in a box that scrolls by itself.
OVERFLOW = """
const scrolls = element => {
    for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== 'visible') return true;
    return false;
};
const hidden = element => element.checkVisibility && !element.checkVisibility();
const over = [...document.body.querySelectorAll('*')].filter(element =>
    element.getBoundingClientRect().right > innerWidth + 1 && !hidden(element) && !scrolls(element));
const wide = document.scrollingElement.scrollWidth > innerWidth;
return [wide, over.slice(0, 3).map(element => element.outerHTML.slice(0, 160).toWellFormed())];
"""

# Reads each text that a reader sees or hears, except scripts and styles.
TEXTS = """
const texts = [];
const walker = document.createTreeWalker(document, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const parent = walker.currentNode.parentElement;
    if (parent && parent.matches(arguments[0])) texts.push(walker.currentNode.data.trim());
}
for (const element of document.querySelectorAll('*'))
    for (const name of ['title', 'alt', 'aria-label', 'placeholder'])
        if (element.hasAttribute(name)) texts.push(element.getAttribute(name).trim());
return texts.filter(text => text);
"""

AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations'], preload: false}).then(
    result => done(result.violations.filter(found => ['serious', 'critical'].includes(found.impact)).map(
        found => `${found.id} (${found.impact}): ${found.help}: ` +
            found.nodes.slice(0, 3).map(node => node.html.slice(0, 160).toWellFormed() + ' ' +
                node.any.map(check => check.message).join(' ')).join(' | '))),
    error => done([`axe stopped: ${error}`]));
"""

# Two frames: style and layout are those of the emulated medium.
LAY_OUT = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()));"


@dataclass(frozen=True)
class View:
    """How a reader looks at a page."""

    language: str = "en"
    width: int = 1440
    scheme: str = "light"
    motion: str = "reduce"
    media: str = ""

    @property
    def height(self) -> int:
        """The height of a screen that is so wide."""
        return {320: 640, 1440: 900, 3840: 2160}[self.width]


@dataclass
class Visit:
    """What the browser sent and received since it was asked for a page."""

    url: str
    status: int = 0
    requests: list[str] = field(default_factory=list)
    bytes: int = 0
    """Of all answers, as they went over the line."""
    console: list[str] = field(default_factory=list)

    def faults(self, expected: int = 200) -> Iterator[str]:
        """What was wrong about the answers."""
        if self.status != expected:
            yield f"status {self.status}, not {expected}"
        own = urlsplit(self.url).netloc
        for request in self.requests:
            address = urlsplit(request)
            if address.netloc != own and address.scheme not in ("data", "blob"):
                yield f"asks another host: {request}"
        for line in self.console:
            # The console repeats the status of the page itself.
            if expected == 200 or not line.startswith(f"{self.url} - Failed to load resource"):
                yield f"console: {line}"


class Browser:
    """A Chromium of its own. ``javascript=False`` makes one that runs no script of a page."""

    def __init__(self, base: str, axe: str, profile: Path, javascript: bool = True) -> None:
        """Starts it. ``axe`` is the text of axe-core, ``base`` the address of the site."""
        self.base, self._axe, self._view, self._opened = base, axe, View(), View()
        self._visit, self._runs_scripts = Visit(""), javascript
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for option in OPTIONS:
            options.add_argument(option)
        options.add_argument(f"--user-data-dir={profile}")
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        if not javascript:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        self.driver.set_page_load_timeout(30)
        self.driver.set_script_timeout(30)
        self._agent = self.command("Browser.getVersion")["userAgent"].replace("Headless", "")
        if javascript:
            self.command("Page.addScriptToEvaluateOnNewDocument", source=WITNESS)
        self.command("Network.enable")
        self._emulate()

    def command(self, command: str, /, **parameters: Any) -> Any:
        """Sends a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, parameters)

    def look(self, view: View) -> None:
        """Emulates the screen and preferences of a reader; an open page follows without a reload."""
        if view != self._view:
            self._view = view
            self._emulate()

    def _emulate(self) -> None:
        view = self._view
        preferences = {"prefers-color-scheme": view.scheme, "prefers-reduced-motion": view.motion}
        features = [{"name": name, "value": value} for name, value in preferences.items()]
        self.command("Emulation.setEmulatedMedia", media=view.media, features=features)
        size = {"width": view.width, "height": view.height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.command("Network.setUserAgentOverride", userAgent=self._agent, acceptLanguage=view.language)

    def lay_out(self) -> None:
        """Waits until the page is laid out for the present view."""
        if self._runs_scripts:
            self.driver.execute_async_script(LAY_OUT)

    def open(self, path: str, view: View | None = None) -> Visit:
        """Opens an address of the site, and reports what went over the line."""
        self.look(view or self._view)
        self.forget_traffic()
        self._visit, self._opened = Visit(self.base + path), self._view
        self.driver.get(self.base + path)
        return self.traffic()

    def shows(self, path: str, view: View) -> bool:
        """Whether the page was opened in this view, or in one that differs in colours only."""
        return self.path == path and replace(self._opened, scheme=view.scheme) == view

    def forget_traffic(self) -> None:
        """Drops what the logs hold."""
        self._log("performance")
        self._log("browser")

    def _log(self, name: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(name)  # type: ignore[no-untyped-call]
        return entries

    def traffic(self) -> Visit:
        """Adds what was logged meanwhile to the present visit."""
        visit = self._visit
        for entry in self._log("performance"):
            message = json.loads(entry["message"])["message"]
            parameters = message["params"]
            match message["method"]:
                case "Network.requestWillBeSent":
                    visit.requests.append(parameters["request"]["url"])
                case "Network.responseReceived" if parameters["type"] == "Document":
                    visit.status = parameters["response"]["status"]
                case "Network.loadingFinished":
                    visit.bytes += int(parameters["encodedDataLength"])
        visit.console += [line["message"] for line in self._log("browser") if line["level"] == "SEVERE"]
        return visit

    def violations(self) -> list[str]:
        """What the content security policy has refused."""
        found: list[str] = self.driver.execute_script("return window.violations || []")
        return [f"content security policy: {violation}" for violation in found]

    def layout_faults(self) -> list[str]:
        """What makes a reader scroll sideways."""
        self.lay_out()
        is_wide, elements = self.driver.execute_script(OVERFLOW)
        if not is_wide and not elements:
            return []
        return [f"the page is wider than the screen: {' | '.join(elements)}"]

    def accessibility_faults(self) -> list[str]:
        """The serious and critical violations that axe-core finds in the present view."""
        self.lay_out()
        if not self.driver.execute_script("return typeof axe === 'object'"):
            self.driver.execute_script(self._axe)
        found: list[str] = self.driver.execute_async_script(AXE)
        return [f"axe: {violation}" for violation in found]

    def texts(self, selector: str = "*") -> list[str]:
        """Each text that a reader sees or hears, hidden ones too, in elements of this CSS selector."""
        texts: list[str] = self.driver.execute_script(TEXTS, f":not(script, style){selector.removeprefix('*')}")
        return texts

    @property
    def language(self) -> str:
        """The language that the page says it has."""
        return str(self.driver.execute_script("return document.documentElement.lang"))

    def document_faults(self) -> list[str]:
        """A document that does not say its language or its title."""
        faults = []
        if self.language != self._view.language:
            faults.append(f"<html lang> is '{self.language}', not '{self._view.language}'")
        if not self.driver.title.strip(" ·").removesuffix("CodexFlow"):
            faults.append("the page has no title of its own")
        return faults

    def find(self, selector: str) -> WebElement:
        """The first element of this CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """All elements of this CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def status_of_assets(self) -> set[int]:
        """What the files that the open page loads are answered."""
        script = "return performance.getEntriesByType('resource').map(one => one.responseStatus)"
        return set(self.driver.execute_script(script))

    def follow(self, selector: str) -> None:
        """Presses what the selector names, and waits for the next page."""
        self.driver.execute_script("window.isLeft = true")
        self.find(selector).click()
        wait = WebDriverWait(self.driver, 30, poll_frequency=0.02, ignored_exceptions=(WebDriverException,))
        wait.until(lambda driver: driver.execute_script("return !window.isLeft && document.readyState === 'complete'"))

    def send(self, selector: str, fields: dict[str, str | bool], button: str = "") -> None:
        """Fills in the form that the selector names, and presses its button, or the one of this value."""
        form = self.find(selector)
        self.driver.execute_script("for (let e = arguments[0]; e; e = e.parentElement) e.open = true", form)
        for name, value in fields.items():
            control = form.find_element(By.NAME, name)
            if isinstance(value, bool):
                if control.is_selected() != value:
                    control.click()
            elif control.tag_name == "select":
                next(option for option in Select(control).options if option.get_property("value") == value).click()
            else:
                control.clear()
                control.send_keys(value)
        value = f"[value='{button}']" if button else ":not([type=button])"
        self.follow(f"{selector} button{value}")

    def sign_in(self, email: str, password: str) -> None:
        """Fills in the form of the open page, and sends it."""
        for name, text in (("email", email), ("password", password)):
            field = self.find(f"input[name={name}]")
            field.clear()
            field.send_keys(text)
        self.follow("form[action$='/sign-in'] button")

    @property
    def path(self) -> str:
        """The path and the query of the open page."""
        address = urlsplit(self.driver.current_url)
        return address.path + (f"?{address.query}" if address.query else "")

    def cookie(self, name: str) -> dict[str, Any] | None:
        """A cookie of the site, also one that scripts cannot read."""
        cookies = self.command("Network.getCookies", urls=[self.base + "/"])["cookies"]
        return next((cookie for cookie in cookies if cookie["name"] == name), None)

    def set_cookie(self, name: str, value: str) -> None:
        """Gives the browser a cookie of the site."""
        self.command("Network.setCookie", name=name, value=value, url=self.base + "/", httpOnly=True)

    def forget_cookies(self) -> None:
        """Drops all cookies."""
        self.command("Network.clearBrowserCookies")

    def screenshot(self, file: Path, whole: bool = True) -> None:
        """Writes a picture of the page, or of the part on the screen."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            height = self.driver.execute_script("return document.documentElement.scrollHeight")
            size = {"width": self._view.width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.command("Emulation.setDeviceMetricsOverride", **size)
            self.lay_out()
        self.driver.get_screenshot_as_file(str(file))
        self._emulate()

    def close(self) -> None:
        """Ends it."""
        self.driver.quit()
