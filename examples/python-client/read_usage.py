"""Reads logs and a usage summary with the client that openapi-python-client generates from /openapi.json.

    openapi-python-client generate --url http://127.0.0.1:8082/openapi.json --meta none --output-path codexflow_client
    python read_usage.py http://127.0.0.1:8082 TOKEN
"""

import sys

from codexflow_client import AuthenticatedClient
from codexflow_client.api.analytics import get_summary
from codexflow_client.api.logs import list_logs
from codexflow_client.models import LogPage, UsageSummary


def main(url: str, token: str) -> None:
    with AuthenticatedClient(base_url=url, token=token) as client:
        page = list_logs.sync(client=client, limit=2)
        if not isinstance(page, LogPage):
            sys.exit(f"no logs: {page}")
        for log in page.data:
            print(log.id, log.model, log.input_tokens, log.output_tokens, log.cost)
        summary = get_summary.sync(client=client)
        if not isinstance(summary, UsageSummary):
            sys.exit(f"no summary: {summary}")
        print(summary.current.requests, summary.current.cost, summary.meta.as_of.isoformat())


if __name__ == "__main__":
    main(*sys.argv[1:3])
