-- Schema version 1. A shipped version is never edited; a change is the next file.

-- Records: JSON under a key that the owner of the table builds. Without row ids, so that a record is one entry of one tree.
CREATE TABLE items (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE item_keys (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE fields (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE history (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE origins (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE devices (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE guests (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE grants (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE grant_uses (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE handles (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE approvals (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE slots (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE settings (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE outcomes (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE intents (key BLOB PRIMARY KEY NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- The log. A leaf brings along the Merkle nodes it completes, its own hash first: one row and one page for each append.
-- A pruned leaf is NULL; its nodes stay.
CREATE TABLE leaves (position INTEGER PRIMARY KEY, nodes BLOB NOT NULL, leaf BLOB) STRICT;

-- Single values. 1: the LtHash state of all records. With a row id, so that its 2,048 bytes fit into one page.
CREATE TABLE meta (id INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT;
