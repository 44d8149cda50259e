"""Learned upsamplers that other people published, and their weights."""
