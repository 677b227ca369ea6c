package org.elasticsearch.dissect;

/** Loaded by the parser of ES|QL; DISSECT is not used here. */
public final class DissectParser { }
