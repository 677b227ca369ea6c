"""The Splunk app, and the command that packs it: ``python -m deploy.splunk FOLDER``."""
