"""The parts of the module without a proxy: limits, the spool on a full disk and after a crash, and the delivery."""

import asyncio
import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from codexflow_litellm.delivery import Delivery
from codexflow_litellm.events import Intent, trimmed
from codexflow_litellm.gate.sizes import Size
from codexflow_litellm.keys import Accounts
from codexflow_litellm.limits import Account, Amounts, Answer, Reservation
from codexflow_litellm.prices import Price, Prices
from codexflow_litellm.process import check_version
from codexflow_litellm.settings import Settings
from codexflow_litellm.spool import Spool
from codexflow_litellm.store import AnswerStore
from codexflow_litellm.webhook import Backend, Unreachable

NOON = 1_795_435_200.0
"""2026-11-23T12:00:00Z"""
DAY = 86_400


def answer(**limits: Any) -> Answer:
    """An answer about an active user with these limits of the day."""
    used = {"requests": 0, "tokens": 0, "cost": "0", **limits.pop("used", {})}
    amounts = {name: {"limit": limits.get(name), "used": used[name]} for name in ("requests", "tokens", "cost")}
    window = {"period": "daily", "resets_at": "2026-11-24T00:00:00Z", **amounts}
    value = {"user_id": 7, "status": "active", "models": limits.get("models"), "windows": [window]}
    return Answer.parse(json.dumps(value))


UNKNOWN = Answer.parse(json.dumps({"user_id": None}))
"""The answer about a key that belongs to no user."""


def reserve(account: Account, call: str, at: float = NOON, tokens: int = 0, cost: str = "0") -> None:
    """Reserves a call."""
    account.reservations[call] = Reservation(at, Amounts(1, tokens, Decimal(cost)))


class TestLimits:
    def test_no_request_passes_after_the_last_one_of_the_limit(self) -> None:
        account = Account(answer(requests=3, used={"requests": 1}), asked_at=0)
        reserve(account, "a")
        assert account.refusal(["gpt"], NOON) is None
        reserve(account, "b")
        refusal = account.refusal(["gpt"], NOON)
        assert refusal is not None
        assert (refusal.status, refusal.resets_at) == (429, NOON + DAY / 2)
        assert "2026-11-24T00:00:00Z" in refusal.message

    def test_a_new_window_is_empty_except_for_its_own_calls(self) -> None:
        account = Account(answer(requests=1, used={"requests": 1}), asked_at=0)
        reserve(account, "yesterday")
        assert account.refusal(["gpt"], NOON) is not None
        assert account.refusal(["gpt"], NOON + DAY / 2) is None
        reserve(account, "today", at=NOON + DAY / 2)
        assert account.refusal(["gpt"], NOON + DAY / 2) is not None

    @pytest.mark.parametrize("limits", [{"tokens": 100}, {"cost": "0.50"}])
    def test_tokens_and_budget_are_spent_by_what_calls_took(self, limits: dict[str, Any]) -> None:
        account = Account(answer(**limits), asked_at=0)
        reserve(account, "a", tokens=99, cost="0.49")
        assert account.refusal(["gpt"], NOON) is None
        reserve(account, "b", tokens=1, cost="0.01")
        assert account.refusal(["gpt"], NOON) is not None

    def test_a_call_counts_until_an_answer_includes_it(self) -> None:
        account = Account(answer(requests=2), asked_at=0)
        for call in ("stored", "flying"):
            reserve(account, call)
        account.reservations["stored"].acknowledged_at = 5
        account.renew(answer(requests=2), asked_at=4)
        assert set(account.reservations) == {"stored", "flying"}
        account.renew(answer(requests=2, used={"requests": 1}), asked_at=6)
        assert set(account.reservations) == {"flying"}
        assert account.refusal(["gpt"], NOON) is not None
        assert account.refusal(["gpt"], NOON, own="flying") is None

    def test_an_unverified_address_is_named(self) -> None:
        unverified = json.dumps({**json.loads(answer(requests=0).text), "allowed": False, "reason": "unverified"})
        refusal = Account(Answer.parse(unverified), asked_at=0).refusal(["gpt"], NOON)
        assert refusal is not None and (refusal.status, refusal.kind) == (403, "address_not_verified")

    def test_a_budget_that_cannot_be_computed_refuses(self) -> None:
        value = {**json.loads(answer(requests=0).text), "allowed": False, "reason": "limit_unknown"}
        for window in value["windows"]:
            window["cost"] = {"limit": None, "used": None, "remaining": "0"}
        refusal = Account(Answer.parse(json.dumps(value)), asked_at=0).refusal(["gpt"], NOON)
        assert refusal is not None and (refusal.status, refusal.kind) == (503, "limit_unknown")
        assert "Contact your provider" in refusal.message

    def test_models_and_fallbacks_of_the_list_only(self) -> None:
        account = Account(answer(models=["gpt"]), asked_at=0)
        assert account.refusal(["gpt"], NOON) is None
        refusal = account.refusal(["gpt", "o3"], NOON)
        assert refusal is not None and refusal.status == 403


def test_a_price_is_read_once_a_minute() -> None:
    asked: list[str] = []
    at = [0.0]

    def ask(model: str) -> Price:
        asked.append(model)
        if model == "unknown":
            raise ValueError(model)
        return Price(0.001, 0.01, 0.2)

    prices = Prices(ask, lambda: at[0])
    assert [prices.cost("gpt", Size(100, 10)) for _ in range(3)] == [Decimal("0.2")] * 3
    assert prices.of("unknown") is None and prices.cost("unknown", Size(100, 10)) == 0
    at[0] = 61
    assert prices.cost("gpt", Size(images=3)) == Decimal("0.6000000000000001")
    assert asked == ["gpt", "unknown", "gpt"]


class TestAccounts:
    KEY = "a" * 64

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[AnswerStore]:
        store = AnswerStore(tmp_path / "answers.sqlite")
        yield store
        store.close()

    @staticmethod
    def accounts(store: AnswerStore, ask: Callable[[str], Answer], is_open: bool = True) -> Accounts:
        settings = Settings("http://x", "k" * 32, Path("/"), serves_when_down=is_open)
        return Accounts(ask, settings, store)

    @staticmethod
    def down(_: str) -> Answer:
        raise Unreachable("down")

    def test_the_last_known_answer_is_used_while_webhook_api_is_down(self, store: AnswerStore) -> None:
        store.remember(self.KEY, answer(requests=1).text, 1)
        account = asyncio.run(self.accounts(store, self.down).current(self.KEY))
        assert account is not None and account.answer.user_id == 7

    @pytest.mark.parametrize(("is_open", "is_known"), [(False, True), (True, False)])
    def test_a_key_is_refused_when_closed_or_never_seen(
        self, store: AnswerStore, is_open: bool, is_known: bool
    ) -> None:
        if is_known:
            store.remember(self.KEY, answer().text, 1)
        with pytest.raises(Unreachable):
            asyncio.run(self.accounts(store, self.down, is_open).current(self.KEY))

    def test_an_ended_key_stays_refused_while_webhook_api_is_down(self, store: AnswerStore) -> None:
        answers = [answer(), UNKNOWN]

        def ask(_: str) -> Answer:
            if not answers:
                raise Unreachable("down")
            return answers.pop(0)

        async def call(accounts: Accounts) -> Account | None:
            accounts._settings = dataclasses.replace(accounts._settings, answer_seconds=0)
            return await accounts.current(self.KEY)

        # Another worker, and the same one after a restart, know it only from the store.
        worker, other = self.accounts(store, ask), self.accounts(store, self.down)
        assert asyncio.run(call(worker)) is not None
        assert asyncio.run(call(other)) is not None
        assert asyncio.run(call(worker)) is None
        for accounts in (worker, other, self.accounts(store, self.down)):
            assert asyncio.run(call(accounts)) is None

    def test_answers_are_renewed_before_an_outage_needs_them(self, store: AnswerStore) -> None:
        for number, key in enumerate(("a" * 64, "b" * 64)):
            store.remember(key, answer().text, number)
        accounts = self.accounts(store, lambda key: UNKNOWN if key == "b" * 64 else answer(requests=9))
        assert accounts.refresh(older_than=60, count=10) == 2
        assert accounts.refresh(older_than=60, count=10) == 0
        renewed, ended = store.recall("a" * 64), store.recall("b" * 64)
        assert renewed is not None and renewed.text == answer(requests=9).text
        assert ended is not None and ended.text is None

    def test_an_unknown_key_is_not_stored(self, store: AnswerStore) -> None:
        store.refuse(self.KEY, 5)
        assert store.recall(self.KEY) is None

    def test_an_older_answer_does_not_undo_a_refusal(self, store: AnswerStore) -> None:
        store.remember(self.KEY, answer().text, 1)
        store.refuse(self.KEY, 3)
        store.remember(self.KEY, answer().text, 2)
        known = store.recall(self.KEY)
        assert known is not None and known.text is None

    def test_many_calls_ask_once(self, store: AnswerStore) -> None:
        asked: list[str] = []

        def ask(key: str) -> Answer:
            asked.append(key)
            return answer()

        async def many() -> None:
            accounts = self.accounts(store, ask)
            await asyncio.gather(*(accounts.current(self.KEY) for _ in range(50)))

        asyncio.run(many())
        assert len(asked) == 1


def test_only_their_owner_can_read_the_files(tmp_path: Path) -> None:
    directory = tmp_path / "spools"
    directory.mkdir(mode=0o755)
    (directory / "spool-1.sqlite").touch(mode=0o644)
    spool, store = Spool.claim(directory), AnswerStore(directory / "answers.sqlite")
    spool.conclude("{}", None, closes=False).result(5)
    store.remember("a" * 64, "{}", 1)
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    store.close()
    spool.release()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600} and len(modes) > 4, modes


@pytest.mark.parametrize("version", ["1.107.0", "1.83.14", "1.109.0"])
def test_a_litellm_that_is_not_safe_is_refused(version: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(version)):
        check_version(version)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool.claim(tmp_path)
    yield spool
    spool.release()


def intent(call: str) -> Intent:
    return Intent(call, NOON, "a" * 64, 7, "gpt", "acompletion")


class TestSpool:
    def test_an_intent_without_an_outcome_is_reported_as_unknown(self, spool: Spool, tmp_path: Path) -> None:
        for call in ("finished", "cut off"):
            assert spool.intend(intent(call)).result(5)
        assert spool.conclude('{"id":"1"}', "finished", closes=True).result(5)
        assert Spool.orphans(tmp_path) == []
        spool.release()
        [left] = Spool.orphans(tmp_path)
        left.report_unknown(left.intents())
        left.close_intent("nothing").result(5)
        [first, second] = left.batch(0, None, 10, 10_000)
        assert (first[0], first[2]) == (1, '{"id":"1"}')
        event = json.loads(second[2])
        assert (second[0], event["id"], event["error_information"]["error_code"]) == (2, "cut off", "outcome_unknown")
        assert event["metadata"]["user_api_key_auth_metadata"] == {"laravel_user_id": 7}
        assert left.intents() == []
        left.release()

    def test_a_full_disk_keeps_the_oldest_and_says_what_is_lost(
        self, spool: Spool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert spool.conclude("{}", None, closes=False).result(5)
        spool.delivered(1)
        # Writes are in order: that one is done when this one is, and needs no room later.
        assert spool.close_intent("nothing").result(5)
        monkeypatch.setattr(Spool, "WAITING", 2)
        pages = spool._connection.execute("PRAGMA page_count").fetchone()[0]
        spool._connection.execute(f"PRAGMA max_page_count = {pages}")
        events = [json.dumps({"number": number, "text": "x" * 50_000}) for number in range(3)]
        assert [spool.conclude(event, None, closes=False).result(5) for event in events] == [False] * 3
        assert spool.lost == 1
        assert "EVENTS ARE LOST" in caplog.text
        spool._connection.execute("PRAGMA max_page_count = 100000")
        assert spool.conclude('"after"', None, closes=False).result(5)
        assert [row[2] for row in spool.batch(1, None, 10, 10_000_000)] == [*events[:2], '"after"']
        # What was delivered went first, to make room.
        assert spool.batch(0, 1, 10, 10) == []

    def test_one_event_that_cannot_be_written_costs_no_other(self, spool: Spool) -> None:
        with spool._writing:
            writes = [spool.conclude(text, None, closes=False) for text in ("1", "\ud83d", "3")]
        assert [write.result(5) for write in writes] == [True, False, True]
        assert [row[:3:2] for row in spool.batch(0, None, 10, 100)] == [(1, "1"), (2, "3")]
        assert spool.lost == 1

    def test_a_delivered_outcome_is_kept_for_a_day(self, tmp_path: Path) -> None:
        now = NOON
        spool = Spool(tmp_path / "spool.sqlite", now=lambda: now)
        for number in range(3):
            spool.conclude(str(number), None, closes=False).result(5)
        spool.delivered(2)
        # The next commit notes it.
        spool.close_intent("nothing").result(5)
        now += DAY + 1
        spool.delivered(3)
        spool.close_intent("nothing").result(5)
        assert [row[0] for row in spool.batch(0, None, 10, 100)] == [3]
        assert spool.delivered_through() == 3
        spool.release()


class Webhook:
    """A webhook-api that gives prepared answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        self.bodies: list[tuple[int, list[Any]]] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = webhook.answers.pop(0) if webhook.answers else (200, {"success": True})
                if answer.get("success"):
                    webhook.bodies.append((int(self.headers["X-CodexFlow-First"]), body))
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.server.shutdown()
    webhook.server.server_close()


class TestDelivery:
    @staticmethod
    def delivery(spool: Spool, webhook: Webhook, acknowledged: Callable[[Any], object] = list) -> Delivery:
        settings = Settings(f"http://127.0.0.1:{webhook.server.server_address[1]}", "k" * 32, Path("/"))
        return Delivery(spool, Backend(settings), settings, acknowledged)

    def test_nothing_but_webhook_apis_2xx_is_a_delivery(self, spool: Spool, webhook: Webhook) -> None:
        calls: list[str] = []
        delivery = self.delivery(spool, webhook, calls.extend)
        for call in ("a", "b"):
            spool.conclude(f'"{call}"', call, closes=False).result(5)
        for status in (200, 401, 404, 422, 429, 500, 503):
            webhook.answers = [(status, {})]
            with pytest.raises(Unreachable):
                delivery.deliver()
        assert calls == []
        assert delivery.deliver() == 2
        assert webhook.bodies == [(1, ["a", "b"])]
        assert calls == ["a", "b"]
        assert delivery.deliver() == 0

    def test_a_batch_that_is_too_large_is_sent_in_halves(self, spool: Spool, webhook: Webhook) -> None:
        delivery = self.delivery(spool, webhook)
        for number in range(4):
            spool.conclude(str(number), None, closes=False).result(5)
        webhook.answers = [(413, {})]
        with pytest.raises(Unreachable):
            delivery.deliver()
        assert [delivery.deliver(), delivery.deliver(), delivery.deliver()] == [2, 2, 0]
        assert webhook.bodies == [(1, [0, 1]), (3, [2, 3])]

    def test_missing_events_are_sent_again(self, spool: Spool, webhook: Webhook) -> None:
        delivery = self.delivery(spool, webhook)
        for number in range(1, 5):
            spool.conclude(str(number), None, closes=False).result(5)
        assert delivery.deliver() == 4
        spool.conclude("5", None, closes=False).result(5)
        webhook.answers = [(200, {"success": True, "missing": [[2, 3]]})]
        assert delivery.deliver() == 1
        assert webhook.bodies == [(1, [1, 2, 3, 4]), (5, [5]), (2, [2, 3])]


def test_an_event_is_trimmed_and_keeps_no_key() -> None:
    key = "cf_" + "a1" * 32
    text = trimmed(
        {
            "id": "1",
            "messages": "secret prompt",
            "response": "secret answer",
            "model_map_information": {},
            "startTime": 1.5,
            "response_cost": float("nan"),
            "end_user": f"I am {key}",
            "request_tags": [key],
            "error_information": {"error_code": "401", "error_message": f"no such key: {key}", "traceback": "x.py"},
            "metadata": {"user_api_key_hash": key, "requester_ip_address": "127.0.0.1"},
        }
    )
    event = json.loads(text)
    assert key not in text and "secret" not in text and "x.py" not in text and "127.0.0.1" not in text
    assert len(event["metadata"]["user_api_key_hash"]) == 64
    assert event["response_cost"] is None
    assert event["error_information"] == {"error_code": "401", "error_message": "no such key: cf_***"}


@pytest.mark.parametrize(
    "environment",
    [
        {"LITELLM_WEBHOOK_KEY": "short"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "CODEXFLOW_URL": "webhook-api:8081"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "CODEXFLOW_WHEN_DOWN": "maybe"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "CODEXFLOW_ANSWER_SECONDS": "0"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "CODEXFLOW_FIELDS": "chat:foo"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "CODEXFLOW_UNKNOWN_FIELDS": "keep"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "CODEXFLOW_UNPRICED": "0"},
        {"LITELLM_WEBHOOK_KEY": "k" * 32, "LITELLM_MASTER_KEY": "sk-" + "k" * 32},
        {"LITELLM_WEBHOOK_KEY": "sk-1234" + "k" * 32, "LITELLM_MASTER_KEY": "sk-1234"},
    ],
)
def test_a_wrong_setting_stops_the_start(environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=list(environment)[-1]):
        Settings.read(environment)
