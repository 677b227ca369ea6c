"""One Elasticsearch node with ES|QL, in a process of its own, from Maven artifacts.

Some modules are not published, and so the node has no ingest processors, no ILM, no KQL and no
security. What ES|QL wants to load of two of them, and never calls here, are the ``standins``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

from forwarder.testing.network import free_port
from tests.integration.debian import installed
from tests.integration.opensearch.node import Node, fetch_jars
from tests.integration.unavailable import output_of

_HERE = Path(__file__).parent
_MODULES = {
    "transport-netty4": ("transport-netty4", "netty-"),
    "x-pack-core": ("x-pack-core", "x-pack-template", "unboundid", "http", "commons-"),
    "x-pack-esql": ("x-pack-esql", "antlr4-runtime"),
}
"""Each module with the beginnings of its jars' names; the other jars are the server's own."""


@contextmanager
def run_elasticsearch(folder: Path) -> Iterator[Node]:
    """Fetch the jars into Maven's own cache, lay them as a distribution would, start a node."""
    installed(("java", "mvn"), ("default-jdk-headless", "maven"))
    jars, home = fetch_jars(_HERE / "pom.xml", folder / "jars"), folder / "home"
    for name, beginnings in _MODULES.items():
        _lay_module(jars, home / "modules" / name, beginnings)
    _compile_standins(jars, home / "modules" / "x-pack-esql" / "standins.jar", folder)
    node = Node(jars, home, free_port(), launcher=_HERE / "OneNode.java")
    try:
        node.start()
        yield node
    finally:
        node.kill()


def _lay_module(jars: Path, target: Path, beginnings: tuple[str, ...]) -> None:
    """Move a module's jars out of the class path, and describe it as its own jar does."""
    target.mkdir(parents=True)
    name = target.name
    (main,) = jars.glob(f"{name}-[0-9]*.jar")
    with ZipFile(main) as archive:
        about = archive.read(f"META-INF/es-plugins/{name}/plugin-descriptor.properties").decode()
    # Without Java's modules, and without the plugins that are not there.
    about = re.sub(r"(?m)^modulename=.*$", "", about)
    about = re.sub(r"(?m)^extended\.plugins=.+$", "extended.plugins=x-pack-core", about)
    (target / "plugin-descriptor.properties").write_text(about)
    for jar in jars.glob("*.jar"):
        if jar.name.startswith(beginnings):
            shutil.move(jar, target)


def _compile_standins(jars: Path, target: Path, folder: Path) -> None:
    sources = list((_HERE / "standins").rglob("*.java"))
    command: list[str | Path] = ["javac", "-cp", f"{jars}/*", "-d", folder / "standins", *sources]
    output_of(command, "the stand-ins cannot be compiled")
    with ZipFile(target, "w") as archive:
        for path in (folder / "standins").rglob("*.class"):
            archive.write(path, path.relative_to(folder / "standins"))
