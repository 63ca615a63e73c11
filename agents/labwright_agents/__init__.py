"""Labwright's agent programs: small AutoGen programs that talk to the lab's OpenAI-compatible endpoint."""
