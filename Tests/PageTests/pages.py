"""The table of pages: a new page is one line here, and every check that holds for all pages holds for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from browser import View
from world import PREFIX, Town, User

VISITOR, CUSTOMER, OPERATOR = "visitor", "customer", "operator"
READERS = (CUSTOMER, OPERATOR)


@dataclass(frozen=True)
class Page:
    """A page, and who may read it."""

    name: str
    path: str
    """Below the prefix. ``{log}``, ``{user}`` and ``{quarantined}`` stand for the ids of the town's."""
    roles: tuple[str, ...] = READERS
    is_wide: bool = False
    """Whether it is looked at on a screen of 3840 pixels too."""
    status: int = 200

    def __str__(self) -> str:
        return self.name

    def address(self, town: Town) -> str:
        """The path, and the query."""
        return PREFIX + self.path.format(log=town.log, user=town.customer.id, quarantined=town.quarantined)


PAGES = (
    Page("sign-in", "/sign-in", roles=(VISITOR,)),
    Page("no such page", "/nothing", roles=(VISITOR, CUSTOMER), status=404),
    Page("overview", "/overview", is_wide=True),
    Page("logs", "/logs"),
    Page("log", "/logs/{log}", roles=(CUSTOMER,)),
    Page("key", "/key"),
    Page("operator", "/operator", roles=(OPERATOR,), is_wide=True),
    Page("users", "/operator/users", roles=(OPERATOR,)),
    Page("user", "/operator/users/{user}", roles=(OPERATOR,)),
    Page("all logs", "/operator/logs", roles=(OPERATOR,)),
    Page("any log", "/operator/logs/{log}", roles=(OPERATOR,)),
    Page("plans", "/operator/plans", roles=(OPERATOR,)),
    Page("requests", "/operator/requests", roles=(OPERATOR,)),
    Page("quarantine", "/operator/quarantine", roles=(OPERATOR,)),
    Page("quarantined", "/operator/quarantine/{quarantined}", roles=(OPERATOR,)),
    Page("health", "/operator/health", roles=(OPERATOR,)),
    Page("audit", "/operator/audit", roles=(OPERATOR,)),
)

# Each page with each of its readers.
READINGS = [(page, role) for role in (VISITOR, *READERS) for page in PAGES if role in page.roles]
OPERATORS = [page for page in PAGES if page.roles == (OPERATOR,)]


@dataclass(frozen=True)
class Case:
    """A page as somebody looks at it."""

    page: Page
    role: str
    view: View

    def __str__(self) -> str:
        view = self.view
        return f"{self.page.name} {self.role} {view.language} {view.width} {view.scheme}"


def cases() -> Iterator[Case]:
    """Each page for each reader, language, width and colour scheme. Neighbours differ as little as possible."""
    for (page, role), language in product(READINGS, ("en", "tr")):
        widths = (320, 1440, 3840) if page.is_wide else (320, 1440)
        for width, scheme in product(widths, ("light", "dark")):
            yield Case(page, role, View(language, width, scheme))


def person(town: Town, role: str) -> User | None:
    """Who reads the pages in this role; nobody as a visitor."""
    return {VISITOR: None, CUSTOMER: town.customer, OPERATOR: town.operator}[role]
