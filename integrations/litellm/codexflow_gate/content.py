"""The nested parts of a body: what they name must come with the request itself.

Stored objects (files, vector stores, containers, responses) belong to the operator's account at the provider. Addresses
may lead into the operator's network, or to objects that the operator's credentials open. Definitions of schemas can
refer to each other until an expanded one fills the memory.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from codexflow_gate.refusal import refuse

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
"""Members whose texts nobody takes for an address."""
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
    r"(.+[.-])?(aiplatform|generativelanguage|storage\.mtls)\.googleapis\.com|(.+\.)?(openai|anthropic|x|mistral)\.(com|ai)"
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
_MOST_STEPS = 1_000_000
"""In all schemas of a body: one inside another is looked at twice."""


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


def check_content(place: str, root: Any) -> None:
    """Refuses references to stored objects, and addresses that are no public page's.

    A loop and no recursion: the depth of a body is its sender's choice.
    """
    waiting: list[tuple[Any, bool]] = [(root, False)]
    while waiting:
        value, is_found = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, is_found) for item in value if isinstance(item, (dict, list)))
        elif isinstance(value, dict):
            if value.get("type") in _STORED_ITEMS:
                kind = value["type"]
                refuse(place, f"An item of the type '{kind}' in '{place}' is not served. Send the content itself.")
            skipped = _NOT_LOOKED_INTO | ({"input"} if value.get("type") in ("tool_use", "server_tool_use") else set())
            for name, item in value.items():
                if name in skipped or item is None:
                    continue
                if _STORED.fullmatch(name):
                    refuse(place, f"The field '{name}' in '{place}' names a stored object. Send the content itself.")
                if isinstance(item, str):
                    if name not in _TEXTS and not (is_found and name == "url"):
                        _check_text(place, name, item)
                elif isinstance(item, (dict, list)):
                    waiting.append((item, _is_found(value, name) or (is_found and name in _PAGES)))


def check_texts_to_embed(place: str, value: Any) -> None:
    """Refuses a text that as a whole is an address: some providers fetch what it leads to."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and len(text) < 4_096 and not re.search(r"\s", text.strip()):
            _check_text(place, "text", text.strip())


def _is_found(value: Mapping[str, Any], name: str) -> bool:
    """Whether a field lists what a search of the model's has found: nobody fetches those addresses again."""
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


def check_schemas(place: str, value: Any) -> None:
    """Refuses schemas whose references expand to more than any model reads."""
    steps = [_MOST_STEPS]
    for schema in _schemas(value):
        definitions = {
            name: definition
            for member in ("$defs", "definitions")
            if isinstance(schema.get(member), dict)
            for name, definition in schema[member].items()
        }
        if _Expansion(definitions, steps).size(schema) > _LARGEST_SCHEMA:
            refuse(place, f"A schema in '{place}' expands to more than {_LARGEST_SCHEMA} values. Use fewer references.")


def _schemas(value: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict) and ("$defs" in item or "definitions" in item):
            yield item
        waiting.extend(_parts(item))


class _Expansion:
    """How large the definitions of a schema are with every reference replaced."""

    def __init__(self, definitions: Mapping[str, Any], steps: list[int]) -> None:
        self._definitions, self._steps = definitions, steps
        self._sizes: dict[str, int] = {}
        self._entered: set[str] = set()
        self._references = 0
        self._is_circular = False

    def size(self, schema: Any) -> int:
        """The values of a schema, or more than the bound where they grow without one."""
        size = self._size(schema)
        # The ways through a circle multiply: few references keep them few.
        return 2 * _LARGEST_SCHEMA if self._is_circular and self._references > _MOST_REFERENCES_IN_A_CIRCLE else size

    def _size(self, value: Any) -> int:
        # Not deep: the body was checked. A chain of references is as long as a body lets it be.
        self._steps[0] -= 1
        if self._steps[0] < 0 or len(self._entered) > _DEEPEST:
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
            self._sizes[name] = self._size(self._definitions.get(name))
            self._entered.remove(name)
        return self._sizes[name]
