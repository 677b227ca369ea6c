package org.elasticsearch.xpack.versionfield;

/** Loaded where values are compared; the type of field is not used here. */
public final class Version { }
