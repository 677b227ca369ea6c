"""Apache Kafka in KRaft mode, one node, from the artifacts that `pom.xml` pins."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from forwarder.testing.network import free_port, wait_for_port
from tests.integration.debian import installed
from tests.integration.unavailable import output_of

_HERE = Path(__file__).parent
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:{plain},TOXIC://127.0.0.1:{toxic},SAFE://127.0.0.1:{safe},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAIN://127.0.0.1:{plain},TOXIC://127.0.0.1:{proxy},SAFE://127.0.0.1:{safe}
listener.security.protocol.map=PLAIN:PLAINTEXT,TOXIC:PLAINTEXT,SAFE:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.safe.scram-sha-512.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
log.dirs={folder}/data
log.retention.ms=-1
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
offsets.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
"""


@dataclass
class KafkaServer:
    """A broker whose data outlive its process; ``proxy_port`` is named to clients of ``toxic``."""

    folder: Path
    classpath: str
    proxy_port: int = 0
    user: str = "alice"
    password: str = "alice-secret"
    plain_port: int = field(default_factory=free_port)
    toxic_port: int = field(default_factory=free_port)
    safe_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.plain_port}"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    def __enter__(self) -> Self:
        self._write_certificates()
        (self.folder / "server.properties").write_text(
            _PROPERTIES.format(
                plain=self.plain_port,
                toxic=self.toxic_port,
                safe=self.safe_port,
                controller=free_port(),
                proxy=self.proxy_port or self.toxic_port,
                folder=self.folder,
            )
        )
        scram = f"SCRAM-SHA-512=[name={self.user},password={self.password}]"
        self._java("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-S", scram, "-c").wait()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start, at the same ports and with the same data, and wait until it answers."""
        self._process = self._java("kafka.Kafka")
        for port in (self.plain_port, self.toxic_port, self.safe_port):
            wait_for_port(port, 180)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "kafka.log").open("ab") as log:
            return subprocess.Popen(
                [
                    "java",
                    "-Xmx384m",
                    "-XX:TieredStopAtLevel=1",
                    "-cp",
                    self.classpath,
                    main,
                    *arguments,
                    str(self.folder / "server.properties"),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _write_certificates(self) -> None:
        """Kafka takes a key only as PKCS 8."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (self.folder / "server.pem").write_bytes(text + chain)


@contextlib.contextmanager
def kafka_server(folder: Path, proxy_port: int = 0) -> Iterator[KafkaServer]:
    """Run a broker with its data in ``folder``."""
    with KafkaServer(folder, _classpath(folder), proxy_port) as server:
        yield server


def _classpath(folder: Path) -> str:
    installed(("java", "mvn"), ("default-jre-headless", "maven"))
    found = folder / "classpath"
    goal = ["dependency:build-classpath", f"-Dmdep.outputFile={found}"]
    command = ["mvn", "-q", "-B", "-f", str(_HERE / "pom.xml"), *goal]
    output_of(command, "Maven cannot fetch Apache Kafka's artifacts")
    return found.read_text()
