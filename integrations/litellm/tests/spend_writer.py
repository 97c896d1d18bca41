"""Beside the module in a LiteLLM without a database: writes the row that LiteLLM's own code makes for its database.

`get_logging_payload` is what LiteLLM calls to fill `LiteLLM_SpendLogs`; only Prisma, which writes it, is not there.
"""

import json
import os
from pathlib import Path
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.spend_tracking.spend_tracking_utils import get_logging_payload


class SpendWriter(CustomLogger):
    """A line of JSON for each served call."""

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Gets what the logger that writes LiteLLM's database gets."""
        row: dict[str, Any] = dict(get_logging_payload(kwargs, response_obj, start_time, end_time))
        row["spend"] = kwargs.get("response_cost") or 0.0
        for name in ("metadata", "request_tags", "messages", "response", "proxy_server_request"):
            if isinstance(row.get(name), str):
                row[name] = json.loads(row[name])
        with Path(os.environ["HOME"], "spend.jsonl").open("a") as file:
            file.write(json.dumps(row, default=lambda moment: moment.isoformat()) + "\n")


callback = SpendWriter()
