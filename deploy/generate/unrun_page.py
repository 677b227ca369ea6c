"""docs/not-run.md: the commands in the documentation that no test runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.generate.markdown import blocks

_HEAD = """\
<!-- Generated from the pages: make generate -->
# Commands that no test runs

`make docs` runs `console` blocks. These, marked `sh`, need a cluster, a container engine, root, the
Internet or a SIEM. Nothing ran on EKS, GKE, AKS or OpenShift: [clouds.md](clouds.md) is only
rendered.
"""


def unrun_page(pages: Mapping[str, str]) -> str:
    """Return the page; ``pages`` are texts by path relative to the root."""
    return "\n".join([_HEAD, *filter(None, (_section(*one) for one in sorted(pages.items())))])


def _section(path: str, text: str) -> str:
    commands = [block.text for block in blocks(text) if block.language == "sh"]
    if not commands:
        return ""
    name = path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
    return f"## [{path}]({name})\n\n" + "\n".join(f"```text\n{one}```\n" for one in commands)
