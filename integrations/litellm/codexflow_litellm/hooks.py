"""The hooks that LiteLLM calls, and the questions of the gate: who calls, what is refused, what is reported."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, NoReturn

import litellm
from fastapi import Request
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

from codexflow_litellm import estimates
from codexflow_litellm.calls import METADATA, Calls, OpenCall, new_id, set_id
from codexflow_litellm.events import Intent
from codexflow_litellm.gate import routes
from codexflow_litellm.gate.application import Gate, install, is_same
from codexflow_litellm.gate.exchange import Exchange, current, exchange_of
from codexflow_litellm.gate.refusal import Refusal, Refused
from codexflow_litellm.keys import Accounts
from codexflow_litellm.limits import Account
from codexflow_litellm.prices import Prices
from codexflow_litellm.settings import Settings, check_master_key
from codexflow_litellm.webhook import Unreachable

log = logging.getLogger("codexflow")


class CodexFlow(CustomLogger):
    """The hooks of one LiteLLM process."""

    MOST_ATTEMPTS = 50
    """Of one call. The operator configures retries and fallbacks; this ends a circle of them."""

    def __init__(
        self,
        settings: Settings,
        accounts: Accounts,
        calls: Calls,
        prices: Prices,
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._settings, self._accounts, self._calls, self._prices, self._now = settings, accounts, calls, prices, now
        self._checked_key = settings.master_key
        self._is_unsafe = False
        """Whether the master key contains the webhook key or is part of it."""

    # Who calls

    def guard(self) -> None:
        """Puts the gate in front of LiteLLM; raises ``RuntimeError`` where this LiteLLM does not let it."""
        if fields := self._settings.fields.steering():
            log.warning("CODEXFLOW_FIELDS lets customers steer LiteLLM by %s", ", ".join(fields))
        estimates.watch()
        install(lambda application: Gate(application, self, self._settings.fields, self._settings.limits))

    def is_master(self, key: str) -> bool:
        """Whether a key is the operator's own, LiteLLM's master key."""
        master_key = self._master_key()
        return master_key is not None and not self._is_unsafe and is_same(key, master_key)

    def _master_key(self) -> str | None:
        """The master key in force. LiteLLM may have read it from its configuration after this package was loaded."""
        master_key = _effective_master_key() or self._settings.master_key
        if master_key != self._checked_key:
            self._checked_key, self._is_unsafe = master_key, False
            try:
                check_master_key(master_key, self._settings.webhook_key)
            except ValueError as error:
                log.critical("no request is served: %s", error)
                self._is_unsafe = True
        return master_key

    def owns_responses(self) -> bool:
        """Whether LiteLLM encrypts the id of each response with its user's id, as it does by default."""
        from litellm.proxy import proxy_server

        switches = ("disable_responses_id_security", "allow_unmanaged_response_ids")
        return bool(_effective_master_key()) and not any(proxy_server.general_settings.get(name) for name in switches)

    async def admit(self, key: str) -> tuple[str, Account]:
        """The hash and the account of a key; raises ``Refused`` with 401 for an unknown key, 503 during an outage."""
        # Set them again for each request: no configuration that LiteLLM reads later may switch reports off.
        litellm.global_disable_no_log_param, litellm.disable_streaming_logging = True, False
        if self._is_unsafe:
            message = "This proxy is not set up safely. Its operator finds the reason in its log."
            raise Refused(Refusal(503, "service_unavailable", message))
        key_hash = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        try:
            account = await self._accounts.current(key_hash)
        except Unreachable:
            message = "Keys cannot be checked at the moment. Try again shortly."
            raise Refused(Refusal(503, "service_unavailable", message)) from None
        if account is None or account.answer.user_id is None:
            raise Refused(Refusal(401, "invalid_api_key", "This API key is not known. Check the key."))
        return key_hash, account

    async def authenticate(self, request: Request, api_key: str) -> UserAPIKeyAuth:
        """The holder of the key that the gate has checked; 403 for a request that did not pass the gate."""
        exchange = exchange_of(request.scope)
        if exchange is not None and exchange.is_operator:
            return UserAPIKeyAuth(api_key="litellm_proxy_master_key", user_role=LitellmUserRoles.PROXY_ADMIN)
        template = getattr(request.scope.get("route"), "path", None)
        if exchange is None or template not in routes.TEMPLATES:
            _refuse(Refusal(403, "route_not_allowed", "This route is not open to customers' keys."))
        user = exchange.account.answer.user_id
        return UserAPIKeyAuth(
            api_key=exchange.key_hash,
            user_id=str(user),
            metadata={"laravel_user_id": user},
            user_role=LitellmUserRoles.INTERNAL_USER,
        )

    async def async_filter_listed_models(
        self, user_api_key_dict: UserAPIKeyAuth, model_names: Sequence[str]
    ) -> Sequence[str]:
        """Shows a customer the models they may use."""
        account = self._accounts.known(user_api_key_dict.api_key or "")
        if account is None or account.answer.models is None:
            return model_names
        return [name for name in model_names if name in account.answer.models]

    # Before the call

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Refuses what is over a limit; else reserves the call and sends its intent to the spool."""
        exchange = current()
        account = await self._account_of(user_api_key_dict, exchange)
        opened = None if exchange is None else exchange.call
        if account is not None:
            own = None if opened is None else opened.intent.call
            if (refusal := account.refusal([str(data.get("model") or "")], self._now(), own)) is not None:
                _refuse(refusal)
            self._check_price(account, str(data.get("model") or ""))
        if opened is not None:
            # LiteLLM begins again, with a fallback that the operator configured.
            set_id(data, opened.intent.call)
            return data
        started = int(self._now() * 1000)
        intent = Intent(
            call=new_id(started),
            started=started / 1000,
            key_hash=user_api_key_dict.api_key,
            user_id=None if account is None else account.answer.user_id,
            model=str(data.get("model") or "")[:255].encode(errors="replace").decode(),
            call_type=str(call_type),
        )
        # No other task runs between the check above and this reservation: nothing awaits in between.
        call = OpenCall(intent, account, asyncio.get_running_loop().create_future())
        call.end_user, call.prompt_tokens = user_api_key_dict.end_user_id, estimates.prompt_tokens(data)
        if exchange is not None:
            exchange.call, call.exchange, call.tags, call.size = call, exchange, exchange.tags, exchange.size
        self._calls.begin(call)
        set_id(data, intent.call)
        return data

    async def _account_of(self, caller: UserAPIKeyAuth, exchange: Exchange | None) -> Account | None:
        """The account of a customer, or ``None`` for the operator; refuses an unknown key."""
        if (caller.metadata or {}).get("laravel_user_id") is None or caller.api_key is None:
            return None
        try:
            account = await self._accounts.current(caller.api_key)
        except Unreachable:
            _refuse(Refusal(503, "service_unavailable", "Limits cannot be checked at the moment. Try again."))
        if account is None:
            _refuse(Refusal(401, "invalid_api_key", "This API key is not known. Check the key."))
        if exchange is None:
            _refuse(Refusal(403, "route_not_allowed", "This route is not open to customers' keys."))
        return account

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Checks the model that LiteLLM has chosen for this attempt, and waits until the intent is on the disk.

        LiteLLM's own work since the pre-call hook takes about as long as the disk.
        """
        call = self._calls.find(kwargs)
        if call is None:
            return
        call.attempts += 1
        self._check_attempt(call, kwargs)
        info = kwargs.get("model_info")
        call.deployment = {
            "model_id": info.get("id") if isinstance(info, dict) else None,
            "model": kwargs.get("model"),
            "custom_llm_provider": kwargs.get("custom_llm_provider"),
        }
        if call.intended is not None and not call.intended.done():
            try:
                await asyncio.wrap_future(call.intended)
            except asyncio.CancelledError:
                self._calls.forget(call)
                raise

    def _check_attempt(self, call: OpenCall, kwargs: Mapping[str, Any]) -> None:
        """Refuses an attempt with a model that the user may not use, such as a fallback of the operator."""
        allowed = None if call.account is None else call.account.answer.models
        holders = (kwargs.get(name) for name in METADATA)
        groups = [holder["model_group"] for holder in holders if isinstance(holder, dict) and holder.get("model_group")]
        for model in groups or [str(kwargs.get("model") or "")]:
            if allowed is not None and model not in allowed:
                _refuse(Refusal(403, "model_not_allowed", f"This account may not use the model '{str(model)[:100]}'."))
            if call.account is not None:
                self._check_price(call.account, str(model))
        if call.attempts > self.MOST_ATTEMPTS:
            _refuse(Refusal(503, "service_unavailable", "The model could not be reached. Try again shortly."))

    def _check_price(self, account: Account, model: str) -> None:
        """Refuses a model without a price to a user with a budget, which its calls would never use up."""
        has_budget = any(window.limit.cost is not None for window in account.answer.windows)
        if has_budget and not self._settings.serves_unpriced and self._prices.of(model) is None:
            message = f"The price of the model '{model[:100]}' is not known, so it cannot be used with a budget."
            _refuse(Refusal(403, "model_not_priced", f"{message} Choose another model."))

    # After the call

    async def finish(self, exchange: Exchange) -> None:
        """Ends the call of a request that was answered."""
        await self._calls.finish(exchange)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Keeps what LiteLLM computed, which concludes the call."""
        self._calls.succeed(kwargs, response_obj)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Keeps a failed attempt."""
        if kwargs.get("standard_logging_object") is not None:
            # Else LiteLLM reports no other failed attempt of the call, not even a stream that breaks in its middle.
            kwargs.pop("has_logged_async_failure", None)
        self._calls.fail(kwargs)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: Any = None,
    ) -> None:
        """Notes that a call has failed for good."""
        self._calls.fail_for_good(request_data)

    async def async_post_call_response_headers_hook(
        self,
        data: Any,
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> None:
        """Holds a whole answer back until its outcome is on the disk. LiteLLM calls this last before it answers."""
        if response is not None and not hasattr(response, "__aiter__"):
            await self._calls.wait_for_outcome(self._calls.find(data))

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Passes a stream on, and holds its end back until the outcome is on the disk."""
        async for chunk in response:
            yield chunk
        # With guardrails LiteLLM reports a stream only after this hook. Until then the intent keeps the call.
        if getattr(request_data.get("litellm_logging_obj"), "_on_deferred_stream_complete", None) is None:
            await self._calls.wait_for_outcome(self._calls.find(request_data))


def _refuse(refusal: Refusal) -> NoReturn:
    raise ProxyException(
        message=refusal.message, type=refusal.kind, param=refusal.field, code=refusal.status, headers=refusal.headers
    ) from None


def _effective_master_key() -> str | None:
    """The master key of LiteLLM's configuration, which need not be in the environment."""
    from litellm.proxy import proxy_server

    key: str | None = proxy_server.master_key
    return key
