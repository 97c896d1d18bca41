"""Makes the pictures of docs/dashboard.md: pages as they show the sample traffic.

scripts/test-pages --screenshots
"""

import json
import os
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from browser import Browser, View
from world import PASSWORD, PREFIX, ROOT, User, World, from_environment

PICTURES = ROOT / "docs/images"


@dataclass(frozen=True)
class Picture:
    """A file of `PICTURES`, and what it shows to whom."""

    name: str
    path: str
    reader: str
    view: View


DARK = View(scheme="dark")
PHONE = View(language="tr", width=320, scheme="dark")

PICTURES_OF = (
    Picture("operator", "/operator", "admin", View()),
    Picture("operator-dark", "/operator", "admin", DARK),
    Picture("users", "/operator/users", "admin", View()),
    Picture("quarantine", "/operator/quarantine", "admin", View()),
    Picture("overview", "/overview", "grace.miller", View()),
    Picture("overview-tr", "/overview", "elif.yilmaz", View(language="tr")),
    Picture("logs", "/logs", "grace.miller", View()),
    Picture("overview-phone", "/overview", "elif.yilmaz", PHONE),
)

# As `make run` names them, in the order in which scripts/sample-traffic gives them calls.
PEOPLE = (
    ("elif.yilmaz", "pro", "Elif Yılmaz"),
    ("grace.miller", "agency", "Grace Miller"),
    ("deniz.celik", "starter", "Deniz Çelik"),
    ("james.carter", "pro", "James Carter"),
)


def move_in(world: World) -> dict[str, User]:
    """The users of `make run`, and the sample traffic."""
    users = {"admin": world.make_operator("Demo User", "admin@codexflow.test")}
    for name, plan, full in PEOPLE:
        users[name] = world.make_user(full, f"{name}@codexflow.test", plan)
    world.wait_for_keys()
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for name, user in users.items():
            files.append(Path(directory) / f"{name}.json")
            files[-1].write_text(json.dumps({"id": user.id, "email": user.email, "api_key": user.key}))
        key = Path(directory) / "key"
        key.write_text(world.webhook_key)
        options = ("--endpoint", world.webhook_url, "--key-file", str(key))
        subprocess.run([str(ROOT / "scripts/sample-traffic"), "--users", *map(str, files), *options], check=True)
    wish = {"period": "monthly", "reason": "Tezimin son haftası: bu ay biraz daha bütçe gerekiyor."}
    world.api("/api/rate-limits/request-increase", world.token(users["deniz.celik"]), wish)
    world.wait_for_counters()
    spent = "SELECT ceil(sum(total_cost) * 100 / 0.94) / 100 FROM api_logs WHERE user_id = %s AND created_at >= %s"
    budget = world.value(spent, users["deniz.celik"].id, time.strftime("%Y-%m-01", time.gmtime()))
    limit = ("--email", users["deniz.celik"].email, "--period", "monthly", "--budget", f"{budget:.2f}")
    world.codexflow("user", "limit", *limit)
    world.roll_up()
    return users


def take(picture: Picture, browser: Browser, user: User) -> None:
    """Writes the picture, with a palette of its own."""
    browser.forget_cookies()
    browser.open(f"{PREFIX}/sign-in", picture.view)
    browser.sign_in(user.email, PASSWORD)
    browser.open(PREFIX + picture.path)
    browser.lay_out()
    file = PICTURES / f"{picture.name}.png"
    browser.screenshot(file, whole=False)
    subprocess.run(["pngquant", "--force", "--strip", "--ext", ".png", "96", str(file)], check=True)


def main() -> None:
    """Makes all of them."""
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(from_environment(Path(directory))) as world,
        closing(Browser(world.url, Path(os.environ["TEST_AXE"]).read_text(), Path(directory) / "profile")) as browser,
    ):
        users = move_in(world)
        browser.command("Emulation.setScrollbarsHidden", hidden=True)
        for picture in PICTURES_OF:
            take(picture, browser, users[picture.reader])
            print(f"docs/images/{picture.name}.png")


if __name__ == "__main__":
    main()
