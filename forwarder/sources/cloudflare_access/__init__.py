"""Cloudflare Access: its two log endpoints, their errors, their budget and their rows."""
