"""The provisioning log: which identity providers have one, how it is read, what its rows mean."""
