"""A process that keeps models warm and segments on request, the messages it speaks, and its client."""
