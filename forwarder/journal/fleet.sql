-- What the replicas of one forwarder share, in the search path; each shard's tables have a schema
-- of their own (postgres.sql).

CREATE TABLE fleet (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL,                -- of both files
    moved TEXT NOT NULL DEFAULT ''          -- when the journal was copied elsewhere; nobody uses it since
);
-- Apart from the lease: a long write transaction, which holds its row, must not delay a renewal.
CREATE TABLE fence (
    shard BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,                  -- who owns the shard: grows with every owner
    version BIGINT NOT NULL                 -- what the owner has seen last: grows with every commit
) WITH (fillfactor = 10);
CREATE TABLE lease (
    shard BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,        -- of the latest epoch; empty: it was given back
    expires_at TIMESTAMPTZ NOT NULL,        -- by the clock of the database
    undelivered_bytes BIGINT NOT NULL DEFAULT 0,
    stored_bytes BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
CREATE TABLE replica (
    name TEXT COLLATE "C" PRIMARY KEY,      -- as the owner in lease
    seen_at TIMESTAMPTZ NOT NULL            -- when it last said that it lives
) WITH (fillfactor = 10);
-- Data, and no function of the account: a token that changes moves nothing.
CREATE TABLE account (
    account_id TEXT COLLATE "C" PRIMARY KEY,
    shard BIGINT NOT NULL
);
CREATE TABLE request (
    id TEXT COLLATE "C" PRIMARY KEY,
    shard BIGINT NOT NULL,
    command TEXT NOT NULL,
    given TEXT NOT NULL,                    -- JSON
    until TIMESTAMPTZ NOT NULL,             -- nobody takes it later
    epoch BIGINT,                           -- of the owner that has taken it
    answer TEXT                             -- JSON: [status as in HTTP, content]
);
