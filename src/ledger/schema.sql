-- The ledger, version 1. Times are unix seconds, except `t`: minutes, hours or days since 1970.
CREATE TABLE total (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    -- 'duplicate=3 stale-work=1'
    rejects TEXT NOT NULL,
    blocks INTEGER NOT NULL,
    since INTEGER NOT NULL,
    best REAL NOT NULL,
    best_worker TEXT NOT NULL,
    best_at INTEGER NOT NULL
) STRICT;

CREATE TABLE worker (
    -- Never used again: old rows of the series must not become a newcomer's.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejects TEXT NOT NULL,
    blocks INTEGER NOT NULL,
    best REAL NOT NULL,
    best_at INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL
) STRICT;

CREATE TABLE block (
    hash TEXT PRIMARY KEY,
    height INTEGER NOT NULL,
    at INTEGER NOT NULL,
    worker TEXT NOT NULL
) STRICT;

CREATE TABLE submission (
    hash TEXT NOT NULL,
    node TEXT NOT NULL,
    result TEXT NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (hash, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE reason (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- All together. `rows` counts what the other two have of this time; NULL: not counted yet.
CREATE TABLE total_minute (
    t INTEGER PRIMARY KEY,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejected INTEGER NOT NULL,
    seconds REAL NOT NULL,
    rows INTEGER
) STRICT;
CREATE TABLE total_hour (
    t INTEGER PRIMARY KEY,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejected INTEGER NOT NULL,
    seconds REAL NOT NULL,
    rows INTEGER
) STRICT;
CREATE TABLE total_day (
    t INTEGER PRIMARY KEY,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejected INTEGER NOT NULL,
    seconds REAL NOT NULL,
    rows INTEGER
) STRICT;

-- Time first: a minute's rows lie together, so that writing touches few pages.
CREATE TABLE worker_minute (
    t INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (t, worker)
) STRICT, WITHOUT ROWID;
CREATE TABLE worker_hour (
    t INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (t, worker)
) STRICT, WITHOUT ROWID;
CREATE TABLE worker_day (
    t INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    difficulty REAL NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (t, worker)
) STRICT, WITHOUT ROWID;

-- Refusals by reason; worker 0: all together.
CREATE TABLE reject_minute (
    t INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    shares INTEGER NOT NULL,
    PRIMARY KEY (t, worker, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE reject_hour (
    t INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    shares INTEGER NOT NULL,
    PRIMARY KEY (t, worker, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE reject_day (
    t INTEGER NOT NULL,
    worker INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    shares INTEGER NOT NULL,
    PRIMARY KEY (t, worker, reason)
) STRICT, WITHOUT ROWID;
