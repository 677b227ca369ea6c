"""Settings become objects, objects become supervised tasks; commands and the daemon start here."""
