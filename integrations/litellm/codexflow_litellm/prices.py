"""What a call costs at the most, by the prices of LiteLLM."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import litellm

from codexflow_litellm.bounded import Bounded
from codexflow_litellm.gate.sizes import Size

log = logging.getLogger("codexflow")

_DEAREST_IMAGE = 0.2
"""USD of an image that LiteLLM prices by its size or its tokens."""


@dataclass(frozen=True)
class Price:
    """USD of a token or an image."""

    prompt_token: float
    answer_token: float
    image: float


class Prices:
    """The prices of the models that were used lately. Each is read again once a minute."""

    KEPT_SECONDS = 60.0
    CAPACITY = 1_000

    def __init__(self, ask: Callable[[str], Price | None], now: Callable[[], float]) -> None:
        self._ask, self._now = ask, now
        self._known: Bounded[str, tuple[float, Price | None]] = Bounded(self.CAPACITY)

    def of(self, model: str) -> Price | None:
        """The price of a model, or ``None`` where LiteLLM has none."""
        known = self._known.get(model)
        if known is None or self._now() - known[0] > self.KEPT_SECONDS:
            try:
                known = (self._now(), self._ask(model))
            except Exception as error:  # LiteLLM raises many kinds for a model that it does not know.
                log.warning("the price of a model cannot be read: %s", type(error).__name__)
                known = (self._now(), None)
            self._known[model] = known
        return known[1]

    def cost(self, model: str, size: Size) -> Decimal:
        """USD of a call at the most; zero for a model without a price."""
        price = self.of(model) or Price(0, 0, 0)
        tokens = price.prompt_token * size.prompt_tokens + price.answer_token * size.answer_tokens
        return Decimal(str(tokens + price.image * size.images))


def price_of_group(model: str) -> Price | None:
    """The price of a model's dearest deployment in LiteLLM, or ``None`` where no deployment has one."""
    from litellm.proxy import proxy_server

    router = proxy_server.llm_router
    group = None if router is None else router.get_model_group_info(model_group=model)
    if router is None or group is None:
        return None
    stated = [group.input_cost_per_token, group.output_cost_per_token]
    if all(cost is None for cost in stated):
        # LiteLLM keeps prices by the second or by the size of an image in other places.
        names = [str(one["litellm_params"]["model"]) for one in router.get_model_list(model_name=model) or ()]
        if not all(map(_has_other_price, names)):
            return None
    return Price(float(stated[0] or 0), float(stated[1] or 0), _DEAREST_IMAGE)


def _has_other_price(name: str) -> bool:
    """Whether LiteLLM's map has a price of another kind than for tokens."""
    own = name.split("/", 1)[-1]
    return any(
        entry in (name, own) or entry.endswith("/" + own)
        for entry, info in litellm.model_cost.items()
        if any("_cost_per_" in key and cost for key, cost in info.items())
    )
