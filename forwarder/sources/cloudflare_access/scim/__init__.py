"""The provisioning log: which identity providers write one, its pages, and what its rows mean."""
