"""Settings: the YAML file, its variables and secret files, checked before anything starts."""
