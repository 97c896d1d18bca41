"""The checks find what they look for: a page that has every fault, and one that has none."""

import http.server
import threading
from collections.abc import Callable, Iterator

import pytest

from browser import Browser, View

GOOD = """<!doctype html><html lang="en"><head><title>Good</title><link rel="icon" href="data:,"></head>
<body><main><h1>Good</h1><p>Text</p></main></body></html>"""

BAD = """<!doctype html><html lang="tr"><head><title> </title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/style.css"></head><body><main><h1>{{title}}</h1><p class="faint">faint</p>
<script>window.ran = true</script><img src="http://example.com/pixel.png"><table><tr><td>wide</td></tr></table>
<noscript><p id="quiet">quiet</p></noscript><script src="/script.js"></script></main></body></html>"""

FILES = {
    "/good": ("text/html", GOOD),
    "/bad": ("text/html", BAD),
    "/style.css": ("text/css", "table { width: 900px } @media (prefers-color-scheme: dark) { .faint { color: #222; } "
                   "body { background: #000 } }"),
    "/script.js": ("text/javascript", "window.loaded = true; console.error('out of order');"),
}  # fmt: skip


class Site(http.server.BaseHTTPRequestHandler):
    """Answers with `FILES`, under the policy that the pages have."""

    def do_GET(self) -> None:
        """A file, or 403."""
        kind, text = FILES.get(self.path, ("text/html", GOOD))
        self.send_response(200 if self.path in FILES else 403)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src 'self' data:")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_good_page_has_no_fault(site: str, make_browser: Callable[..., Browser]) -> None:
    browser = make_browser(site)
    browser.look(View(width=320))
    assert list(browser.open("/good").faults()) == []
    assert browser.violations() + browser.layout_faults() + browser.document_faults() == []
    assert browser.accessibility_faults() == []
    assert list(browser.open("/closed").faults(expected=403)) == []
    assert any("status 403" in fault for fault in browser.traffic().faults())


def test_each_fault_is_found(site: str, make_browser: Callable[..., Browser]) -> None:
    browser = make_browser(site)
    browser.look(View(width=320, scheme="dark"))
    answers = "\n".join(browser.open("/bad").faults())
    assert "asks another host: http://example.com/pixel.png" in answers
    assert "console: " in answers and "out of order" in answers
    assert any("script-src-elem refused inline" in violation for violation in browser.violations())
    assert "<table>" in browser.layout_faults()[0]
    document = "\n".join(browser.document_faults())
    assert "<html lang> is 'tr'" in document and "no title" in document
    assert "{{title}}" in browser.texts()
    faults = "\n".join(browser.accessibility_faults())
    assert "axe: image-alt" in faults and "axe: color-contrast" in faults
    browser.look(View(width=320, scheme="light"))
    assert "color-contrast" not in "\n".join(browser.accessibility_faults())
    browser.look(View(width=1440))
    assert browser.layout_faults() == []


def test_a_browser_without_javascript_runs_none(site: str, make_browser: Callable[..., Browser]) -> None:
    browser = make_browser(site, javascript=False)
    browser.open("/bad")
    assert browser.driver.execute_script("return window.loaded") is None
    assert browser.find("#quiet").text == "quiet"
