"""The nested parts of a body: everything that they name must come with the request itself.

Stored objects (files, vector stores, containers, responses) belong to the operator's account at the provider. Addresses
may lead into the operator's network, or to objects that the operator's credentials open. Definitions of schemas can
refer to each other until an expanded one fills the memory.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from codexflow_litellm.gate.refusal import refuse

_STORED = re.compile(
    r"(.*_)?(file|vector_store|container|connector|prompt|skill|response|conversation|assistant|thread|batch)_ids?"
)
_STORED_ITEMS = ("item_reference", "container_upload", "image_generation_call", "mcp_approval_response")
_NOT_LOOKED_INTO = frozenset(["arguments", "input_schema", "parameters", "schema", "json_schema"])
_TEXTS = frozenset(
    """
    arguments cited_text code content description encrypted_content input output query reasoning_content refusal
    signature stderr stdout summary text thinking title
    """.split()  # noqa: SIM905
)
"""Members whose texts no reader takes for an address."""
_DATA = ("b64_json", "bytes", "data", "file_data")
BULK = (*_DATA, "file_url", "image_url", "url", "video_url")
"""Members that hold images and files."""
_FOUND = ("action", "annotations", "citations")
_PAGES = ("sources", "url_citation")
_SEARCHES = ("web_search_tool_result", "web_fetch_tool_result")

_HOST = re.compile(r"([a-z0-9_-]+\.)+[a-z][a-z0-9-]*")
"""A name with a dot, and a letter after the last one: no host of a network without a domain, and no number."""
_PRIVATE_HOSTS = (".local", ".internal", ".localhost", ".home.arpa", ".svc", ".lan", ".intranet", ".corp")
_PROVIDERS_HOSTS = re.compile(
    r"(.+[.-])?(aiplatform|generativelanguage|storage\.mtls)\.googleapis\.com"
    r"|(.+\.)?(openai|anthropic|x|mistral)\.(com|ai)"
    r"|.+\.(openai|cognitiveservices|services\.ai|api\.cognitive)\.(azure|microsoft)\.com"
    r"|bedrock.*\.amazonaws\.com|(.+\.)?(cohere|groq|together|deepseek|openrouter)\.(com|ai|xyz)"
)
"""Hosts at which the operator's credentials open stored objects."""

_FUNCTION_TOOLS = ("function", "custom")
_PROVIDER_TOOLS = re.compile(
    r"(web_search|web_search_preview|web_fetch|computer|computer_use_preview|computer_toolset|browser_toolset|bash"
    r"|text_editor|str_replace_based_edit_tool|memory|local_shell|shell|apply_patch|tool_search"
    r"|tool_search_tool_(regex|bm25))(_[0-9_]+)?"
)
"""Tools that need no stored object of a provider's account and no server of the operator's."""

_DEEPEST = 100
_LARGEST_SCHEMA = 20_000
"""Values of a schema with every reference replaced by what it refers to."""
_MOST_REFERENCES_IN_A_CIRCLE = 24


def check_depth(value: Any) -> None:
    """Refuses a body that is nested deeper than any provider's API."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return
    refuse(None, f"The body is nested deeper than {_DEEPEST} levels.")


def _parts(value: Any) -> list[Any]:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [member for member in members if isinstance(member, (dict, list))]


def check_content(place: str, root: Any) -> int:
    """The number of addresses in a part of a body.

    Refuses references to stored objects, and addresses that are not of a public page. It loops and does not recurse,
    because the sender chooses the depth of a body.
    """
    addresses = 0
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        value, is_found = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, is_found) for item in value if isinstance(item, (dict, list)))
        elif isinstance(value, dict):
            if value.get("type") in _STORED_ITEMS:
                kind = value["type"]
                refuse(place, f"An item of the type '{kind}' in '{place}' is not served. Send the content itself.")
            skipped = _NOT_LOOKED_INTO | ({"input"} if is_use_of_tool(value) else set())
            for name, item in value.items():
                if name in skipped or item is None:
                    continue
                if _STORED.fullmatch(name):
                    refuse(place, f"The field '{name}' in '{place}' names a stored object. Send the content itself.")
                if isinstance(item, str):
                    if name not in _TEXTS and not (is_found and name == "url"):
                        _check_text(place, name, item)
                        addresses += item.startswith("https://")
                elif isinstance(item, (dict, list)):
                    waiting.append((item, _is_found(value, name) or (is_found and name in _PAGES)))
    return addresses


def is_use_of_tool(part: Mapping[str, Any]) -> bool:
    """Whether a content part has the arguments of a tool as its ``input``, which may be any value."""
    return str(part.get("type")).endswith("tool_use")


def check_texts_to_embed(place: str, value: Any) -> None:
    """Refuses a text that is an address as a whole, because some providers fetch it."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and len(text) < 4_096 and not re.search(r"\s", text.strip()):
            _check_text(place, "text", text.strip())


def _is_found(value: Mapping[str, Any], name: str) -> bool:
    """Whether a field lists what a search of the model has found. These addresses are not fetched again."""
    return name in _FOUND or (name == "content" and value.get("type") in _SEARCHES)


def _check_text(place: str, name: str, text: str) -> None:
    head = text[:4_096].strip()
    if head[:5].lower() == "data:":
        # LiteLLM looks for some schemes anywhere in the text.
        if "://" in text:
            refuse(place, f"The field '{name}' in '{place}' is no data: address. Send base64 after its comma.")
    elif name in _DATA:
        if "://" in text or ":" in head[:64] or head.startswith(("files/", "file-")):
            refuse(place, f"The field '{name}' in '{place}' is not base64.")
    elif "://" in text or head.startswith(("files/", "//")) or (name.endswith("url") and head):
        _check_address(place, text)


def _check_address(place: str, address: str) -> None:
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        host = ""
    if not address.startswith("https://") or not _HOST.fullmatch(host):
        refuse(place, f"An address in '{place}' is neither data: nor an https address of a public host.")
    if host.endswith(_PRIVATE_HOSTS) or _PROVIDERS_HOSTS.fullmatch(host):
        refuse(place, f"An address in '{place}' is of a host that is not fetched from. Send the content itself.")


def check_tool(tool: Any) -> None:
    """Refuses a tool that needs a stored object or runs on a server that the operator pays for."""
    if not isinstance(tool, dict):
        refuse("tools", "A tool in 'tools' is not an object.")
    kind = tool.get("type")
    if kind == "namespace":
        inner_tools = tool.get("tools")
        for inner in inner_tools if isinstance(inner_tools, list) else ():
            if isinstance(inner, dict) and inner.get("type") == "namespace":
                refuse("tools", "A namespace of tools inside another is not served.")
            check_tool(inner)
        return
    # Anthropic's own tools of a client have no type.
    is_known = kind in _FUNCTION_TOOLS if kind is not None else isinstance(tool.get("name"), str)
    if not is_known and not (isinstance(kind, str) and _PROVIDER_TOOLS.fullmatch(kind)):
        refuse("tools", f"A tool of the type '{str(kind)[:60]}' is not served.")
    for name in tool:
        if name not in ("function", "parameters", "input_schema", "name", "description") and (
            _STORED.fullmatch(name) or name.startswith(("server", "litellm", "connector"))
        ):
            refuse("tools", f"The field '{name[:60]}' of a tool is not served.")


def check_schemas(places: Mapping[str, Any]) -> None:
    """Refuses a body whose schemas with references expand to more than any model reads."""
    size = 0
    for place, value in places.items():
        for schema in _single(value):
            size += _Expansion(schema).size
            if size > _LARGEST_SCHEMA:
                message = f"The schemas up to this one in '{place}' expand to more than {_LARGEST_SCHEMA} values."
                refuse(place, f"{message} Use fewer references.")


def _single(value: Any) -> list[Any]:
    """The parts whose definitions stand alone: each tool, also those of a namespace."""
    if not isinstance(value, list):
        return [value]
    spaces = [tool["tools"] for tool in value if isinstance(tool, dict) and isinstance(tool.get("tools"), list)]
    return [tool for tool in value if not (isinstance(tool, dict) and isinstance(tool.get("tools"), list))] + [
        tool for space in spaces for tool in space
    ]


def _definitions(schema: Any) -> dict[str, list[Any]]:
    """All definitions of each name at any place, because readers differ in which of them a reference means."""
    found: dict[str, list[Any]] = {}
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        for member in ("$defs", "definitions", "schemas"):
            definitions = item.get(member) if isinstance(item, dict) else None
            for name, definition in definitions.items() if isinstance(definitions, dict) else ():
                found.setdefault(name, []).append(definition)
        waiting.extend(_parts(item))
    return found


class _Expansion:
    """How large a schema is with every reference replaced."""

    def __init__(self, schema: Any) -> None:
        self._definitions = _definitions(schema)
        self._sizes: dict[str, int] = {}
        self._entered: set[str] = set()
        self._references = 0
        self._is_circular = False
        size = self._size(schema) if self._definitions else 0
        # The paths through a circle multiply with its references.
        is_tangled = self._is_circular and self._references > _MOST_REFERENCES_IN_A_CIRCLE
        self.size = 2 * _LARGEST_SCHEMA if is_tangled else size
        """The values of the schema, or more than the bound where they grow without one."""

    def _size(self, value: Any) -> int:
        # The body is not deep, as it was checked. A chain of references may still be long.
        if len(self._entered) > _DEEPEST:
            return 2 * _LARGEST_SCHEMA
        if isinstance(value, list):
            return 1 + sum(map(self._size, value))
        if not isinstance(value, dict):
            return 1
        size = 1
        for name, member in value.items():
            if name == "$ref" and isinstance(member, str):
                size += self._referred(member.rsplit("/", 1)[-1])
            elif name not in ("$defs", "definitions"):
                size += self._size(member)
        return size

    def _referred(self, name: str) -> int:
        self._references += 1
        if name in self._entered:
            self._is_circular = True
            return 1
        if name not in self._sizes:
            self._entered.add(name)
            self._sizes[name] = sum(map(self._size, self._definitions.get(name, ())))
            self._entered.remove(name)
        return self._sizes[name]
