package org.elasticsearch.xpack.esql.arrow;

import java.util.Set;
import org.elasticsearch.xcontent.MediaType;

/** A format that an answer of ES|QL may have; none is asked for here. */
public final class ArrowFormat implements MediaType {
    public static final ArrowFormat INSTANCE = new ArrowFormat();

    @Override
    public String queryParameter() {
        return "arrow";
    }

    @Override
    public Set<HeaderValue> headerValues() {
        return Set.of();
    }
}
