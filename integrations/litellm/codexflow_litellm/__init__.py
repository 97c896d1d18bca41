"""CodexFlow inside a LiteLLM proxy: who may call, what it may cost, and an event of every attempt that cannot get lost.

``codexflow.py``, beside this folder, is the file that LiteLLM loads. A call passes through these parts:

1. ``gate``: only the routes, headers and fields that belong to a customer reach LiteLLM. ``keys`` asks ``webhook-api``
   about the SHA-256 of the key. LiteLLM gets the hash and the id of the user, and never the key.
2. ``hooks``, before the call: limits, budget and models are checked (``limits``, ``prices``), the call is reserved
   (``calls``), and an *intent* of it goes to the spool. Right before a provider is called, the model of the attempt is
   checked, and the attempt waits until the intent is on the disk.
3. ``hooks``, after the call: what LiteLLM computed becomes an event (``events``, ``estimates``). It is committed to the
   ``spool`` as the *outcome*, which closes the intent. The last byte for the client waits for that commit.
4. ``delivery``: outcomes go to ``webhook-api`` in order and in batches, again until it answers 2xx.

An intent without an outcome means that LiteLLM died. It is reported as ``outcome_unknown`` at the next start.

A module imports only modules above it in this list; ``gate`` imports nothing of the others:

    gate, bounded, settings, webhook, store, limits, prices, estimates, events, spool, delivery, keys, calls, hooks,
    process

The package needs Python's standard library and what LiteLLM ships, and nothing else.
"""
