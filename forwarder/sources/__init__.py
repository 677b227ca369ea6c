"""Where events come from, one module or package a service."""
