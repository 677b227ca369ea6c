"""Where events go, one module a destination; they never import each other."""
