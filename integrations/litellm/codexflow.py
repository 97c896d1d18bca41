"""The file that LiteLLM loads: ``custom_auth: codexflow.authenticate`` and ``callbacks: ["codexflow.callback"]``.

It stands beside LiteLLM's ``config.yaml``, and the folder ``codexflow_litellm`` beside it.
"""

import sys
from pathlib import Path
from typing import Any

# LiteLLM executes this file by its path, once for each name. Its folder is on no import path yet.
_folder = str(Path(__file__).resolve().parent)
if _folder not in sys.path:
    sys.path.insert(0, _folder)

try:
    from codexflow_litellm.process import authenticate, hooks
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("codexflow_litellm"):
        raise
    raise RuntimeError(
        f"codexflow.py needs the folder codexflow_litellm beside it, in {_folder}. "
        "Mount or copy both from integrations/litellm"
    ) from error

__all__ = ["authenticate"]


def __getattr__(name: str) -> Any:
    """``callback``, made when LiteLLM takes it and not when a test imports this file."""
    if name == "callback":
        return hooks()
    raise AttributeError(name)
