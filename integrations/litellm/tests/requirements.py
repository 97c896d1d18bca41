"""What the installed LiteLLM requires for its proxy, a line each; ``companions``: its own packages, without their pins.

An index may not have the companions yet that a version of LiteLLM pins. Then pip refuses that version.
"""

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement


def main() -> None:
    """Prints the requirements of one kind."""
    wants_companions = sys.argv[1:] == ["companions"]
    for text in requires("litellm") or []:
        requirement = Requirement(text)
        is_wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", "proxy"))
        if is_wanted and requirement.name.startswith("litellm") == wants_companions:
            requirement.marker = None
            print(requirement.name if wants_companions else requirement)


if __name__ == "__main__":
    main()
