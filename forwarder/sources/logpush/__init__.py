"""A push source: receives what Cloudflare's Logpush sends over HTTPS."""
