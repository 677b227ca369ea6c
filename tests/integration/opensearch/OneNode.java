import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.env.Environment;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.ingest.common.IngestCommonPlugin;
import org.opensearch.painless.PainlessPlugin;
import org.opensearch.transport.Netty4Plugin;

/** Runs one OpenSearch node on 127.0.0.1 until its standard input ends. */
public final class OneNode extends Node {

    private OneNode(Environment environment) {
        super(
            environment,
            List.of(Netty4Plugin.class, IngestCommonPlugin.class, PainlessPlugin.class),
            false);
    }

    /** Takes the folder for its state and the HTTP port. */
    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        Settings settings = Settings.builder()
            .put("path.home", home.toString())
            .put("node.name", "one")
            .put("cluster.name", "forwarder-tests")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("transport.port", "0")
            .put("http.port", arguments[1])
            .put("http.type", "netty4")
            .put("transport.type", "netty4")
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
            settings, Map.of(), home.resolve("config"), () -> "one");
        try (Node node = new OneNode(environment)) {
            node.start();
            while (System.in.read() >= 0) {
                continue;
            }
        }
    }
}
