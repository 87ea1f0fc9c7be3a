-- Conversations as trees of messages, and their full-text index.
-- Times are milliseconds since 1970. Ids are UUIDv7 in text form, so that the file reads without the program.

CREATE TABLE chat (
    n          INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    title      TEXT    NOT NULL DEFAULT '',
    pinned     INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    deleted_ms INTEGER,
    leaf       TEXT,
    settings   TEXT    NOT NULL DEFAULT '{}',
    FOREIGN KEY (id, leaf) REFERENCES message (chat, id) DEFERRABLE INITIALLY DEFERRED
);

-- No ON DELETE CASCADE along `parent`: SQLite nests one level per ancestor and gives up at a thousand, and chats are longer than that.
CREATE TABLE message (
    n                 INTEGER PRIMARY KEY,
    id                TEXT    NOT NULL UNIQUE,
    chat              TEXT    NOT NULL REFERENCES chat (id) DEFERRABLE INITIALLY DEFERRED,
    parent            TEXT,
    role              TEXT    NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    state             TEXT    NOT NULL CHECK (state IN ('streaming', 'complete', 'stopped', 'interrupted', 'length', 'failed')),
    content           TEXT    NOT NULL,
    model             TEXT,
    spans             TEXT    NOT NULL DEFAULT '[]',
    remote            INTEGER NOT NULL DEFAULT 0 CHECK (remote IN (0, 1)),
    prompt_tokens     INTEGER,
    output_tokens     INTEGER,
    first_token_ms    INTEGER,
    tokens_per_second REAL,
    reasoning_ms      INTEGER,
    error             TEXT,
    created_ms        INTEGER NOT NULL,
    UNIQUE (chat, id),
    -- A parent is a message of the same chat.
    FOREIGN KEY (chat, parent) REFERENCES message (chat, id) DEFERRABLE INITIALLY DEFERRED
);

CREATE INDEX message_children ON message (chat, parent, created_ms, n);
CREATE INDEX message_streaming ON message (chat) WHERE state = 'streaming';
CREATE INDEX message_remote ON message (chat) WHERE remote = 1;

-- What a person has read never changes, and no message moves in the tree.
CREATE TRIGGER message_is_finished BEFORE UPDATE ON message
WHEN OLD.state <> 'streaming' BEGIN
    SELECT RAISE(ABORT, 'a finished message cannot change');
END;
CREATE TRIGGER message_stays BEFORE UPDATE ON message
WHEN OLD.id <> NEW.id OR OLD.chat <> NEW.chat OR OLD.parent IS NOT NEW.parent OR OLD.role <> NEW.role BEGIN
    SELECT RAISE(ABORT, 'a message cannot move');
END;

-- Text is indexed once, when it is finished: an answer that streams would rewrite its index entry twice a second.
CREATE VIRTUAL TABLE message_text USING fts5 (
    content, content = 'message', content_rowid = 'n', tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE TRIGGER message_indexed AFTER INSERT ON message WHEN NEW.state <> 'streaming' BEGIN
    INSERT INTO message_text (rowid, content) VALUES (NEW.n, NEW.content);
END;
CREATE TRIGGER message_indexed_at_end AFTER UPDATE OF state ON message
WHEN OLD.state = 'streaming' AND NEW.state <> 'streaming' BEGIN
    INSERT INTO message_text (rowid, content) VALUES (NEW.n, NEW.content);
END;
CREATE TRIGGER message_unindexed BEFORE DELETE ON message WHEN OLD.state <> 'streaming' BEGIN
    INSERT INTO message_text (message_text, rowid, content) VALUES ('delete', OLD.n, OLD.content);
END;

CREATE VIRTUAL TABLE chat_title USING fts5 (
    title, content = 'chat', content_rowid = 'n', tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE TRIGGER title_indexed AFTER INSERT ON chat BEGIN
    INSERT INTO chat_title (rowid, title) VALUES (NEW.n, NEW.title);
END;
CREATE TRIGGER title_reindexed AFTER UPDATE OF title ON chat BEGIN
    INSERT INTO chat_title (chat_title, rowid, title) VALUES ('delete', OLD.n, OLD.title);
    INSERT INTO chat_title (rowid, title) VALUES (NEW.n, NEW.title);
END;
CREATE TRIGGER title_unindexed BEFORE DELETE ON chat BEGIN
    INSERT INTO chat_title (chat_title, rowid, title) VALUES ('delete', OLD.n, OLD.title);
END;

-- "Delete for good" also means: not left in the index's free space.
INSERT INTO message_text (message_text, rank) VALUES ('secure-delete', 1);
INSERT INTO chat_title (chat_title, rank) VALUES ('secure-delete', 1);
