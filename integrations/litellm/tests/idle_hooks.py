"""The hooks of `codexflow.py` that do nothing. They show what a custom_auth and a logger cost LiteLLM itself."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth


class IdleHooks(CustomLogger):
    """Each hook that the module has."""

    async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
        return data

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        return None

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        return None

    async def async_post_call_response_headers_hook(
        self,
        data: Any,
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> None:
        return None

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: Any
    ) -> AsyncGenerator[Any, None]:
        async for chunk in response:
            yield chunk


callback = IdleHooks()


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Accepts every key, as the module accepts a customer's."""
    return UserAPIKeyAuth(
        api_key="0" * 64, user_id="1", metadata={"laravel_user_id": 1}, user_role=LitellmUserRoles.INTERNAL_USER
    )
