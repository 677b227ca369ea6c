"""What a release consists of, and the command that makes it: ``python -m deploy.release``."""
