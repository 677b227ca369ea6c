"""OCSF: the Open Cybersecurity Schema Framework, https://schema.ocsf.io, as JSON."""

from forwarder.formats.ocsf.format import OcsfConfig, OcsfFormat

__all__ = ["OcsfConfig", "OcsfFormat"]
