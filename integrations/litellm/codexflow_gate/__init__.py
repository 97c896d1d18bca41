"""The gate in front of LiteLLM: which requests of a customer reach it, and in which form."""
