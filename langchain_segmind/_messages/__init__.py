"""LangChain's messages to the wire and back."""
