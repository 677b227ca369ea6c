-- The journal's schema, version 2 (PRAGMA user_version). Times are microseconds since 1970, UTC.
-- Small columns stand before blobs, so that scans do not walk overflow pages.
-- SQLite has no checksums. A page has one of ours; each small table that positions depend on keeps
-- its values twice (`twin`), and the view `torn` names those whose copies differ.

CREATE TABLE counter (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    next_offset INTEGER NOT NULL            -- offsets are never used twice, also after pruning
) STRICT;
INSERT INTO counter VALUES (1, 1);

CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,              -- live, backfill:ID, replay:ID
    kind TEXT NOT NULL,                     -- live, backfill, replay, letters (dead letters sent again)
    pages_of INTEGER NOT NULL,              -- the lane whose pages it reads: itself, or live for a replay
    from_offset INTEGER NOT NULL,
    end_offset INTEGER,                     -- NULL while it still grows
    state TEXT NOT NULL,                    -- open, done, cancelling, cancelled
    partial INTEGER NOT NULL,               -- 1: not for all sinks, so its rows do not count as seen
    spec TEXT NOT NULL,                     -- JSON: what it was asked to do
    created_us INTEGER NOT NULL,
    twin TEXT AS (kind || pages_of || ' ' || from_offset || ' ' || ifnull(end_offset, '') || state || partial || spec) STORED
) STRICT;
INSERT INTO lane VALUES (1, 'live', 'live', 1, 1, NULL, 'open', 0, '{}', 0);

CREATE TABLE IF NOT EXISTS page (
    first_offset INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    stream INTEGER NOT NULL REFERENCES stream,
    lane INTEGER NOT NULL REFERENCES lane,
    seen_us INTEGER NOT NULL,
    timeless INTEGER NOT NULL,              -- 1: rows without a usable time, whose times are seen_us
    tmin_us INTEGER NOT NULL,               -- never more than an hour below tmax_us
    tmax_us INTEGER NOT NULL,
    size INTEGER NOT NULL,                  -- bytes of body; 0 once it is emptied
    crc INTEGER NOT NULL,                   -- CRC-32 of all columns but size and body
    times BLOB NOT NULL,                    -- 8 bytes a row, little endian
    hashes BLOB NOT NULL,                   -- 16 bytes a row
    body BLOB                               -- zlib (its checksum is verified) of a JSON array
) STRICT;
CREATE INDEX IF NOT EXISTS page_by_time ON page (stream, timeless, tmax_us, tmin_us);
CREATE INDEX IF NOT EXISTS page_by_lane ON page (lane, first_offset, count, size, seen_us);

CREATE TABLE reader (
    stream INTEGER NOT NULL REFERENCES stream,
    name TEXT NOT NULL,
    covered_until_us INTEGER NOT NULL,
    since_us INTEGER,
    until_us INTEGER,
    position TEXT,                          -- JSON; only the source reads it
    rows INTEGER NOT NULL,
    reached_us INTEGER,                     -- how far the round under way has read
    twin TEXT AS (stream || name || ' ' || covered_until_us || ' ' || ifnull(since_us, '') || ' '
        || ifnull(until_us, '') || ' ' || ifnull(position, '') || rows || ' ' || ifnull(reached_us, '')) STORED,
    PRIMARY KEY (stream, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_set (
    stream INTEGER NOT NULL REFERENCES stream,
    keys TEXT NOT NULL,                     -- JSON array, sorted
    horizon_us INTEGER NOT NULL,
    first_offset INTEGER NOT NULL,
    twin TEXT AS (stream || keys || horizon_us || ' ' || first_offset) STORED,
    PRIMARY KEY (stream, keys)
) STRICT, WITHOUT ROWID;

CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE progress (
    sink INTEGER NOT NULL REFERENCES sink,
    lane INTEGER NOT NULL REFERENCES lane,
    prefix INTEGER NOT NULL,                -- every offset below is done: delivered, dead or passed over
    ranges TEXT NOT NULL,                   -- JSON [[from, to], ...] done above it
    twin TEXT AS (sink || ' ' || lane || ' ' || prefix || ranges) STORED,
    PRIMARY KEY (sink, lane)
) STRICT, WITHOUT ROWID;

CREATE TABLE passed_over (                 -- done for a sink, yet not delivered
    sink INTEGER NOT NULL REFERENCES sink,
    lane INTEGER NOT NULL REFERENCES lane,
    from_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    reason TEXT NOT NULL,                   -- before_start, refused, discarded, replayed, or a gap's reason
    PRIMARY KEY (sink, lane, from_offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink,
    stream INTEGER NOT NULL REFERENCES stream,
    row_offset INTEGER NOT NULL,            -- of its row; while it is sent again, in that lane
    lane INTEGER,                           -- NULL, or the lane in which it is being sent again
    at_us INTEGER NOT NULL,
    seen_us INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    timeless INTEGER NOT NULL,              -- 1: the row has no usable time, time_us is seen_us
    size INTEGER,                           -- bytes of the event when its size was the reason
    reason TEXT NOT NULL,
    identity BLOB NOT NULL,
    row BLOB NOT NULL,
    UNIQUE (sink, row_offset)
) STRICT;

CREATE TABLE gap (
    id INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,                    -- account/stream, or sink:NAME
    reason TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    rows INTEGER,                           -- NULL: nobody can say
    detail TEXT NOT NULL,
    opened_us INTEGER NOT NULL,
    closed_us INTEGER
) STRICT;
CREATE UNIQUE INDEX gap_open ON gap (scope, reason) WHERE closed_us IS NULL;

CREATE TABLE memory (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,                    -- JSON
    twin TEXT AS (scope || ' ' || key || value) STORED,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

CREATE VIEW torn AS
SELECT 'lane' AS name FROM lane WHERE twin IS NOT
    kind || pages_of || ' ' || from_offset || ' ' || ifnull(end_offset, '') || state || partial || spec
UNION ALL
SELECT 'reader' AS name FROM reader WHERE twin IS NOT
    stream || name || ' ' || covered_until_us || ' ' || ifnull(since_us, '') || ' '
    || ifnull(until_us, '') || ' ' || ifnull(position, '') || rows || ' ' || ifnull(reached_us, '')
UNION ALL
SELECT 'key_set' AS name FROM key_set WHERE twin IS NOT
    stream || keys || horizon_us || ' ' || first_offset
UNION ALL
SELECT 'progress' AS name FROM progress WHERE twin IS NOT
    sink || ' ' || lane || ' ' || prefix || ranges
UNION ALL
SELECT 'memory' AS name FROM memory WHERE twin IS NOT
    scope || ' ' || key || value;
