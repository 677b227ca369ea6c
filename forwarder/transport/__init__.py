"""What plugins share below them: settings types, secrets, TLS, HTTP, syslog lines."""
