"""Multimodal LLMs that name an image's context: an own engine, a server, or recorded answers."""
