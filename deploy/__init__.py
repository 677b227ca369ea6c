"""How the forwarder is deployed: image, compose, Kubernetes, systemd, Prometheus, Grafana."""
