"""Every metric and log line, one method for each thing that happens."""
