"""What people ordinarily send with OpenAI's and Anthropic's Python clients: the arguments of each call, by a name.

``weather`` in a name: the provider answers with two calls of that tool. `recording_provider.py` describes the answers.
"""

import json
from typing import Any

from recording_provider import ARGUMENTS, ERRORS, TEXT

MODELS = {
    **{"chat": "openai/gpt-4.1", "reasoner": "openai/o3", "gpt-5": "openai/gpt-5", "painter": "openai/gpt-image-1"},
    **{"instruct": "openai/gpt-3.5-turbo-instruct", "vectors": "openai/text-embedding-3-small"},
    **{"claude": "anthropic/claude-sonnet-4-5", "claude-opus": "anthropic/claude-opus-4-6"},
    **{name: f"openai/{name}" for name in ERRORS},
    **{f"claude-{name}": f"anthropic/claude-{name}" for name in ERRORS},
}
"""The models that LiteLLM has, each with the provider's own name."""
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
UNKNOWN = "field_of_another_framework"
"""A field that no provider has."""
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "tags, timeout, api_key"}},
    "required": ["city"],
    "additionalProperties": False,
}
QUESTION = [{"role": "user", "content": "Which city?"}]


# --- OpenAI: chat -----------------------------------------------------------------------------------------------------

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Weather of a city", "parameters": SCHEMA, "strict": True},
}
CALLED = [
    {"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": json.dumps(arguments)}}
    for n, arguments in enumerate(ARGUMENTS)
]
SECOND_TURN = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "The weather?", "name": "ada"},
    {"role": "assistant", "content": "Well.", "tool_calls": CALLED},
    {"role": "tool", "tool_call_id": "call_0", "content": "sun"},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
]
IMAGES = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
    {"type": "image_url", "image_url": {"url": "https://upload.example.com/a/b.png?size=1&x=%20", "detail": "auto"}},
]
PAGE = {"url": "http://example.org:8080/page", "title": "A page"}
FOUND = {
    "role": "assistant",
    "annotations": [{"type": "url_citation", "url_citation": {**PAGE, "start_index": 0, "end_index": 3}}],
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "roles": {
        "model": "reasoner",
        "messages": [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, *QUESTION],
    },
    "weather": {"tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": True},
    "weather, one call": {"tools": [WEATHER], "parallel_tool_calls": False, "tool_choice": "required"},
    "weather by choice": {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "no tool": {"tools": [WEATHER], "tool_choice": "none"},
    "results": {"tools": [WEATHER], "messages": SECOND_TURN},
    "functions": {"functions": [WEATHER["function"]], "function_call": "auto"},
    "tools of one's own form": {
        "model": "gpt-5",
        "tools": [{"type": "custom", "custom": {"name": "sql", "description": "SQL"}}],
    },
    "JSON schema": {"response_format": JSON_SCHEMA},
    "JSON object": {"response_format": {"type": "json_object"}},
    "images": {"messages": [{"role": "user", "content": IMAGES}]},
    "audio": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}],
            }
        ]
    },
    "file": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"}}
                ],
            }
        ]
    },
    "reasoning": {"model": "reasoner", "reasoning_effort": "high", "max_completion_tokens": 5000},
    "verbosity": {"model": "gpt-5", "verbosity": "low", "reasoning_effort": "minimal"},
    "prompt caching": {"prompt_cache_key": "a-prefix", "prompt_cache_retention": "24h"},
    "prompt cache options": {"prompt_cache_options": {"ttl": "30m", "mode": "explicit"}},
    "sampling": {"temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.1, "presence_penalty": -0.1, "seed": 7},
    "stop": {"stop": ["END", "\n"], "max_tokens": 100},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "logit_bias": {"50256": -100}},
    "two answers": {"n": 2},
    "user": {"user": "end-user-1", "safety_identifier": "hash-1"},
    "metadata": {"metadata": {"order": "17"}, "store": True},
    "tier": {"service_tier": "auto"},
    "prediction": {"prediction": {"type": "content", "content": TEXT}},
    "modalities": {"modalities": ["text"]},
    "extra body": {"extra_body": {"verbosity": "low", UNKNOWN: 1}, "model": "gpt-5"},
    "extra headers": {"extra_headers": {"X-Request-Id": "r1", "X-Title": "app", "traceparent": "00-1-1-00"}},
    "own deadline": {"timeout": 30.0},
    "web search": {"web_search_options": {"search_context_size": "low"}},
    "a page that a search found": {"messages": [*QUESTION, {**FOUND, "content": "See."}, *QUESTION]},
}


# --- OpenAI: responses ------------------------------------------------------------------------------------------------

FUNCTION = {"type": "function", "name": "weather", "description": "Weather", "parameters": SCHEMA, "strict": True}
PARTS = [
    {"type": "input_text", "text": "What is this?"},
    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
    {"type": "input_image", "image_url": "https://upload.example.com/a.png", "detail": "auto"},
    {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PIXEL}"},
]
ITEMS = [
    {"role": "user", "content": "The weather?"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VjcmV0"},
    {"type": "function_call", "id": "fc_0", "call_id": "call_0", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_0", "output": "sun"},
]
SOURCE = {"type": "url", "url": PAGE["url"]}
PAGES = [
    {"type": "web_search_call", "id": "ws_1", "action": {"type": "open_page", "url": PAGE["url"]}},
    {"type": "web_search_call", "id": "ws_2", "action": {"type": "search", "query": "city", "sources": [SOURCE]}},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "See.",
                "annotations": [{**PAGE, "type": "url_citation", "start_index": 0, "end_index": 3}],
            }
        ],
    },
    {"role": "user", "content": "Go on."},
]
RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {"instructions": "Be brief.", "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 500},
    "weather": {"tools": [FUNCTION], "tool_choice": "auto", "parallel_tool_calls": True},
    "weather by choice": {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "weather"}},
    "results": {"tools": [FUNCTION], "input": ITEMS, "store": False, "include": ["reasoning.encrypted_content"]},
    "content": {"input": [{"role": "user", "content": PARTS}]},
    "JSON schema": {"text": {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}},
    "reasoning": {"model": "reasoner", "reasoning": {"effort": "high", "summary": "auto"}},
    "verbosity": {"model": "gpt-5", "text": {"verbosity": "low", "format": {"type": "text"}}},
    "prompt caching": {"prompt_cache_key": "a-prefix", "prompt_cache_retention": "24h"},
    "prompt cache options": {"prompt_cache_options": {"ttl": "30m", "mode": "explicit"}},
    "who": {"user": "end-user-2", "safety_identifier": "hash-2", "metadata": {"order": "17"}},
    "web search": {"tools": [{"type": "web_search", "search_context_size": "low"}], "max_tool_calls": 2},
    "tools of the client's": {
        "model": "gpt-5",
        "tools": [
            *(
                {"type": "shell"},
                {"type": "apply_patch"},
                {"type": "custom", "name": "sql", "format": {"type": "text"}},
            ),
            {"type": "computer_use_preview", "display_width": 800, "display_height": 600, "environment": "browser"},
        ],
    },
    "found tools": {
        "model": "gpt-5",
        "tools": [
            {"type": "tool_search"},
            {"type": "namespace", "name": "crm", "description": "CRM", "tools": [{**FUNCTION, "name": "find"}]},
        ],
    },
    "a page that a search found": {"input": PAGES},
    "compaction": {"context_management": [{"type": "compaction", "compact_threshold": 200000}]},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "truncation": "auto"},
    "extra": {"extra_body": {UNKNOWN: 1}, "extra_headers": {"X-Title": "app"}, "timeout": 30.0},
}


# --- Anthropic --------------------------------------------------------------------------------------------------------

MARK = {"type": "ephemeral"}
TOOL = {"name": "weather", "description": "Weather of a city", "input_schema": SCHEMA}
BLOCKS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    {"type": "image", "source": {"type": "url", "url": "https://upload.example.com/a.png"}, "cache_control": MARK},
    {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "A text."},
        "title": "A title",
        "citations": {"enabled": True},
    },
]
TURNS = [
    {"role": "user", "content": "The weather?"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Well.", "signature": "c2lnbmVk"},
            *({"type": "tool_use", "id": f"toolu_{n}", "name": "weather", "input": i} for n, i in enumerate(ARGUMENTS)),
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_0", "content": "sun"},
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": BLOCKS[:2]},
        ],
    },
]
SEARCHED = [
    *QUESTION,
    {
        "role": "assistant",
        "content": [
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "city"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": [{"type": "web_search_result", **PAGE, "encrypted_content": "c2VjcmV0", "page_age": None}],
            },
            {
                "type": "text",
                "text": "See.",
                "citations": [
                    {"type": "web_search_result_location", **PAGE, "encrypted_index": "c2VjcmV0", "cited_text": "x"}
                ],
            },
        ],
    },
    *QUESTION,
]
THOUGHT = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
MESSAGES: dict[str, dict[str, Any]] = {
    "plain": {"system": "Be brief.", "stop_sequences": ["END"]},
    "system": {"system": [{"type": "text", "text": "A long text.", "cache_control": {**MARK, "ttl": "1h"}}]},
    "caching": {"cache_control": MARK, "tools": [{**TOOL, "name": "other", "cache_control": MARK}]},
    "weather": {"tools": [{**TOOL, "type": "custom"}], "tool_choice": {"type": "auto"}},
    "weather by choice": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "weather"}},
    "weather, one call": {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
    "results": {"tools": [TOOL], "messages": TURNS, **THOUGHT},
    "no tool": {"tools": [TOOL], "tool_choice": {"type": "none"}},
    "content": {"messages": [{"role": "user", "content": BLOCKS}]},
    "thinking": THOUGHT,
    "adaptive thinking": {"model": "claude-opus", "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
    "sampling": {"extra_body": {"temperature": 0.5, "top_k": 5}, "service_tier": "auto"},
    "user": {"metadata": {"user_id": "end-user-3"}},
    "tools of the client's": {
        "tools": [
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9000},
            {"type": "memory_20250818", "name": "memory"},
        ]
    },
    "web search": {
        "tools": [
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 2,
                "allowed_domains": ["example.com"],
                "user_location": {"type": "approximate", "city": "Paris"},
            }
        ]
    },
    "a page that a search found": {"messages": SEARCHED},
    "web fetch": {"tools": [{"type": "web_fetch_20250910", "name": "web_fetch", "max_uses": 1}]},
    "found tools": {
        "tools": [{"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"}, {**TOOL, "name": "b"}]
    },
    "toolsets": {"tools": [{"type": "computer_toolset_20260801", "display_width_px": 9, "display_height_px": 9}]},
    "JSON schema": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    "extra": {"extra_body": {UNKNOWN: 1}, "extra_headers": {"X-Title": "app"}, "timeout": 30.0},
}
BETAS: dict[str, dict[str, Any]] = {
    "computer": {
        "betas": ["computer-use-2025-01-24"],
        "tools": [
            {"type": "computer_20250124", "name": "computer", "display_width_px": 800, "display_height_px": 600},
        ],
    },
    "context": {
        "betas": ["context-management-2025-06-27"],
        "context_management": {
            "edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}]
        },
    },
    "interleaved": {"betas": ["interleaved-thinking-2025-05-14"], "tools": [{**TOOL, "name": "other"}], **THOUGHT},
}


# --- What is refused --------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[int, dict[str, Any], str | None, str]] = {
    "a field of the operator's": (400, {"extra_body": {"api_base": "http://x"}}, "api_base", "'api_base'"),
    "a wrong value": (400, {"extra_body": {"max_tokens": "many"}}, "max_tokens", "not a whole number"),
    "a stored object": (400, {"extra_body": {"tools": [{"type": "mcp"}]}}, "tools", "'mcp'"),
    "no key of anybody's": (401, {"extra_headers": {"Authorization": "Bearer x", "X-Api-Key": "x"}}, None, "API key"),
    "another model": (403, {"model": "reasoner"}, None, "'reasoner'"),
    "the limit": (429, {}, None, "The daily limit of requests is reached. It resets at"),
}
"""Of each request: the status, the arguments, the field to change, and what the message holds."""
