"""The gate in front of LiteLLM: which requests of a customer reach it, and in which form.

A module imports only modules above it in this list: refusal, content, sizes, fields, routes, exchange, application.
"""
